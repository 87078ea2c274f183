"""Certificates by randomised smoothing: never more than the truth, not much less, and the same whoever is beside."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn

from sparring import report
from sparring.cli import main
from sparring.core.errors import InputError
from sparring.core.records import load as load_record
from sparring.core.results import Certified, Estimate, Evaluation
from sparring.core.threat import L1, L2, Linf
from sparring.data import load
from sparring.defences.masks import Median, Smooth
from sparring.defences.masks.smooth import GaussianNoise
from sparring.evaluation import evaluate
from sparring.evaluation.audit import Subject
from sparring.evaluation.audit.figures import sandwich
from sparring.evaluation.certify import ALPHA, certified, certify, l2_radius, noise_of
from sparring.models.batch_statistics import with_batch_statistics
from sparring.models.mask import Mask, Masked
from sparring.recipe import Recipe, fit, open_run
from sparring.studies.gathering import gather

SIGMA = 0.25
SHAPE = (1, 4, 4)


class Linear(nn.Module):
    """Two or more classes by a linear map; the distance to the nearest boundary is known."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, 16, generator=drawn))

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T

    def distances(self, x: Tensor) -> Tensor:
        """Return each image's distance to the nearest boundary of its class, (N,)."""
        logits, said = self(x), self(x).argmax(1)
        gaps = logits.gather(1, said[:, None]) - logits
        lengths = (self.weight[said][:, None] - self.weight).norm(dim=2)
        return (gaps / lengths).nan_to_num(math.inf).where(lengths > 0, math.inf).amin(1)  # type: ignore[no-any-return]


def smoothed(net: nn.Module, *further: Mask, first: Mask | None = None) -> Masked:
    masks = (Smooth(sigma=SIGMA) if first is None else first, *further)
    return Masked(masks, [mask.blank(SHAPE, {}) for mask in masks], net).eval()


def images(count: int = 60) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("classes", [2, 7])
def test_of_a_linear_classifier_no_radius_is_more_than_the_distance_to_its_boundary_nor_much_less(classes: int) -> None:
    net, x = Linear(classes), images()
    truth = net.distances(x).detach()
    found = certify(smoothed(net), x, draws=4000)
    named = found.predicted >= 0
    assert torch.equal(found.predicted[named], net(x).argmax(1)[named])
    assert bool((found.radius <= truth).all())
    if classes == 2:  # with more, the second class's share is bounded by all that is left
        p = torch.from_numpy(norm.cdf(truth / SIGMA))
        sure = p < 0.99
        assert sure.sum() > 20
        assert bool((found.radius >= truth - 0.25 * SIGMA)[sure].all())
        assert bool((truth[~named] < 0.1).all())
    assert bool((found.radius[~named] == 0).all())


def test_the_radius_is_the_papers_formula_with_an_independent_interval() -> None:
    net = smoothed(Linear(2))
    x, draws = images(1), 300
    found = certify(net, x, draws=draws, seed=5)
    counts = [
        k
        for k in range(draws + 1)
        if math.isclose(
            SIGMA * norm.ppf(binomtest(k, draws).proportion_ci(1 - 2 * ALPHA, "exact").low),
            float(found.radius),
            rel_tol=1e-5,
        )
    ]
    assert len(counts) == 1  # the radius is that of one number of draws, and two-sided at 2 alpha is one-sided at alpha


def test_noise_is_the_images_own_and_leaves_no_trace() -> None:
    model, x = smoothed(Linear(3)), images(12)
    model.classifier.train()
    state = torch.get_rng_state()
    whole = certify(model, x, draws=200, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.classifier.training
    assert all(parameter.requires_grad for parameter in model.classifier.parameters())
    rows = torch.tensor([7, 2, 11])
    some = certify(model, x[rows], draws=200, seed=3, ids=rows)
    assert torch.equal(some.radius, whole.radius[rows])
    other = certify(model, x, draws=200, seed=4)
    assert not torch.equal(other.radius, whole.radius)


def test_who_sees_two_classes_alike_abstains() -> None:
    class Undecided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            said = (x.flatten(1).sum(1) > 8).long()
            return torch.nn.functional.one_hot(said, 2).float()

    found = certify(smoothed(Undecided()), torch.full((3, *SHAPE), 0.5), draws=2000)
    assert found.predicted.tolist() == [-1, -1, -1]
    assert found.radius.tolist() == [0, 0, 0]


def test_only_noise_on_the_image_itself_proves_anything() -> None:
    net = Linear(2)
    assert noise_of(smoothed(net)) == SIGMA
    assert noise_of(smoothed(net, Median())) == SIGMA
    for other in (net, smoothed(net, Smooth(sigma=SIGMA), first=Median()), nn.Sequential(GaussianNoise(0.1), net)):
        assert noise_of(other) == 0
        with pytest.raises(InputError, match="first mask is not smooth"):
            certify(other, images(2))
    for wrong in ({"draws": 0}, {"alpha": 0.0}, {"alpha": 1.0}):
        with pytest.raises(InputError, match="draws must be at least 1"):
            certify(smoothed(net), images(2), **wrong)  # type: ignore[arg-type]
    for sigma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="smooth: sigma"):
            Smooth(sigma=sigma)


def test_the_l2_ball_holds_the_others() -> None:
    x = images(50).flatten(1)
    for threat in (Linf(eps=0.1), L2(eps=0.5), L1(eps=2.0)):
        step = threat.steepest(torch.randn(50, *SHAPE, generator=torch.Generator().manual_seed(0))).flatten(1)
        length = (threat.eps * step).norm(dim=1)
        assert bool((length <= l2_radius(threat, x.shape[1]) * (1 + 1e-6)).all())


def test_the_record_counts_only_the_right_and_certified() -> None:
    net, x = Linear(3), images()
    found = certify(smoothed(net), x, draws=500)
    y = net(x).argmax(1)
    y[:20] = (y[:20] + 1) % 3
    record = certified(found, y, SIGMA, 500, L2(eps=0.3), 16)
    right = (found.predicted == y) & (found.radius > 0.3)
    assert record.accuracy.value == pytest.approx(right.double().mean().item())
    assert record.abstained.value == pytest.approx((found.predicted < 0).double().mean().item())
    assert record.smoothed.value <= 40 / 60
    shares = [share.value for _, share in record.curve]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == record.smoothed.value
    assert shares[-1] == 0  # no radius is more than that of draws that all agree


def outcome(proven: Certified | None, left: Estimate, votes_for: int = 0) -> str:
    """Return what the check says where no example stands, and the vote on so many worst images is right."""
    x, model = images(40), smoothed(Linear(2))
    y = certify(model, x, draws=300).predicted
    y[votes_for:] = 1 - y[votes_for:]
    none = torch.zeros(40, dtype=torch.bool)
    bout = SimpleNamespace(worst_x=x, y=y, right=~none, standing=none)
    subject = SimpleNamespace(certified=proven, robust=left, bout=bout, bare=model, some=lambda places, _: places)
    return sandwich(cast("Subject", subject)).outcome


class Sure(nn.Module):
    """Barely of class 0 for most of the noise around a grey image, and of class 1 beyond doubt for the rest."""

    def forward(self, x: Tensor) -> Tensor:
        barely, surely = x.new_tensor([0.1, -0.1]), x.new_tensor([-20.0, 20.0])
        return torch.where((x.flatten(1).mean(1) > 0.46)[:, None], barely, surely)


def test_a_vote_that_stands_where_the_mean_probability_falls_is_no_contradiction() -> None:
    """Both figures are right, of different classifiers; the audit failed the evaluation."""
    x, y = torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64)
    found = evaluate(smoothed(Sure()), (x, y), "l2(0.02)", "pgd(steps=3)", curve=(), certify=1000)
    assert found.certified is not None
    assert found.certified.accuracy.low > found.robust.high
    assert next(each.outcome for each in found.audit if each.check == "sandwich") == "warn"


class Nowhere(nn.Module):
    """Says NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * torch.nan


def test_nothing_is_certified_of_a_model_that_says_nan() -> None:
    found = certify(smoothed(Nowhere()), images(3), draws=100)
    assert found.predicted.tolist() == [-1] * 3
    assert found.radius.tolist() == [0] * 3


def test_what_cannot_be_certified_is_refused() -> None:
    model = smoothed(Linear(2))
    for x, ids, said in (
        (images(3), torch.arange(2), "2 ids for 3 images"),
        (images(3)[0], None, "expected float32 images"),
        (255 * images(3), None, "outside"),
    ):
        with pytest.raises(InputError, match=said):
            certify(model, x, draws=10, ids=ids)
    with pytest.raises(InputError, match="9 draws prove nothing even where all agree; take 10 or more"):
        certify(model, images(3), draws=9)
    with pytest.raises(InputError, match="draws depend on each other"):
        certify(with_batch_statistics(smoothed(nn.Sequential(nn.BatchNorm2d(1), Linear(2)))), images(3), draws=10)


def test_more_proven_than_left_is_a_failure() -> None:
    labels = Linear(2)(images(40)).argmax(1)
    found = certified(certify(smoothed(Linear(2)), images(40), draws=300), labels, SIGMA, 300, L2(eps=0.01), 16)
    assert found.accuracy.low > 0.3
    assert outcome(found, Estimate(0.1, 0.05, 0.2, 40)) == "fail"
    assert outcome(found, Estimate(0.1, 0.05, 0.2, 40), votes_for=40) == "warn"
    assert outcome(found, Estimate(0.99, 0.9, 1, 40)) == "passed"
    assert outcome(replace(found, accuracy=Estimate(0.5, 0.1, 0.9, 3)), Estimate(0.2, 0.15, 0.3, 40)) == "passed"
    assert outcome(None, Estimate(0, 0, 0.1, 40)) == "not run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields = {"data": "digits()", "model": "mlp(hidden=(64,))", "optimiser": "adam(lr=0.01)", "epochs": 15}
    recipe = Recipe.of({**fields, "defence": f"masked(masks=(smooth(sigma={SIGMA}),))"})
    return fit(recipe, runs=tmp_path_factory.mktemp("runs"), quiet=True).run.path


def test_an_evaluation_shows_both_ends(trained: Path, tmp_path: Path) -> None:
    model, data = open_run(trained).model, load("digits()")
    arguments: dict[str, Any] = {"examples": 60, "curve": ()}
    found = evaluate(model, data, "l2(0.25)", "pgd(steps=10, rel_step_size=0.3)", certify=400, **arguments)
    proven = found.certified
    assert proven is not None
    assert (proven.sigma, proven.draws, proven.radius) == (SIGMA, 400, 0.25)
    assert 0.4 < proven.accuracy.value <= found.robust.high
    assert proven.smoothed.value > 0.85
    assert not [flag for flag in found.flags if flag.check == "sandwich"]
    assert found.arrays["gallery/seen_adv"].shape == found.arrays["gallery/x_adv"].shape
    noise = found.arrays["gallery/seen"] - found.arrays["gallery/x"]
    assert 0.15 < noise.std() < 0.35  # what the gallery shows behind the masks is what they make of it
    found.save(tmp_path / "record.json")
    assert load_record(Evaluation, tmp_path / "record.json").certified == proven
    assert evaluate(model, data, "l2(0.25)", "fgsm()", certify=0, **arguments).certified is None
    with pytest.raises(InputError, match="draws must be at least 1"):
        evaluate(model, data, "l2(0.25)", "fgsm()", certify=-1, **arguments)


def test_the_command_line_and_the_report_tell_it(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["sparring", "evaluate", str(trained), "--threat", "l2(0.25)", "--attack", "fgsm()", "--examples", "30"]
    for draws in (100, 0):
        monkeypatch.setattr(sys, "argv", [*ask, "--certify", str(draws)])
        with pytest.raises(SystemExit, match="0"):
            main()
        assert ("certified" in capsys.readouterr().out) == (draws > 0)
    page = report.write(gather([trained]), trained / "report")
    html = page.read_text(encoding="utf-8")
    assert html.count("What is proven, beside what attacks left") == 1
    assert "L2, certified" in html
    assert "clean, behind the masks" in html


def test_it_certifies_the_same_on_another_device(other_device: torch.device) -> None:
    here = certify(smoothed(Linear(3)), images(10), draws=300)
    there = certify(smoothed(Linear(3)).to(other_device), images(10), draws=300)
    assert torch.equal(there.predicted.cpu(), here.predicted)
    assert torch.allclose(there.radius.cpu(), here.radius)
