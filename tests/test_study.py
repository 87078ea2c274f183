"""A study: rows, search on the validation split, claims, results and report; and what it says of a bad file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparring import report
from sparring.core.errors import InputError
from sparring.core.records import load
from sparring.core.results import Confidence, Estimate
from sparring.core.study_results import Figure, Finding, Row, StudyResult
from sparring.studies import read_plan, run_study, studies
from sparring.studies.claims import decide
from sparring.studies.expansion import expand
from sparring.studies.findings import flattery, reproduction
from sparring.studies.jobs import _fitting, _once
from sparring.studies.plan import ClaimPlan
from sparring.studies.workshop import Workshop

TOML = """
name = "small"
title = "A small study"
paper = "none"
summary = "Does it run?"

[recipe]
data = "digits()"
model = "mlp(hidden=(16,))"
optimiser = "adam(lr={lr})"
epochs = 2

[search]
row = "standard"
figures = ["clean accuracy"]
grid = { lr = [1e-5, 0.01], eps = [0.05] }

[evaluation]
threat = "linf({eps})"
attacks = ["fgsm()"]
curve = [0.05, 0.1]
protocol = "fgsm()"
sweep = [0.05, 0.1]
examples = 60

[tolerance]
"clean accuracy" = 0.5

[[rows]]
name = "standard"
defence = "standard()"
published = { "clean accuracy" = 0.95 }

[[rows]]
name = "noise at {noise}"
each = { noise = [0.05, 0.1] }
defence = "noise_training(threat=linf({noise}))"

[[claims]]
claim = "It learns"
row = "standard"
figure = "clean accuracy"
column = "honest"
at_least = 0.2

[quick.recipe]
epochs = 1
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.toml").write_text(TOML)
    return run_study(str(folder / "small.toml"), runs=folder / "runs", out=folder / "out", quiet=True)


def test_rows_are_trained_judged_and_written(result: tuple[StudyResult, Path]) -> None:
    study, page = result
    assert [row.name for row in study.rows] == ["standard", "noise at 0.05", "noise at 0.1"]
    assert page.stat().st_size > 100_000
    again = load(StudyResult, page.parent / "results.json")
    assert again == study
    for row in study.rows:
        assert row.evaluation.robust.n == 60
        assert row.evaluation.robust.value <= row.evaluation.clean.value
        assert len(row.sweep[0].points) == 2
        assert len(row.training) == 2


def test_the_search_looks_at_the_validation_split_only_and_takes_the_nearest(result: tuple[StudyResult, Path]) -> None:
    search = result[0].search
    assert search is not None
    assert search.split == "validation"
    assert search.chosen == {"lr": 0.01, "eps": 0.05}
    assert search.chosen == min(search.trials, key=lambda trial: trial.score).settings
    assert len(search.trials) == 2


def test_claims_are_decided(result: tuple[StudyResult, Path]) -> None:
    findings = {finding.claim: finding.verdict for finding in result[0].findings}
    assert findings["It learns"] == "holds"


def test_a_second_run_trains_and_attacks_nothing_anew(
    result: tuple[StudyResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sparring.recipe.fitting
    import sparring.studies.judge

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sparring.recipe.fitting, "train", forbidden)
    monkeypatch.setattr(sparring.studies.judge, "evaluate", forbidden)
    folder = result[1].parent.parent
    again, _ = run_study(str(folder / "small.toml"), runs=folder / "runs", out=folder / "again", quiet=True)
    assert again.rows == result[0].rows


@pytest.mark.parametrize("name", studies())
@pytest.mark.parametrize("budget", ["full", "quick"])
def test_every_study_that_comes_along_can_be_read(name: str, budget: str) -> None:
    plan = read_plan(name, budget=budget)
    chosen = next(plan.search.points()) if plan.search else {}
    rows = expand(plan, chosen)
    assert len({row.name for row, _ in rows}) == len(rows) >= 2


def test_a_quick_budget_may_change_single_rows(tmp_path: Path) -> None:
    quick = "\n[quick.rows.standard]\nrecipe = { epochs = 1 }\n"
    (tmp_path / "s.toml").write_text(TOML + quick)
    of = {budget: read_plan(str(tmp_path / "s.toml"), budget=budget).rows for budget in ("full", "quick")}
    assert [row.name for row in of["full"]] == [row.name for row in of["quick"]]
    assert "epochs" not in of["full"][0].recipe
    assert of["quick"][0].recipe["epochs"] == 1
    (tmp_path / "s.toml").write_text(TOML + quick.replace("standard", "standrad"))
    with pytest.raises(InputError, match="quick: unknown row 'standrad'; did you mean 'standard'"):
        read_plan(str(tmp_path / "s.toml"), budget="quick")


def test_a_row_may_be_judged_otherwise_than_the_rest(tmp_path: Path) -> None:
    own = 'defence = "standard()"\nevaluation = { attacked = 20, curve = [], audited = 0 }\n'
    (tmp_path / "s.toml").write_text(TOML.replace('defence = "standard()"\n', own))
    study, _ = run_study(str(tmp_path / "s.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    judged = {row.name: row.evaluation for row in study.rows}
    assert {name: (of.robust.n, len(of.curves)) for name, of in judged.items()} == {
        "standard": (20, 0),
        "noise at 0.05": (60, 1),
        "noise at 0.1": (60, 1),
    }
    assert {name: bool(of.audit) for name, of in judged.items()} == {
        "standard": False,
        "noise at 0.05": True,
        "noise at 0.1": True,
    }
    assert all(figure.compatibility.n == 60 for row in study.rows for figure in row.figures[:1])
    for wrong, said in (("atacked", "did you mean 'attacked'"), ("examples", "unknown field 'examples'")):
        (tmp_path / "s.toml").write_text(TOML.replace('defence = "standard()"\n', own.replace("attacked", wrong)))
        with pytest.raises(InputError, match=f"row 'standard': evaluation.*{said}"):
            read_plan(str(tmp_path / "s.toml"))


def test_a_study_needs_no_paper_and_no_summary_and_says_what_may_be_set(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TOML.replace('paper = "none"\nsummary = "Does it run?"\n', ""))
    plan = read_plan(str(tmp_path / "s.toml"))
    assert (plan.paper, plan.summary) == ("", "")
    with pytest.raises(InputError, match="unknown field 'atacked' to set; did you mean 'attacked'"):
        read_plan(str(tmp_path / "s.toml"), changes={"atacked": 20})


def test_a_row_that_repeats_a_recipe_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(TOML.replace("each = { noise = [0.05, 0.1] }", "each = { noise = [0.1, 0.1] }"))
    assert len(expand(read_plan(str(tmp_path / "s.toml")), {"lr": 0.01, "eps": 0.1})) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('row = "standard"\nfigures', 'row = "standrad"\nfigures', "did you mean 'standard'"),
        ('figures = ["clean accuracy"]', 'figures = ["clean acuracy"]', "did you mean 'clean accuracy'"),
        ("examples = 60", 'examples = "many"', "examples"),
        ("examples = 60", "exampels = 60", "did you mean 'examples'"),
        ("[recipe]", "[recipes]", "recipe"),
        ("epochs = 2", 'epochs = "two"', "epochs"),
        ("linf({eps})", "linf({epsilon})", "epsilon"),
        ('defence = "standard()"\n', "", "defence"),
        ('claim = "It learns"\n', "", "claim"),
        ("at_least = 0.2", "atleast = 0.2", "at_least"),
        ("[recipe]", "[recipe", "TOML"),
    ],
)
def test_a_bad_study_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TOML
    path = tmp_path / "bad.toml"
    path.write_text(TOML.replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        run_study(str(path), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert "\n" not in str(caught.value)


STANDARD = 'defence = "standard()"\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("at_least = 0.2\n", "", "claim 'It learns': needs one thing to be decided by"),
        ("at_least = 0.2", 'at_least = 0.2\nabove = "standard"', "claim 'It learns': needs one thing"),
        ("at_least = 0.2", 'above = "standard"\nbelow = "standard"', "claim 'It learns': needs one thing"),
        ("at_least = 0.2", 'above = "standard"', "claim 'It learns': sets a row against itself"),
        (
            "at_least = 0.2",
            'above = "standard"\nthan = "clean accuracy"',
            "claim 'It learns': sets a row against itself",
        ),
        ("at_least = 0.2", 'at_least = 0.2\nthan = "clean ece"', "claim 'It learns': than names the figure"),
        ("at_least = 0.2", "at_least = 20", "claim 'It learns': at_least must be a share, 0 to 1, not 20"),
        ("at_least = 0.2", "at_most = nan", "claim 'It learns': at_most must be a share"),
        ("at_least = 0.2", "at_least = 0.9\nat_most = 0.2", "at_least must be less than at_most: 0.9 and 0.2"),
        ('column = "honest"', 'column = "mended"', "claim 'It learns': column: 'clean accuracy' is not measured so"),
        (STANDARD, STANDARD + 'role = "adversary"\n', "the row 'standard' is trained for others and is not judged"),
    ],
)
def test_a_claim_that_nothing_could_decide_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """Each was once read, trained for, and decided somehow."""
    assert old in TOML
    (tmp_path / "bad.toml").write_text(TOML.replace(old, new))
    with pytest.raises(InputError, match=said):
        read_plan(str(tmp_path / "bad.toml"))


def test_a_claim_may_be_a_range_or_set_two_figures_of_a_row_against_each_other(tmp_path: Path) -> None:
    for new in ("at_least = 0.2\nat_most = 0.9", 'above = "standard"\nthan = "adversarial accuracy"'):
        (tmp_path / "s.toml").write_text(TOML.replace("at_least = 0.2", new))
        assert len(read_plan(str(tmp_path / "s.toml")).claims) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "A small study"\n', "", "title is missing"),
        ('name = "small"\n', "", 'name is missing; write at the top name = "..."'),
        (
            'name = "small"\ntitle = "A small study"\n',
            "",
            'name and title are missing; write at the top name = "..."',
        ),
        ('[[rows]]\nname = "noise at {noise}"', '[[rows]]\nname = "standard"', "two rows are called 'standard'"),
        ('["fgsm()"]', '["fgsmm()"]', "evaluation: attacks: unknown attack 'fgsmm'; did you mean 'fgsm'"),
        ('["fgsm()"]', "[]", "evaluation: attacks: name one or more"),
        ('protocol = "fgsm()"', 'protocol = "fgsmm()"', "evaluation: protocol: unknown attack"),
        ("examples = 60", 'distances = ["deepfol()"]', "evaluation: distances: unknown attack"),
        ("examples = 60", 'distances = ["fgsm()"]', "distances: .* not for the nearest"),
        ("examples = 60", "examples = 0", "evaluation: examples must be at least 1, not 0"),
        ("examples = 60", "attacked = -5", "evaluation: attacked must be at least 1, not -5"),
        ("examples = 60", "audited = -1", "evaluation: audited must be at least 0, not -1"),
        ("examples = 60", 'split = "tests"', "evaluation: unknown split 'tests'; did you mean 'test'"),
        (
            "examples = 60",
            'shown = { a = { attack = "pgdd()", on = ["standard"] } }',
            "shown: a: attack: unknown attack",
        ),
        ("curve = [0.05, 0.1]", "curve = [-0.1]", "evaluation: curve: an eps is a number above 0"),
        ("curve = [0.05, 0.1]", "curve = [nan]", "evaluation: curve: an eps is a number above 0"),
        ("sweep = [0.05, 0.1]", "sweep = [8]", r"evaluation: sweep: .*did you mean linf\(8/255\)"),
        ("eps = [0.05]", "eps = [0.05, 20]", "evaluation: threat: linf: eps is a fraction of the pixel range"),
        ("eps = [0.05]", "eps = []", "grid: eps has no value to try"),
        ("eps = [0.05]", "eps = 0.05", "grid: each must be a list"),
        ('figures = ["clean accuracy"]', 'figures = ["adversarial ece"]', "has no published 'adversarial ece'"),
        (
            'row = "standard"\nfigures',
            'split = "test"\nrow = "standard"\nfigures',
            "nothing is chosen on the test split",
        ),
        (STANDARD, 'defence = "standrd()"\n', "row 'standard': unknown defence 'standrd'; did you mean 'standard'"),
        (STANDARD, STANDARD + "recipe = 3\n", "row 'standard': recipe must be a table"),
        (STANDARD, STANDARD + 'recipe = { model = "mpl()" }\n', "row 'standard': unknown model 'mpl'"),
        (STANDARD, STANDARD + 'role = "judge"\n', "row 'standard': role: 'judge' is not one of"),
        (STANDARD, STANDARD + 'evaluation = { attacks = ["x()"] }\n', "row 'standard': evaluation: attacks: unknown"),
        ("linf({noise})", "linf({nois})", "row 'noise at {noise}': .*nois"),
        ("noise = [0.05, 0.1]", "noise = [0.05, -1]", "row 'noise at {noise}': linf: eps must be at least 0"),
        ("noise = [0.05, 0.1]", "noise = 3", "each: noise must be a list"),
        ('"clean accuracy" = 0.95', '"clean accuracy" = 95', "clean accuracy: must be a share, .*did you mean 0.95"),
        (
            '"clean accuracy" = 0.5\n',
            '"clean accuracy" = -0.5\n',
            "tolerance: clean accuracy must be a number from 0 on",
        ),
        (STANDARD, STANDARD + 'published_sweep = { "x" = 0.9 }\n', "published_sweep: 'x' is no eps"),
        (STANDARD, STANDARD + 'published_sweep = { "0.1" = 90 }\n', "published_sweep: 0.1: must be a share"),
        (
            STANDARD,
            STANDARD + 'published_on = { mnist = { "clean ece" = 9 } }\n',
            "published_on: mnist: clean ece: must",
        ),
    ],
)
def test_every_name_and_number_is_checked_before_anything_is_trained(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    """Each once came out after hours of training, as a traceback, or not at all."""
    assert old in TOML
    (tmp_path / "bad.toml").write_text(TOML.replace(old, new))
    with pytest.raises(InputError, match=said) as caught:
        read_plan(str(tmp_path / "bad.toml"))
    assert "bad.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(TOML.split("[search]")[0] + '[evaluation]\nthreat="l2(1)"\nattacks=["fgsm()"]\n')
    with pytest.raises(InputError, match="there is no row"):
        read_plan(str(tmp_path / "bad.toml"))


def row_with(figure: Figure, like: Row) -> Row:
    return replace(like, figures=(figure,))


def test_findings_follow_the_intervals(result: tuple[StudyResult, Path]) -> None:
    like = result[0].rows[0]
    good, bad = Estimate(0.9, 0.88, 0.92, 500), Estimate(0.01, 0.0, 0.02, 500)
    figure = Figure("adversarial accuracy", 0.85, good, bad, 0.06)
    row = row_with(figure, like)

    def verdict(column: str, at_least: float) -> str:
        claim = ClaimPlan(claim="c", row="r", figure="adversarial accuracy", column=column, at_least=at_least)
        return decide(claim, {"r": row}).verdict

    assert verdict("compatibility", 0.88) == "holds"
    assert verdict("compatibility", 0.89) == "not settled"  # the interval is neither wholly above nor below
    assert verdict("compatibility", 0.93) == "does not hold"
    assert verdict("honest", 0.5) == "does not hold"
    assert [f.verdict for f in reproduction(row)] == ["holds"]
    assert [f.verdict for f in reproduction(row_with(Figure("adversarial accuracy", 0.8, good, bad, 0.06), like))] == [
        "does not hold"
    ]
    assert [f.verdict for f in flattery(row)] == ["note"]
    assert not list(flattery(row_with(Figure("adversarial accuracy", 0.8, good, good, 0.06), like)))


def test_what_is_not_settled_has_a_mark_of_its_own(result: tuple[StudyResult, Path], tmp_path: Path) -> None:
    study = replace(result[0], findings=(Finding("c", "not settled", "s"),))
    page = report.write(study, tmp_path, command="").read_text("utf-8")
    assert '<span class="chip not-settled">? not settled</span>' in page


def test_the_papers_figures_are_measured_on_the_studys_examples(result: tuple[StudyResult, Path]) -> None:
    for row in result[0].rows:
        accuracy = next(figure for figure in row.figures if figure.name == "clean accuracy")
        assert accuracy.compatibility.n == 60
        assert isinstance(row.evaluation.clean_confidence, Confidence)


def test_other_data_is_searched_for_on_the_papers_own_and_set_against_nothing(tmp_path: Path) -> None:
    """The paper's figures are on its data: ours on others are not compared with them, unless it has some for those."""
    folder = tmp_path / "images"
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for place in range(30):
            Image.fromarray(np.full((8, 8), level + place, np.uint8)).save(folder / name / f"{place}.png")
    own = tmp_path / "toy.toml"
    own.write_text(TOML)
    data = f'folder("{folder}")'
    plan = read_plan(str(own), changes={"data": data})
    before = read_plan(str(own))
    assert all(not row.published and not row.published_sweep for row in plan.rows)
    assert any(row.published for row in before.rows)
    assert (
        plan.search_published
        == before.search_published
        == next(r for r in before.rows if r.name == before.search.row).published
    )
    result, _ = run_study(str(own), changes={"data": data}, runs=tmp_path / "runs", out=tmp_path / "report", quiet=True)
    assert result.search is not None
    assert "digits()" in result.search.rule
    assert {row.evaluation.data.partition("(")[0] for row in result.rows} == {"folder"}
    assert all(figure.published is None for row in result.rows for figure in row.figures)
    known = TOML.replace("[[rows]]\n", '[[rows]]\npublished_on = { folder = { "clean accuracy" = 0.5 } }\n', 1)
    own.write_text(known)
    assert read_plan(str(own), changes={"data": data}).rows[0].published == {"clean accuracy": 0.5}
    assert read_plan(str(own)).rows[0].published == before.rows[0].published
    own.write_text(known.replace('clean accuracy" = 0.5 } }', 'clean acuracy" = 0.5 } }'))
    with pytest.raises(InputError, match="did you mean 'clean accuracy'"):
        read_plan(str(own))


def test_what_is_searched_and_not_trained_on_is_trained_once(tmp_path: Path) -> None:
    """Two processes were at one run at the same time."""
    own = tmp_path / "toy.toml"
    own.write_text(TOML.replace("eps = [0.05]", "eps = [0.05, 0.1]"))
    trials = Workshop(read_plan(str(own)), tmp_path, "cpu", quiet=True).trials()
    assert len(trials) == 4
    jobs = _once(_fitting(recipe, tmp_path) for recipe in trials)
    assert [job.arguments[0] for job in jobs] == [trials[0], trials[2]]
