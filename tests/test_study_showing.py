"""Images made on one row's model and shown to all: transfer, universal perturbations, cross-tests; series of rows."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD, Universal, craft
from sparring.core.errors import InputError
from sparring.core.records import load
from sparring.core.results import Certified, Estimate
from sparring.core.study_results import Row, StudyResult
from sparring.core.threat import Linf
from sparring.data import load as load_data
from sparring.evaluation.curve import predictions
from sparring.models.saved import load as load_model
from sparring.report import certificates, series
from sparring.report.charts import line_chart
from sparring.report.html import render
from sparring.studies import jobs, read_plan, run_study
from sparring.studies import showing as showing_module
from sparring.studies.plan import FOOLED, UNDER
from sparring.studies.workshop import Workshop

TOML = """
name = "behind"
title = "Behind masks"
paper = "none"
summary = "What is left?"

[recipe]
data = "digits()"
model = "mlp(hidden=(32,))"
optimiser = "adam(lr=0.01)"
epochs = 4
batch_size = 64

[evaluation]
threat = "linf(0.1)"
attacks = ["fgsm()"]
examples = 120
attacked = 30
curve = [0.1]
protocol = "fgsm()"
draws = 2

[evaluation.shown.universal]
attack = "universal(epochs=2)"
on = ["control"]
threat = "linf(0.2)"

[evaluation.shown."random signs"]
attack = "universal(method='random_signs')"
on = ["control"]
threat = "linf(0.2)"
adaptive = []

[evaluation.shown."PGD images"]
attack = "pgd(steps=5)"
on = ["control", "median"]
examples = 50

[[rows]]
name = "control"
defence = "standard()"
published = { "accuracy under universal" = 0.55, "accuracy under PGD images of median" = 0.5755 }
tolerance = { "accuracy under universal" = 0.9 }

[[rows]]
name = "noise {size}"
defence = "masked(masks=(additive_noise(low=-{size}, high={size}),), model='{run:control}')"
each = { size = [0.1, 0.3] }
recipe = { epochs = 0 }

[[rows]]
name = "median"
defence = "masked(masks=(median(),), model='{run:control}')"
recipe = { epochs = 0 }

[[claims]]
claim = "Noise helps against a perturbation that does not know it"
row = "noise 0.1"
figure = "accuracy under universal"
above = "control"
column = "compatibility"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    folder = tmp_path_factory.mktemp("showing")
    (folder / "behind.toml").write_text(TOML)
    result, _ = run_study(str(folder / "behind.toml"), runs=folder / "runs", out=folder / "out", quiet=True)
    return folder, result


def row_of(result: StudyResult, name: str) -> Row:
    return next(row for row in result.rows if row.name == name)


def figures(row: Row) -> dict[str, Any]:
    return {figure.name: figure for figure in row.figures}


def test_every_row_is_shown_the_images_of_the_first_and_its_own(ran: tuple[Path, StudyResult]) -> None:
    folder, result = ran
    with np.load(next(folder.rglob("shown/*.npz")), allow_pickle=False) as file:
        assert all(file[name].shape[0] == 2 and file[name].dtype == np.int64 for name in file.files)
    assert [row.name for row in result.rows] == ["control", "noise 0.1", "noise 0.3", "median"]
    for row in result.rows:
        found = figures(row)
        assert found["accuracy under universal"].honest is not None
        assert found["accuracy under random signs"].honest is None
        assert found["fooling rate of universal"].honest is not None
        kinds = {name for name in found if "PGD" in name}
        assert kinds == {f"{of}PGD images of {row}" for of in (UNDER, FOOLED) for row in ("control", "median")}
        assert found["accuracy under PGD images of median"].compatibility.n == 50
    control = figures(result.rows[0])
    assert control["accuracy under universal"].honest == control["accuracy under universal"].compatibility
    assert control["accuracy under universal"].published == 0.55
    assert control["accuracy under universal"].reproduced
    assert control["accuracy under PGD images of median"].published == 0.5755
    assert (
        control["fooling rate of universal"].compatibility.value
        > control["fooling rate of random signs"].compatibility.value
    )


def test_the_record_knows_which_images_each_share_counts(ran: tuple[Path, StudyResult]) -> None:
    """So two rows are compared image by image: flags come back from the file, as many as the figure says."""
    folder, result = ran
    again = load(StudyResult, folder / "out" / "results.json")
    for row, kept in zip(result.rows, again.rows, strict=True):
        assert row.arrays.keys() == kept.arrays.keys()
        for figure in row.figures:
            for column, value in (("compatibility", figure.compatibility), ("honest", figure.honest)):
                flags = kept.arrays.get(f"{column}/{figure.name}")
                counted = figure.name.endswith("accuracy") or "under" in figure.name or "fooling" in figure.name
                assert (flags is not None) == (counted and value is not None)
                if flags is not None:
                    assert (flags.mean(), len(flags)) == (pytest.approx(value.value), value.n)
    assert "McNemar's test on 120 images" in result.findings[0].sentence


def test_the_figures_are_those_of_the_attack_made_by_hand(ran: tuple[Path, StudyResult]) -> None:
    folder, result = ran
    data = load_data("digits()")
    given = data.test.sample(120, seed=0)
    x, y = given.images(), given.y
    nets = {row.name: load_model(folder / "runs" / row.run) for row in result.rows}
    fitted = Universal(epochs=2).fit(nets["control"], data.train.x, data.train.y, Linf(0.2), seed=0)
    moved = (x + fitted.delta).clamp(0, 1)  # type: ignore[operator]
    for name, net in nets.items():
        found = figures(row_of(result, name))
        said, before = (predictions(net, images).argmax(1) for images in (moved, x))
        assert found["accuracy under universal"].compatibility.value == pytest.approx(
            float((said == y).double().mean())
        )
        assert found["fooling rate of universal"].compatibility.value == pytest.approx(
            float((said != before).double().mean())
        )
    given = data.test.sample(50, seed=0)
    x, y = given.images(), given.y
    made = craft(PGD(steps=5), nets["median"], x, y, Linf(0.1), seed=0)
    right = (predictions(nets["control"], made).argmax(1) == y).double().mean()
    found = figures(row_of(result, "control"))["accuracy under PGD images of median"].compatibility.value
    assert found == pytest.approx(float(right))


def test_nothing_is_made_twice(ran: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, result = ran
    monkeypatch.setattr(showing_module, "craft", lambda *_, **__: pytest.fail("images were made again"))
    again, _ = run_study(str(folder / "behind.toml"), runs=folder / "runs", out=folder / "out", quiet=True)
    assert [figures(row) for row in again.rows] == [figures(row) for row in result.rows]


def test_two_processes_make_the_same(ran: tuple[Path, StudyResult], tmp_path: Path) -> None:
    """All images are made, each once, before any row is judged: the figures are those of one process."""
    folder, result = ran
    again, _ = run_study(str(folder / "behind.toml"), jobs=2, runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert [figures(row) for row in again.rows] == [figures(row) for row in result.rows]
    kept, made = (sorted(runs.glob("*/shown/*.npz")) for runs in (folder / "runs", tmp_path / "runs"))
    assert [file.name for file in made] == [file.name for file in kept]


def test_rows_alone_wait_for_all_images_that_they_are_shown(ran: tuple[Path, StudyResult]) -> None:
    folder, _ = ran
    plan = read_plan(str(folder / "behind.toml"))
    workshop = Workshop(plan, folder / "runs", "cpu", quiet=True)
    _, chosen = workshop.search()
    making = jobs._makings(workshop, chosen)
    assert len({job.made for job in making}) == len(making) == len(workshop.makes(chosen))
    asked = jobs._measurements(workshop.expanded(chosen), plan, chosen, making)
    assert len(asked) == 4
    assert all(job.needs == {made.made for made in making} for job in asked)


def test_of_images_as_they_are_every_model_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "behind.toml").write_text(TOML)
    clean, asked = load_data("digits()").test.sample(120, seed=0).images(), []

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        if len(x) == len(clean) and torch.equal(x, clean):
            asked.append(id(model))
        return predictions(model, x)

    monkeypatch.setattr(showing_module, "predictions", counted)
    run_study(str(tmp_path / "behind.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert len(asked) == len(set(asked)) == 4  # though universal and random signs are shown to all four


def test_a_further_row_is_shown_what_the_others_have_seen(
    ran: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = ran
    clean, asked = load_data("digits()").test.sample(120, seed=0).images(), set()

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        if len(x) == len(clean) and torch.equal(x, clean):
            asked.add(id(model))
        return predictions(model, x)

    monkeypatch.setattr(showing_module, "predictions", counted)
    (folder / "further.toml").write_text(TOML.replace("size = [0.1, 0.3]", "size = [0.1, 0.3, 0.2]"))
    again, _ = run_study(str(folder / "further.toml"), runs=folder / "runs", out=folder / "further", quiet=True)
    assert len(asked) == 1
    assert figures(row_of(again, "noise 0.2"))["accuracy under universal"].compatibility.n == 120
    assert figures(row_of(again, "noise 0.3")) == figures(row_of(result, "noise 0.3"))


def test_what_another_threat_or_attack_made_is_not_taken_for_this(ran: tuple[Path, StudyResult]) -> None:
    folder, result = ran
    places = {path.relative_to(folder) for path in folder.rglob("shown/*.npz")}
    other = TOML.replace('threat = "linf(0.2)"', 'threat = "linf(0.25)"')
    (folder / "other.toml").write_text(other)
    changed, _ = run_study(str(folder / "other.toml"), runs=folder / "runs", out=folder / "other", quiet=True)
    assert {path.relative_to(folder) for path in folder.rglob("shown/*.npz")} > places
    name = "accuracy under universal"
    assert figures(changed.rows[0])[name].compatibility.value <= figures(result.rows[0])[name].compatibility.value


def test_an_attack_is_known_by_its_settings_however_it_is_written(
    ran: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    places = set(folder.rglob("shown/*.npz"))
    (folder / "same.toml").write_text(TOML.replace("universal(epochs=2)", "universal( epochs = 2, enough=1.0 )"))
    with monkeypatch.context() as patch:
        patch.setattr(showing_module, "craft", lambda *_, **__: pytest.fail("images were made again"))
        run_study(str(folder / "same.toml"), runs=folder / "runs", out=folder / "same", quiet=True)
    monkeypatch.setattr(Universal, "__repr__", lambda self: f"universal of other defaults, {self.method}")
    run_study(str(folder / "behind.toml"), runs=folder / "runs", out=folder / "out", quiet=True)
    assert set(folder.rglob("shown/*.npz")) > places


def test_a_file_cut_short_is_made_again(ran: tuple[Path, StudyResult], tmp_path: Path) -> None:
    folder, result = ran
    for path in folder.rglob("shown/*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    for measured in folder.rglob("measured/*"):
        measured.unlink()
    again, _ = run_study(str(folder / "behind.toml"), runs=folder / "runs", out=tmp_path, quiet=True)
    assert [figures(row) for row in again.rows] == [figures(row) for row in result.rows]


def test_rows_of_a_number_are_a_series_and_the_report_draws_it_and_the_cross_tests(
    ran: tuple[Path, StudyResult],
) -> None:
    folder, result = ran
    assert [(row.series, row.at) for row in result.rows] == [
        ("", None),
        ("noise {size}", 0.1),
        ("noise {size}", 0.3),
        ("", None),
    ]
    kept = load(StudyResult, folder / "out" / "results.json")
    assert kept.rows[1].at == 0.1
    html = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "Rows that differ in a number alone" in html
    assert "On each other&#39;s adversarial images" in html or "On each other's adversarial images" in html
    assert html.count("Made on median") == 1
    assert (folder / "out" / "figures" / "series.png").exists()
    assert "Made on" not in render(replace(result, rows=()))


def test_who_knows_the_row_takes_the_images_that_do_most_harm(
    ran: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made through JPEG, a universal perturbation did less than the bare network's, and was the honest figure."""
    folder, _ = ran
    plan, y = read_plan(str(folder / "behind.toml")), np.arange(10)
    row = next(row for row in plan.rows if row.name == "median")
    for strong in ("control", "median"):

        def said(_self: object, _shown: object, source: str, _victim: str, strong: str = strong) -> showing_module.Said:
            made = np.where(y < (7 if source == strong else 2), -1, y)
            return showing_module.Said(y, y, made)

        monkeypatch.setattr(showing_module.Showing, "_shown", said)
        showing = showing_module.Showing(plan.evaluation, Linf(0.1), {}, None, 0)  # type: ignore[arg-type]
        found = {seen.figure.name: seen.figure for seen in showing.figures(row)}
        honest = found[f"{UNDER}universal"].honest, found[f"{FOOLED}universal"].honest
        assert [value and value.value for value in honest] == [0.3, 0.7]


def test_the_axis_of_a_series_is_one_on_which_its_numbers_can_be_read(ran: tuple[Path, StudyResult]) -> None:
    """Of 500, 2,000, 10,000 and 40,000 images the first two stood on each other, and the last was "4e+04"."""
    _, result = ran
    for sizes, labels, wide in (
        ((0.1, 0.3), ["0.1", "0.3"], False),
        ((500.0, 40000.0), ["500", "40,000"], True),
        ((0.0, 1000.0), ["0", "1,000"], False),
    ):
        rows = [replace(row, series="PCA of {images}", at=at) for row, at in zip(result.rows, sizes, strict=False)]
        (panel,) = series.panels(rows)
        assert list(panel.ticks.values()) == labels
        assert panel.logarithmic == wide
        assert (line_chart(panel)["layout"]["xaxis"].get("type") == "log") == wide
        assert panel.lines[0].notes[-1][1].startswith(f"at {labels[-1]}: ")


def test_radii_that_draws_have_proved_are_no_labels_of_an_axis(ran: tuple[Path, StudyResult]) -> None:
    """The labels 0.1232, 0.2463, 0.3695, ... stood on each other."""
    row, some = ran[1].rows[0], Estimate(0.5, 0.4, 0.6, 100)
    curve = tuple((0.1232 * place, some) for place in range(6))
    proven = Certified(0.25, 1000, 0.001, 5.6, some, some, some, curve)
    (panel,) = certificates.curves([replace(row, evaluation=replace(row.evaluation, certified=proven))])
    assert len(panel.lines[0].x) == 6
    assert "tickvals" not in line_chart(panel)["layout"]["xaxis"]


def test_a_plan_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for there, wrong, says in (
        (
            'on = ["control", "median"]',
            'on = ["control", "medain"]',
            "PGD images of medain'",
        ),
        ("adaptive = []", 'adaptive = ["contrl"]', "unknown row 'contrl'"),
        ('on = ["control"]\n', "", "universal: missing 1 required"),
        ('"accuracy under universal" = 0.55', '"accuracy under univresal" = 0.55', "unknown figure"),
        ('threat = "linf(0.2)"', "threath = 1", "unknown field 'threath'"),
    ):
        file = tmp_path / "wrong.toml"
        file.write_text(TOML.replace(there, wrong, 1))
        with pytest.raises(InputError, match=says):
            read_plan(str(file))


def test_images_of_a_row_without_that_seed_are_refused(tmp_path: Path) -> None:
    text = TOML.replace('summary = "What is left?"', 'summary = "What?"\nseeds = [0, 1]')
    text = text.replace(
        "defence = \"masked(masks=(median(),), model='{run:control}')\"", 'defence = "standard()"\nseeds = [0]'
    )
    (tmp_path / "seeds.toml").write_text(text)
    with pytest.raises(InputError, match="'median' has no training with seed 1"):
        run_study(str(tmp_path / "seeds.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)


def test_a_study_may_be_judged_on_another_device(
    ran: tuple[Path, StudyResult], tmp_path: Path, other_device: torch.device
) -> None:
    measured = shutil.ignore_patterns("evaluations", "measured", "shown")
    shutil.copytree(ran[0] / "runs", tmp_path / "runs", ignore=measured)
    fewer = TOML.replace("examples = 120\nattacked = 30", "examples = 20\nattacked = 5")
    fewer = fewer.replace("examples = 50", "examples = 10").replace("size = [0.1, 0.3]", "size = [0.1]")
    transfer = f"transfer(surrogate='{ran[1].rows[0].run}', attack=pgd(steps=2))"
    (tmp_path / "behind.toml").write_text(fewer.replace('"pgd(steps=5)"', f'"{transfer}"'))
    study = str(tmp_path / "behind.toml")
    result, _ = run_study(study, runs=tmp_path / "runs", out=tmp_path, device=other_device.type, quiet=True)
    assert {row.evaluation.provenance.device for row in result.rows} == {str(other_device)}
