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
from sparring.studies.plan import ClaimPlan

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
