"""Where adversarial images lie: closed forms of each plot, and the survey in a study and its report."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.records import load
from sparring.core.study_results import Plot, StudyResult, Trace
from sparring.data import Split
from sparring.defences.masks.smooth import GaussianNoise
from sparring.evaluation.geometry import ALONG, CLEAN, NOISE, Space, geometry, landscape
from sparring.generative.quality import features
from sparring.studies import read_plan, run_study

TOML = """
name = "lie"
title = "Where they lie"
paper = "none"
summary = "Where?"

[recipe]
data = "digits()"
model = "mlp(hidden=(32,))"
optimiser = "adam(lr=0.01)"
epochs = 3

[evaluation]
threat = "linf(0.1)"
attacks = ["fgsm()"]
examples = 60
attacked = 20
curve = [0.1]

[evaluation.geometry]
on = ["standard"]
attacks = ["fgsm()", "pgd(steps=5)"]
layer = "2"
threat = "linf(0.2)"
examples = 40
reference = 300

[[rows]]
name = "standard"
defence = "standard()"
"""


def points(count: int = 200, size: int = 5, seed: int = 0) -> Tensor:
    scales = torch.tensor([8.0, 4, 2, 1, 0.5])[:size]
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)) * scales


def space(moved: dict[str, Tensor], y: Tensor | None = None) -> Space:
    reference, given = points(), points(30, seed=1)
    labels = torch.arange(200) % 2
    return Space("here", reference, labels, given, torch.arange(30) % 2 if y is None else y, moved)


def traces(plot: Plot) -> dict[str, Trace]:
    return {trace.name: trace for trace in plot.traces}


def test_the_energy_of_a_step_along_one_axis_lies_in_that_component() -> None:
    given = points(30, seed=1)
    axes = PCA().fit(points().numpy()).components_
    moved = {f"axis {k}": given + 3 * torch.from_numpy(axes[k]).float() for k in (0, 3)} | {"nowhere": given}
    found = traces(next(space(moved).spectrum()))
    assert found["axis 0"].x == (1, 2, 3, 4, 5)
    assert found["axis 0"].y == pytest.approx([100] * 5, abs=1e-3)
    assert found["axis 3"].y == pytest.approx([0, 0, 0, 100, 100], abs=1e-3)
    assert found["nowhere"].y == (0,) * 5
    clean = found[CLEAN].y
    assert list(clean) == sorted(clean)
    assert clean[-1] == pytest.approx(100, abs=1e-3)
    assert clean[0] > 50


def test_distances_to_the_nearest_are_those_of_all_pairs() -> None:
    given = points(30, seed=1)
    plot = space({"far": given + 100}).nearest()
    expected = sorted(min(math.dist(a, b) for b in points().tolist()) for a in given.tolist())
    assert traces(plot)[CLEAN].x == pytest.approx(expected, rel=1e-4)
    assert traces(plot)[CLEAN].y[-1] == 100
    assert min(traces(plot)["far"].x) > 100
    assert "; it changes: far +" in plot.sentence


def test_who_moved_onto_the_other_class_s_mean_is_told() -> None:
    reference, labels = points(), torch.arange(200) % 2
    means = torch.stack([reference[labels == label].mean(0) for label in (0, 1)])
    y = torch.arange(30) % 2
    (plot,) = space({"swapped": means[1 - y] + 1e-4, "home": means[y] + 1e-4}, y).class_means()
    assert "swapped 100 %" in plot.sentence
    assert "home 0 %" in plot.sentence
    assert min(traces(plot)["swapped"].x) > 1
    assert max(traces(plot)["home"].x) < 1
    assert not list(space({}, y + 7).class_means())  # classes that the clean images have none of


def test_the_plane_is_that_of_the_first_two_components() -> None:
    given = points(30, seed=1)
    theirs = PCA(n_components=2).fit(points().numpy())
    at = traces(next(space({}).places()))[CLEAN]
    expected = theirs.transform(given.numpy())
    for ours, column in ((at.x, expected[:, 0]), (at.y, expected[:, 1])):
        same = abs(sum(a * b for a, b in zip(ours, column, strict=True)))
        assert same == pytest.approx(float((column**2).sum()), rel=1e-3)  # but for the axis's sign


def test_the_landscape_of_a_linear_classifier_changes_at_its_boundary_along_and_never_across() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            told = x.flatten(1)[:, :1] - 0.5
            return torch.cat([-told, told], 1)

    x = torch.full((8, 1, 2, 2), 0.6)
    step = torch.zeros_like(x)
    step[:, 0, 0, 0] = -0.08  # the boundary lies at 1.25 of it
    found = traces(landscape(Half(), Split(x, torch.ones(8).long(), torch.arange(8)), {"a": x + step}))
    assert found["a"].x == ALONG
    assert [y == 100 for y in found["a"].y] == [t <= 1.25 - 1e-6 or math.isclose(t, 1.25) for t in ALONG] or [
        y == 100 for y in found["a"].y
    ] == [t < 1.25 - 1e-6 for t in ALONG]
    assert set(found["across a"].y) == {100.0}


def test_too_few_images_are_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    one = Split(torch.rand(1, 1, 2, 2), torch.zeros(1).long(), torch.arange(1))
    with pytest.raises(InputError, match="at least two clean images"):
        geometry(net, one, one, {}, "1")


def refused(*_: object, **__: object) -> None:
    raise AssertionError("measured again")


def test_a_study_surveys_and_its_report_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lie.toml").write_text(TOML)
    result, page = run_study(str(tmp_path / "lie.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    (found,) = result.geometries
    assert (found.examples, found.reference, found.threat) == (40, 300, "linf(eps=0.2)")
    titles = [plot.title for plot in found.plots]
    assert len(titles) == len(set(titles)) == 9
    assert sum(": pixels" in title for title in titles) == sum(": layer 2" in title for title in titles) == 4
    names = {trace.name for plot in found.plots for trace in plot.traces}
    assert {CLEAN, NOISE, "fgsm()", "pgd(steps=5)", "across fgsm()"} == names - {"across pgd(steps=5)"}
    assert all(math.isfinite(v) for plot in found.plots for t in plot.traces for v in (*t.x, *t.y))
    assert load(StudyResult, tmp_path / "out" / "results.json").geometries == result.geometries
    html = page.read_text(encoding="utf-8")
    assert "Where adversarial images lie" in html
    assert found.plots[0].sentence.replace("'", "&#39;") in html
    assert (page.parent / "figures" / "geometry.png").exists()
    with monkeypatch.context() as patch:
        patch.setattr("sparring.studies.workshop.survey", refused)  # what was looked at is not looked at again
        again, _ = run_study(str(tmp_path / "lie.toml"), runs=tmp_path / "runs", out=tmp_path / "again", quiet=True)
    assert again.geometries == result.geometries
    for changed in (TOML.replace("examples = 40", "examples = 30"), TOML.replace("linf(0.2)", "linf(0.1)")):
        (tmp_path / "changed.toml").write_text(changed)
        with monkeypatch.context() as patch:
            patch.setattr("sparring.studies.workshop.survey", refused)
            with pytest.raises(AssertionError, match="again"):
                run_study(str(tmp_path / "changed.toml"), runs=tmp_path / "runs", out=tmp_path / "no", quiet=True)
    unknown = tmp_path / "layer.toml"
    unknown.write_text(TOML.replace('layer = "2"', 'layer = "77"').replace("epochs = 3", "epochs = 1"))
    with pytest.raises(InputError, match="no layer '77'"):
        run_study(str(unknown), runs=tmp_path / "other", out=tmp_path / "none", quiet=True)
    assert not list((tmp_path / "other").rglob("evaluations"))  # it is said before anything is judged
    wrong = TOML.replace('on = ["standard"]', 'on = ["standart"]')
    (tmp_path / "wrong.toml").write_text(wrong)
    with pytest.raises(InputError, match="unknown row 'standart'"):
        read_plan(str(tmp_path / "wrong.toml"))


def test_images_that_are_all_alike_have_no_components_and_still_a_nearest() -> None:
    """A dead layer ended in a ZeroDivisionError, or an IndexError, after all attacks had been paid for."""
    for count in (3, 50):
        flat = Space("dead", torch.zeros(count, 5), torch.arange(count) % 2, torch.zeros(4, 5), torch.arange(4) % 2, {})
        dead = replace(flat, moved={"fgsm()": torch.ones(4, 5)})
        assert not [*dead.spectrum(), *dead.class_means(), *dead.places()]
        assert "fgsm() to 2.24" in dead.nearest().sentence


def test_features_of_a_random_model_are_the_same_each_time() -> None:
    net = nn.Sequential(GaussianNoise(0.3), nn.Flatten())
    x = torch.rand(4, 1, 2, 2)
    before = torch.random.get_rng_state()
    assert torch.equal(features(net, "1", x), features(net, "1", x))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_study_may_be_worked_on_another_device(tmp_path: Path, other_device: torch.device) -> None:
    (tmp_path / "lie.toml").write_text(TOML)
    result, _ = run_study(
        str(tmp_path / "lie.toml"), runs=tmp_path / "runs", out=tmp_path, device=other_device.type, quiet=True
    )
    assert {row.evaluation.provenance.device for row in result.rows} == {str(other_device)}
    transfer = f"transfer(surrogate='{result.rows[0].run}', attack=fgsm())"
    (tmp_path / "lie.toml").write_text(TOML.replace('["fgsm()", "pgd(steps=5)"]', f'["{transfer}"]'))
    result, _ = run_study(
        str(tmp_path / "lie.toml"), runs=tmp_path / "runs", out=tmp_path, device=other_device.type, quiet=True
    )
    assert [geometry.threat for geometry in result.geometries] == ["linf(eps=0.2)"]
