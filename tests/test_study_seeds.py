"""Studies with several seeds, rows that build on other rows' runs, and a protocol with a fault."""

import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from sparring.core.errors import InputError, TrainingError
from sparring.core.records import load
from sparring.core.results import Bin, Estimate, Flag
from sparring.core.statistics import difference, mean, paired_difference, paired_p, share
from sparring.core.study_results import Figure, Finding, Repeat, Row, StudyResult
from sparring.data import load as load_data
from sparring.models.batch_statistics import with_batch_statistics
from sparring.models.saved import load as load_model
from sparring.recipe import Recipe
from sparring.studies import join_study, read_plan, run_study
from sparring.studies.claims import decide
from sparring.studies.expansion import Training, expand
from sparring.studies.findings import findings, reproduction
from sparring.studies.jobs import Job, _all_done
from sparring.studies.kept import kept_row
from sparring.studies.measuring import Measure
from sparring.studies.plan import ClaimPlan, RowPlan
from sparring.studies.pooling import pooled_row
from sparring.studies.workshop import Workshop

TOML = """
name = "game"
title = "A small game"
paper = "none"
summary = "Who wins?"
seeds = [3, 5]

[recipe]
data = "digits()"
model = 'mlp(hidden=(16,), norm="batch")'
optimiser = "adam(lr=0.01)"
epochs = 2
batch_size = "{batch}"

[search]
row = "vanilla"
figures = ["clean accuracy"]
aim = "highest"
grid = { batch = [32, 512] }

[evaluation]
threat = "linf(0.1)"
attacks = ["fgsm()"]
curve = [0.05]
protocol = "fgsm()"
statistics = "batch"
sweep = [0.05, 0.1]
further_sweep = [0.5]
adversaries = ["alone", "game"]
faultless = ["accuracy under alone"]
attacked = 40

[tolerance]
"accuracy under alone" = 0.01
curve = 1.0

[[rows]]
name = "vanilla"
defence = "standard()"
published = { "accuracy under alone" = 0.5 }
published_sweep = { "0.05" = 0.7, "0.1" = 0.6 }

[[rows]]
name = "alone"
role = "adversary"
defence = 'gan_game(threat=linf(0.1), perturber=perturber(hidden=(16,)), defender="{run:vanilla}", defender_updates=0)'

[[rows]]
name = "game"
defence = 'gan_game(threat=linf(0.1), perturber=perturber(hidden=(16,)), adversary="{run:alone}")'

[[rows]]
name = "width {width}"
defence = "standard()"
each = { width = ["8"] }
recipe = { model = "mlp(hidden=({width},))" }
seeds = [5]

[[claims]]
claim = "The game is better"
row = "game"
figure = "adversarial accuracy"
above = "vanilla"
column = "mended"

[[claims]]
claim = "The adversary beats FGSM"
row = "vanilla"
figure = "accuracy under alone"
below = "vanilla"
than = "adversarial accuracy"
column = "mended"
"""


def written(folder: Path, text: str = TOML) -> str:
    path = folder / "game.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path]:
    folder = tmp_path_factory.mktemp("game")
    study, _ = run_study(written(folder), runs=folder / "runs", out=folder / "out", quiet=True)
    return study, folder


def test_rows_are_means_over_the_seeds_and_an_adversary_alone_is_no_row(result: tuple[StudyResult, Path]) -> None:
    study, folder = result
    assert [row.name for row in study.rows] == ["vanilla", "game", "width 8"]
    assert [[repeat.seed for repeat in row.repeats] for row in study.rows] == [[3, 5], [3, 5], [5]]
    vanilla = study.rows[0]
    assert vanilla.evaluation.seeds == (3, 5)
    assert vanilla.evaluation.clean.n == 2
    assert vanilla.evaluation.examples == 40
    figure = next(f for f in vanilla.figures if f.name == "adversarial accuracy")
    each = [repeat.compatibility["adversarial accuracy"] for repeat in vanilla.repeats]
    assert figure.compatibility.value == pytest.approx(sum(each) / 2)
    assert load(StudyResult, folder / "out" / "results.json") == study
    assert [(c.conditions, len(c.points)) for c in vanilla.sweep] == [
        ("batch statistics", 2),
        ("batch statistics", 1),
        ("", 2),
        ("", 1),
    ]
    assert set(vanilla.calibrations) == {
        "clean, batch statistics",
        "adversarial, batch statistics",
        "clean",
        "adversarial",
    }
    assert sum(part.count for part in vanilla.calibrations["clean"].bins) == 2 * len(load_data("digits()").test.y)


def test_the_highest_figure_on_the_validation_split_is_chosen_with_its_own_type(
    result: tuple[StudyResult, Path],
) -> None:
    search = result[0].search
    assert search is not None
    best = max(search.trials, key=lambda trial: trial.figures["clean accuracy"])
    assert search.chosen == best.settings == {"batch": 32.0}
    assert "highest sum of clean accuracy" in search.rule
    assert "batch_size = 32\n" in result[0].rows[0].recipe


def test_the_protocol_has_its_fault_and_the_mended_column_has_not(result: tuple[StudyResult, Path]) -> None:
    study, folder = result
    test = load_data("digits()").test
    for row in study.rows[:2]:
        for repeat in row.repeats:
            model = load_model(folder / "runs" / repeat.run)
            for column, net in ((repeat.compatibility, with_batch_statistics(model)), (repeat.mended, model)):
                with torch.no_grad():
                    right = sum(
                        int((net(x).argmax(1) == y).sum())
                        for x, y in zip(test.images().split(32), test.y.split(32), strict=True)
                    )
                assert column["clean accuracy"] == pytest.approx(right / len(test.y))


def test_every_row_meets_every_adversary_of_its_own_seed(result: tuple[StudyResult, Path]) -> None:
    study, _ = result
    for row in study.rows:
        assert [figure.name for figure in row.adversaries] == ["accuracy under alone", "accuracy under game"]
        assert all(0 <= figure.compatibility.value <= 1 for figure in row.adversaries)
    alone = study.rows[0].adversaries[0]
    assert alone.measured == "mended"
    assert alone.ours == alone.mended != alone.compatibility
    assert study.rows[0].adversaries[1].measured == "compatibility"
    found = [f for f in study.findings if f.claim.startswith("vanilla: the published")]
    assert found[0].verdict == "does not hold"
    assert "1 of 3 figures" in found[0].sentence
    assert "accuracy under alone" in found[0].sentence
    assert {f.claim for f in study.findings} >= {"The game is better", "The adversary beats FGSM"}
    assert "paired t-test over 2 seeds" in study.findings[0].sentence


def test_a_row_names_the_run_of_an_earlier_row_with_the_same_seed(tmp_path: Path) -> None:
    rows = expand(read_plan(written(tmp_path)), {"batch": 32}, tmp_path)
    by_name = {row.name: trainings for row, trainings in rows}
    for place, seed in enumerate((3, 5)):
        assert by_name["vanilla"][place].recipe.seed == seed
        assert by_name["alone"][place].recipe.defence.defender == by_name["vanilla"][place].run
        assert by_name["game"][place].recipe.defence.adversary == by_name["alone"][place].run
    assert by_name["vanilla"][0].run != by_name["vanilla"][1].run
    with pytest.raises(InputError, match="no row above it is so called; did you mean 'vanilla'"):
        expand(read_plan(written(tmp_path, TOML.replace("{run:vanilla}", "{run:vanila}"))), {"batch": 32}, tmp_path)


def test_two_processes_come_to_what_one_does(result: tuple[StudyResult, Path], tmp_path: Path) -> None:
    """Rows that build on other rows' runs wait for them; what the processes leave is all that a study needs."""
    whole, folder = result
    game = str(folder / "game.toml")
    study, _ = run_study(game, jobs=2, runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert study.findings == whole.findings
    assert study.search == whole.search
    for ours, theirs in zip(study.rows, whole.rows, strict=True):
        assert (ours.figures, ours.sweep, ours.repeats) == (theirs.figures, theirs.sweep, theirs.repeats)
    made = {row.evaluation.provenance.started for row in study.rows}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Measure, "row", None)  # whoever comes after measures nothing
        again, _ = run_study(game, runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert {row.evaluation.provenance.started for row in again.rows} == made


def test_what_fails_in_a_process_comes_out_of_the_study(tmp_path: Path) -> None:
    wrong = TOML.replace("mlp(hidden=({width},))", "lenet()")
    with pytest.raises(InputError, match="lenet"):
        run_study(written(tmp_path, wrong), jobs=2, runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_seeds_that_were_run_apart_join_to_the_whole_study(result: tuple[StudyResult, Path]) -> None:
    """Each seed's report knows nothing of the other's; what is joined has all figures and claims of the study."""
    whole, folder = result
    game = str(folder / "game.toml")
    apart = [folder / "apart" / str(seed) for seed in (3, 5)]
    for seed, place in zip((3, 5), apart, strict=True):
        run_study(game, changes={"seed": seed}, runs=folder / "runs", out=place, quiet=True)
    study, page = join_study(game, [apart[0], apart[1] / "results.json"], out=folder / "joined")
    assert study == load(StudyResult, folder / "joined" / "results.json")
    assert page.exists()
    assert study.findings == whole.findings
    assert [row.name for row in study.rows] == [row.name for row in whole.rows]
    for ours, theirs in zip(study.rows, whole.rows, strict=True):
        assert (ours.figures, ours.sweep, ours.repeats) == (theirs.figures, theirs.sweep, theirs.repeats)
        assert ours.evaluation.robust == theirs.evaluation.robust
        assert ours.evaluation.audit == theirs.evaluation.audit
        assert ours.evaluation.arrays.keys() == theirs.evaluation.arrays.keys()
    backwards, _ = join_study(game, apart[::-1], out=folder / "joined")
    assert [row.repeats for row in backwards.rows] == [row.repeats for row in whole.rows]


def test_what_does_not_belong_together_is_not_joined(result: tuple[StudyResult, Path]) -> None:
    _, folder = result
    game, out, alone = str(folder / "game.toml"), folder / "none", folder / "apart" / "3"
    run_study(game, changes={"seed": 3}, runs=folder / "runs", out=alone, quiet=True)
    with pytest.raises(InputError, match="seed 3 is in an earlier result"):
        join_study(game, [alone, alone], out=out)
    with pytest.raises(InputError, match="row 'vanilla' holds 2 trainings as one"):
        join_study(game, [alone, folder / "out"], out=out)
    with pytest.raises(InputError, match="its study is 'game', not 'demo'"):
        join_study("demo", [alone], out=out)
    with pytest.raises(InputError, match="there is no such file or folder"):
        join_study(game, [folder / "nowhere.json"], out=out)
    run_study(game, changes={"seed": 5, "attacked": 30}, runs=folder / "runs", out=folder / "fewer", quiet=True)
    with pytest.raises(InputError, match="row 'vanilla' was judged otherwise"):
        join_study(game, [alone, folder / "fewer"], out=out)
    for name, changes in {"shorter": {"epochs": 1}, "wider": {"model": "mlp(hidden=(20,))"}}.items():
        run_study(game, changes={"seed": 5, **changes}, runs=folder / "runs", out=folder / name, quiet=True)
        with pytest.raises(InputError, match="row 'vanilla' was trained otherwise"):
            join_study(game, [alone, folder / name], out=out)
    assert not out.exists()


def test_fields_of_the_evaluation_can_be_changed_as_those_of_the_recipe_can(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path), changes={"attacked": 40, "curve": [0.07], "epochs": 1})
    assert (plan.evaluation.attacked, plan.evaluation.curve, plan.recipe["epochs"]) == (40, (0.07,), 1)
    assert "attacked" not in plan.recipe
    with pytest.raises(InputError, match="attacked"):
        read_plan(written(tmp_path), changes={"attacked": "all"})


def test_one_seed_can_be_asked_for(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path), changes={"seed": 3})
    assert [row.name for row, _ in expand(plan, {"batch": 32}, tmp_path)] == ["vanilla", "alone", "game"]
    assert {t.seed for _, trainings in expand(plan, {"batch": 32}, tmp_path) for t in trainings} == {3}
    plan = read_plan(written(tmp_path), changes={"seed": 5})
    assert plan.search_seed == 3  # one search, whichever seed is trained
    Workshop(plan, tmp_path / "runs", "cpu", quiet=True).search()
    assert {Recipe.read(path).seed for path in (tmp_path / "runs").glob("*/recipe.toml")} == {3}
    for bad in ("[]", "[1, 1]", '["one"]'):
        with pytest.raises(InputError, match="seeds"):
            read_plan(written(tmp_path, TOML.replace("[3, 5]", bad)))
    with pytest.raises(InputError, match="unknown row 'gane'; did you mean 'game'"):
        read_plan(written(tmp_path, TOML.replace('"alone", "game"', '"alone", "gane"')))


def test_a_study_measures_nothing_twice_and_anew_what_has_changed(
    result: tuple[StudyResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = result[1] / "runs"
    measured: list[tuple[str, int]] = []
    at_work = Measure.row

    def counted(self: Measure, row: RowPlan, training: Training, *rest: Any) -> Row:
        measured.append((row.name, training.seed))
        return at_work(self, row, training, *rest)

    monkeypatch.setattr(Measure, "row", counted)
    again, _ = run_study(written(tmp_path), runs=runs, out=tmp_path / "again", quiet=True)
    assert measured == []
    assert again.rows == result[0].rows
    assert all(row.evaluation.arrays for row in again.rows)
    changed = TOML.replace(
        'published = { "accuracy under alone" = 0.5 }', 'published = { "accuracy under alone" = 0.4 }'
    )
    run_study(written(tmp_path, changed), runs=runs, out=tmp_path / "changed", quiet=True)
    assert measured == [("vanilla", 3), ("vanilla", 5)]


def test_a_plan_may_have_the_first_trainings_audited_alone(result: tuple[StudyResult, Path], tmp_path: Path) -> None:
    study = written(tmp_path, TOML.replace("attacked = 40", "attacked = 40\naudited = 1"))
    found, _ = run_study(study, runs=result[1] / "runs", out=tmp_path / "out", quiet=True)
    pairs = [p for p in zip(found.rows, result[0].rows, strict=True) if len(p[0].repeats) == 2]
    assert pairs
    for one, both in pairs:
        assert len(one.evaluation.audit) == len(both.evaluation.audit) > 0
        assert all(check.evidence.endswith("in 1 of 1 trainings audited)") for check in one.evaluation.audit)
        assert all(check.evidence.endswith("of 2 trainings audited)") for check in both.evaluation.audit)
        assert one.evaluation.robust.value >= both.evaluation.robust.value  # what an audit fools does not stand


# -------------------------------------------------------------------------------------------------- figures over seeds


def with_values(like: Row, name: str, figure: str, values: list[float], mended: list[float] | None = None) -> list[Row]:
    """Give one row a seed, whose figure has these values."""
    return [
        replace(
            like,
            name=name,
            figures=(Figure(figure, None, Estimate(v, v, v, 9), Estimate(v, v, v, 9), None, Estimate(m, m, m, 9)),),
            adversaries=(),
            repeats=(Repeat(seed, "run", {figure: v}, {figure: m}, {figure: v}),),
            evaluation=replace(like.evaluation, flags=(Flag("a check", "warn", "said"),) if v > 0.5 else ()),
        )
        for seed, (v, m) in enumerate(zip(values, mended or values, strict=True))
    ]


def test_a_metric_that_only_newer_runs_have_is_left_out(result: tuple[StudyResult, Path]) -> None:
    row = result[0].rows[0]
    first, *rest = row.training
    newer = replace(row, training=(replace(first, metrics={**first.metrics, "new": 1.0}), *rest))
    for pair in ([row, newer], [newer, row]):
        assert pooled_row(pair, (0, 1)).training[0].metrics == pytest.approx(first.metrics)


def test_pooling_gives_the_mean_with_the_t_interval_and_every_check_once(result: tuple[StudyResult, Path]) -> None:
    values = [0.4, 0.6, 0.8, 0.9]
    row = pooled_row(with_values(result[0].rows[2], "r", "f", values), range(4))
    figure = row.figures[0].compatibility
    low, high = stats.t.interval(0.95, 3, loc=0.675, scale=stats.sem(values))
    assert (figure.value, figure.n) == (pytest.approx(0.675), 4)
    assert (figure.low, figure.high) == (pytest.approx(low), pytest.approx(min(high, 1)))
    assert row.evaluation.flags == (Flag("a check", "warn", "said (first of 3 in 4 trainings)"),)
    only = with_values(result[0].rows[2], "r", "f", [0.3])
    assert pooled_row(only, [0]) is only[0]


def test_what_any_training_called_for_stands_in_the_pooled_row(result: tuple[StudyResult, Path]) -> None:
    """It was once the first training's alone, though the second was found to be random."""
    row = result[0].rows[2]
    ways: list[dict[str, tuple[str, ...]]] = [
        {},
        {"detected": ("random",)},
        {"adaptation": ("eot",), "detected": ("random",)},
    ]
    rows = [replace(row, evaluation=replace(row.evaluation, **way)) for way in ways]
    pooled = pooled_row(rows, range(3)).evaluation
    assert (pooled.adaptation, pooled.detected) == (("eot",), ("random",))
    said = [flag.message for flag in pooled.flags if flag.check == "trainings unlike"]
    assert said == [
        "eot: called for by the model, and attacked so, in 1 of 3 trainings",
        "random: found out, and attacked so, in 2 of 3 trainings",
    ]
    assert not [f for f in pooled_row(rows[2:] * 2, range(2)).evaluation.flags if f.check == "trainings unlike"]


def test_curves_of_trainings_that_are_not_as_long_are_means_of_what_all_have(
    result: tuple[StudyResult, Path],
) -> None:
    """They were once the first training's, whatever the others'."""
    row = result[0].rows[0]
    first, second = row.training
    other = replace(row, training=(replace(first, metrics={"loss": first.metrics["loss"] + 2}),))
    for pair in ([row, other], [other, row]):
        pooled = pooled_row(pair, (0, 1))
        assert [epoch.epoch for epoch in pooled.training] == [first.epoch]
        assert pooled.training[0].metrics["loss"] == pytest.approx(first.metrics["loss"] + 1)
        assert "epochs; their curves are means of those that all have" in pooled.evaluation.flags[-1].message
    assert pooled_row([row, row], (0, 1)).training == (first, second)


def test_trainings_that_agree_have_the_interval_of_one(result: tuple[StudyResult, Path]) -> None:
    rows = with_values(result[0].rows[2], "r", "f", [0.0, 0.0, 0.0])
    rows = [
        replace(row, figures=tuple(replace(f, compatibility=Estimate(0.0, 0.0, 0.0037, 1000)) for f in row.figures))
        for row in rows
    ]
    assert pooled_row(rows, range(3)).figures[0].compatibility == Estimate(0.0, 0.0, 0.0037, 3)


def test_an_eps_stays_what_it_is_to_the_bit(result: tuple[StudyResult, Path]) -> None:
    """The mean of three times 0.1 is not 0.1."""
    row = result[0].rows[0]
    pooled = pooled_row([row, row, row], (0, 1, 2))
    assert [p.eps for c in pooled.sweep for p in c.points] == [p.eps for c in row.sweep for p in c.points]
    assert 0.1 in [p.eps for c in pooled.sweep for p in c.points]


def test_bins_are_emptied_into_one_another(result: tuple[StudyResult, Path]) -> None:
    like = result[0].rows[2]
    calibration = like.calibrations["clean"]
    one = replace(calibration, bins=(Bin(10, 0.5, 0.6), Bin(0, 0.0, 0.0)))
    two = replace(calibration, bins=(Bin(30, 0.9, 0.8), Bin(0, 0.0, 0.0)))
    rows = [replace(like, calibrations={"clean": each}) for each in (one, two)]
    assert pooled_row(rows, [0, 1]).calibrations["clean"].bins == (
        Bin(40, pytest.approx(0.8), pytest.approx(0.75)),
        Bin(0, 0.0, 0.0),
    )


def test_a_claim_between_rows_is_decided_by_the_paired_t_test(result: tuple[StudyResult, Path]) -> None:
    """The rows' own intervals overlap widely; the differences, seed by seed, do not reach 0."""
    like = result[0].rows[2]
    a, b = [0.50, 0.60, 0.70, 0.80], [0.48, 0.585, 0.675, 0.78]
    rows = {
        name: pooled_row(with_values(like, name, "f", values, mended), range(4))
        for name, values, mended in (("a", a, b), ("b", b, a))
    }

    def verdict(**settings: str) -> str:
        finding = decide(ClaimPlan(**{"claim": "c", "row": "a", "figure": "f", "column": "honest", **settings}), rows)
        assert f"p = {stats.ttest_rel(a, b).pvalue:.2g}" in finding.sentence
        return finding.verdict

    assert verdict(above="b") == "holds"
    assert verdict(below="b") == "does not hold"
    assert verdict(above="b", column="mended") == "holds only by the paper's protocol"
    assert verdict(below="b", column="mended") == "holds only without the protocol's fault"
    assert paired_p([x - y for x, y in zip(a, b, strict=True)]) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert math.isnan(paired_p([0.1]))
    assert math.isnan(paired_p([0.1, 0.1]))


def test_with_one_seed_the_interval_of_the_difference_decides(result: tuple[StudyResult, Path]) -> None:
    like = result[0].rows[2]
    far, near = Estimate(0.9, 0.88, 0.92, 500), Estimate(0.85, 0.82, 0.88, 500)
    rows = {
        name: replace(like, name=name, figures=(Figure("f", None, value, value, None),), repeats=like.repeats[:0])
        for name, value in (("far", far), ("near", near))
    }
    gap = difference(far, near)
    # Newcombe 1998, method 10, by hand
    assert gap.low == pytest.approx(0.05 - math.sqrt(0.02**2 + 0.03**2))
    assert gap.high == pytest.approx(0.05 + math.sqrt(0.02**2 + 0.03**2))
    rows["far"] = replace(rows["far"], repeats=(Repeat(0, "r", {"f": 0.9}, {}, {"f": 0.9}),))
    rows["near"] = replace(rows["near"], repeats=(Repeat(0, "r", {"f": 0.85}, {}, {"f": 0.85}),))
    claim = ClaimPlan(claim="c", row="far", figure="f", column="honest", above="near")
    assert decide(claim, rows).verdict == "holds"
    close = replace(rows["near"], figures=(Figure("f", None, replace(near, high=0.9), replace(near, high=0.9), None),))
    assert decide(claim, rows | {"near": close}).verdict == "not settled"
    blank = replace(close, figures=(Figure("f", None, replace(near, n=0), replace(near, n=0), None),))
    assert decide(claim, rows | {"near": blank}).verdict == "note"


def test_with_one_seed_and_the_same_images_mcnemar_decides(result: tuple[StudyResult, Path]) -> None:
    """Intervals of two shares measured apart would overlap; that the one is right wherever the other is settles it."""
    like, images = result[0].rows[2], np.arange(200)
    flags = {"far": images < 110, "near": images < 95, "odd": images % 2 == 0, "fewer": images[:100] < 60}
    rows = {
        name: replace(
            like,
            name=name,
            figures=(Figure("f", None, value, value, None),),
            repeats=(Repeat(0, "r", {"f": value.value}, {}, {"f": value.value}),),
            arrays={"honest/f": counted},
        )
        for name, counted in flags.items()
        for value in (share(int(counted.sum()), len(counted)),)
    }

    def found(above: str, row: str = "far") -> Finding:
        return decide(ClaimPlan(claim="c", row=row, figure="f", column="honest", above=above), rows)

    assert difference(rows["far"].figures[0].honest, rows["near"].figures[0].honest).low < 0  # measured apart
    assert found("near").verdict == "holds"
    p = stats.binomtest(15, 15).pvalue
    assert (
        f"difference +7.5 points (+3.7 to +11.2; one seed, McNemar's test on 200 images, p = {p:.2g})"
        in found("near").sentence
    )
    assert found("far", "near").verdict == "does not hold"
    assert found("odd").verdict == "not settled"
    assert "McNemar" not in found("fewer").sentence  # other images: measured apart
    rows["near"] = replace(rows["near"], arrays={"honest/f": images < 105})
    assert found("near").verdict == "not settled"  # 5 images to none: p = 0.06


def test_the_paired_interval_is_that_of_agresti_and_min() -> None:
    """Their formula by hand, its symmetry, and that it holds what it should in draws from a known truth."""
    found = paired_difference(20, 5, 100)
    gap, spread = 15 / 102, math.sqrt(26 - 15**2 / 102) / 102
    assert found == Estimate(0.15, pytest.approx(gap - 1.959964 * spread), pytest.approx(gap + 1.959964 * spread), 100)
    other = paired_difference(5, 20, 100)
    assert (other.low, other.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    assert paired_difference(0, 0, 1).low < 0 < paired_difference(0, 0, 1).high <= 1
    drawn = np.random.default_rng(0).multinomial(60, (0.2, 0.1, 0.7), size=4000)
    held = [(f := paired_difference(int(b), int(c), 60)).low <= 0.1 <= f.high for b, c, _ in drawn]
    assert 0.94 <= np.mean(held) <= 0.97


def test_a_published_curve_must_come_out_at_every_point(result: tuple[StudyResult, Path]) -> None:
    vanilla = result[0].rows[0]
    point = vanilla.sweep[0].points[0]
    close = replace(
        vanilla, adversaries=(), published_sweep=((0.05, point.accuracy.value + 0.01),), sweep_tolerance=0.011
    )
    assert [f.verdict for f in reproduction(close)] == ["holds"]
    assert [f.verdict for f in reproduction(replace(close, sweep_tolerance=0.009))] == ["does not hold"]
    assert "accuracy at eps 0.05" in next(reproduction(replace(close, sweep_tolerance=0.009))).sentence


STANDARD = """
name = "s"
title = "t"
paper = "none"
summary = "?"
[recipe]
data = "digits()"
model = "mlp(hidden=(8,))"
epochs = 1
[evaluation]
threat = "linf(0.1)"
attacks = ["fgsm()"]
examples = 20
[[rows]]
name = "standard"
defence = "standard()"
"""


def test_what_decides_a_row_decides_whether_it_is_measured_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = written(tmp_path, STANDARD)
    found = run_study(study, runs=tmp_path / "runs", out=tmp_path / "o", quiet=True)[0].rows[0]
    plan, measured = read_plan(study), []
    given: dict[str, Any] = {"row": plan.rows[0], "plan": plan.evaluation, "threat": "linf(0.1)", "data": "digits()"}
    given |= {"runs": {"a": "run-1"}, "shown": (), "audit": "standard"}

    def measure() -> Row:
        measured.append(1)
        return found

    changes: tuple[dict[str, Any], ...] = (
        {},
        {},
        {"row": replace(plan.rows[0], name="other")},
        {"plan": replace(plan.evaluation, examples=21)},
        {"threat": "linf(0.2)"},
        {"data": "mnist()"},
        {"runs": {"a": "run-2"}},
        {"audit": "off"},
        {"shown": (found.figures[:1] or (Figure("f", None, Estimate(1, 1, 1, 1), None, None),))},
    )
    for change in changes:
        kept_row(tmp_path / "k", **{**given, **change}, measure=measure)
    assert len(measured) == len(changes) - 1
    for damage in (lambda path: path.write_text("{"), lambda path: path.with_suffix(".npz").unlink()):
        for path in (tmp_path / "k" / "measured").glob("*.json"):
            damage(path)
        count = len(measured)
        caplog.clear()
        again = kept_row(tmp_path / "k", **given, measure=measure)
        assert len(measured) == count + 1
        assert again.evaluation.arrays
        assert caplog.text.count("measured again") == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("seeds = 0", "row 'standard': seeds: expected"),
        ("published = 3", "row 'standard': published: expected"),
        ('published = { "clean accuracy" = "x" }', "published: clean accuracy: expected"),
    ],
)
def test_a_row_with_a_field_of_another_type_ends_in_one_line(wrong: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_plan(written(tmp_path, f"{STANDARD}{wrong}\n"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('rows="x"', "rows must be tables, each"),
        ("rows=[3]", "rows must be tables, each"),
        ("search=3", "search must be a table"),
        ("quick=3", "quick must be a table"),
        ("tolerance=3", "tolerance must be a table"),
        ("claims=[3]", "claims must be tables"),
        ("title=3", "title must be text in quotes"),
        ('[evaluation]\nthreat="linf(0.1)"\nattacks=["fgsm()"]\nshown=3', "shown must be a table"),
        ('[evaluation]\nthreat="linf(0.1)"\nattacks=["fgsm()"]\nshown={a=3}', "shown must be a table"),
        ('[evaluation]\nthreat="linf(0.1)"\nattacks=["fgsm()"]\ngeometry=3', "geometry must be a table"),
    ],
)
def test_what_is_no_table_is_said(line: str, says: str, tmp_path: Path) -> None:
    study, rest = tmp_path / "study.toml", '[recipe]\ndata="digits()"\nmodel="mlp()"\n'
    rest += "" if "evaluation" in line else '[evaluation]\nthreat="linf(0.1)"\nattacks=["fgsm()"]\n'
    study.write_text(f"{rest}{line}" if "evaluation" in line else f"{line}\n{rest}")
    with pytest.raises(InputError, match=says):
        read_plan(str(study))


def test_a_process_that_is_killed_ends_a_study_in_one_line(tmp_path: Path) -> None:
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os._exit, (9,))
    with pool, pytest.raises(TrainingError, match="with fewer jobs"):
        _all_done(pool, [Job(len, ())], "x")


def row_of(name: str, by_seed: dict[int, float], right: int | None = None) -> Row:
    """Return a row with one figure, of which each seed has a value, and the first one flags of 100 images."""
    figure = Figure("adversarial accuracy", None, mean(list(by_seed.values())), mean(list(by_seed.values())), None)
    repeats = tuple(
        Repeat(seed, name, {figure.name: value}, {}, {figure.name: value}) for seed, value in by_seed.items()
    )
    arrays = {} if right is None else {f"honest/{figure.name}": np.arange(100) < right}
    stand_in: Any = SimpleNamespace(name=name, figures=(figure,), adversaries=(), repeats=repeats, arrays=arrays)
    row: Row = stand_in
    return row


@pytest.mark.parametrize(
    ("a", "b", "verdict", "words"),
    [
        (row_of("a", {0: 0.5, 1: 0.51, 2: math.nan}), row_of("b", {0: 0.1, 1: 0.1, 2: 0.1}), "holds", "over 2 seeds"),
        (row_of("a", {0: 0.5, 1: 0.6, 2: math.inf}), row_of("b", {0: 0.1, 1: 0.1, 2: 0.1}), "note", "never fooled"),
        (row_of("a", {0: 0.5, 1: math.inf}), row_of("b", {0: 0.1, 1: math.inf}), "note", "never fooled"),
        (row_of("a", {0: 0.75, 1: 0.5}), row_of("b", {0: 0.625, 1: 0.375}), "not settled", "2 seeds alike"),
        (
            row_of("a", {0: 0.3, 1: 0.4}),
            row_of("b", {0: 0.2, 1: 0.3}),
            "not settled",
            "2 seeds alike",
        ),  # but for rounding
        (
            row_of("a", {0: 0.6, 1: 0.6}, 60),
            row_of("b", {0: 0.1, 1: 0.1}, 10),
            "holds",
            "2 seeds alike, McNemar's test",
        ),
        (row_of("a", {0: 0.1, 1: 0.2, 2: 0.4}), row_of("b", {0: 0.5, 1: 0.7, 2: 0.8}), "does not hold", "over 3 seeds"),
        (row_of("a", {0: 0.1, 1: 0.9, 2: 0.4}), row_of("b", {0: 0.5, 1: 0.1, 2: 0.3}), "not settled", "over 3 seeds"),
        (
            row_of("a", {0: 0.2, 1: 0.9}),
            row_of("b", {0: 0.1}),
            "note",
            "a: adversarial accuracy under the honest attacks "
            "is 20.0% (seed 0), b: 10.0% (seed 0); one seed in common: without an interval",
        ),
        (
            row_of("a", {0: 0.2, 1: 0.3, 2: 0.9}),
            row_of("b", {0: 0.1, 1: 0.19}),
            "holds",
            "is 25.0% (seeds 0, 1), b: 14.5%",
        ),
        (
            row_of("a", {0: 0.6, 1: 0.2, 2: 0.1}, 60),
            row_of("b", {0: 0.4}, 40),
            "holds",
            "is 60.0% (seed 0), b: 40.0% (seed",
        ),
        (row_of("a", {1: 0.6, 2: 0.1}, 60), row_of("b", {0: 0.4}, 40), "note", "no seed in common"),
    ],
)
def test_a_claim_is_decided_by_what_can_decide_it(a: Row, b: Row, verdict: str, words: str) -> None:
    """An infinite mean, gaps that agree to the last digit, and rows of different seeds, each once held or crashed."""
    claim = ClaimPlan(claim="a is better", row="a", figure="adversarial accuracy", column="honest", above="b")
    found = decide(claim, {"a": a, "b": b})
    assert found.verdict == verdict
    assert words in found.sentence


@pytest.mark.parametrize(
    ("value", "bounds", "verdict"),
    [
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.4}, "holds"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.5}, "not settled"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.6}, "does not hold"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_most": 0.4}, "does not hold"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.4, "at_most": 0.6}, "holds"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.4, "at_most": 0.5}, "not settled"),
        (Estimate(0.5, 0.45, 0.55, 9), {"at_least": 0.6, "at_most": 0.7}, "does not hold"),
        (Estimate(math.inf, math.nan, math.nan, 9), {"at_least": 0.6}, "note"),
        (Estimate(0.5, math.nan, math.nan, 1), {"at_least": 0.6}, "note"),
    ],
)
def test_a_bound_is_settled_by_the_whole_interval_alone(
    value: Estimate, bounds: dict[str, float], verdict: str
) -> None:
    """And by none that is infinite or unknown: it once failed a claim that an infinite distance bears out."""
    figure = Figure("adversarial accuracy", None, value, value, None)
    row: Any = SimpleNamespace(name="a", figures=(figure,), adversaries=(), repeats=(), arrays={})
    claim = ClaimPlan(claim="c", row="a", figure=figure.name, column="honest", **bounds)
    assert decide(claim, {"a": row}).verdict == verdict


@pytest.mark.parametrize(
    ("protocol", "mended", "verdict"),
    [
        (0.9, 0.1, "holds only by the paper's protocol"),
        (0.9, 0.5, "not settled"),
        (0.1, 0.9, "holds only without the protocol's fault"),
        (0.5, 0.9, "holds only without the protocol's fault"),
        (0.9, 0.9, "holds"),
        (0.1, 0.1, "does not hold"),
    ],
)
def test_what_holds_with_the_protocol_s_fault_alone_or_without_it_alone_is_called_that(
    protocol: float, mended: float, verdict: str
) -> None:
    values = [Estimate(value, value - 0.05, value + 0.05, 9) for value in (protocol, mended)]
    figure = Figure("f", None, values[0], None, None, values[1])
    row: Any = SimpleNamespace(name="a", figures=(figure,), adversaries=(), repeats=(), arrays={})
    assert (
        decide(ClaimPlan(claim="c", row="a", figure="f", column="mended", at_least=0.5), {"a": row}).verdict == verdict
    )


def test_a_claim_on_a_row_that_is_absent_is_said_not_to_be_tested(result: tuple[StudyResult, Path]) -> None:
    """It once vanished from the report."""
    study, folder = result
    plan = read_plan(str(folder / "game.toml"))
    vanilla = tuple(row for row in study.rows if row.name == "vanilla")
    found = findings(plan, vanilla)[: len(plan.claims)]
    assert [finding.claim for finding in found] == [claim.claim for claim in plan.claims]
    assert (found[0].verdict, found[0].sentence) == ("note", "Not tested: no row 'game' in these results.")
    assert found[1] == study.findings[1]


def test_a_figure_of_the_protocol_is_refused_at_once_where_there_is_none(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        'name="s"\ntitle="s"\npaper=""\nsummary=""\n[recipe]\ndata="digits()"\nmodel="mlp()"\n'
        '[evaluation]\nthreat="linf(0.1)"\nattacks=["fgsm()"]\n[[rows]]\nname="a"\ndefence="standard()"\n'
        '[[claims]]\nclaim="c"\nrow="a"\nfigure="adversarial accuracy"\ncolumn="honest"\nat_most=0.5\n'
    )
    with pytest.raises(InputError, match=r"set .evaluation. protocol"):
        read_plan(str(study))
