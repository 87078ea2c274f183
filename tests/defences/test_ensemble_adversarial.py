"""What is special to ensemble adversarial training: whose images, in what order, and who stays as it was."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError
from sparring.attacks import FGSM, PGD
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import DEFENCES, EnsembleAdversarial, ensemble_adversarial
from sparring.models import MLP
from sparring.recipe import Recipe, fit
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

NAMES = ("run-a", "run-b")


def network() -> nn.Module:
    with seeded(5):
        return MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with two trained networks."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(NAMES):
        fields = {"data": "digits()", "model": 'mlp(hidden=(12,), norm="batch")', "optimiser": "adam(lr=0.01)"}
        fitted = fit(Recipe.of({**fields, "epochs": 1, "seed": seed}), runs=folder, quiet=True)
        fitted.run.path.rename(folder / name)
    return folder


def setup(runs: Path) -> Setup:
    make = lambda net: Learner(net, SGD(lr=0.1).build(net), Constant())  # noqa: E731
    return Setup((1, 8, 8), 10, network, make, runs)


def batch(size: int = 12) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("mix", [0.5, 0.3])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_loss_is_the_papers_read_slowly_whoever_makes_the_images(
    place: int, mix: float, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble_adversarial, "_draw", lambda count, _generator: place)
    defence = EnsembleAdversarial(attack=FGSM(), threat=Linf(0.1), surrogates=NAMES, mix=mix)
    state = defence.init(setup(runs))
    net = defence.deploy(state).eval()
    maker = [net, *state.networks.values()][place]
    x, y = batch()
    slow, images, seen = [], [], []
    for image, label in zip(x.split(1), y.split(1), strict=True):
        image = image.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(F.cross_entropy(maker(image), label), image)
        moved = (image + 0.1 * grad.sign()).clamp(0, 1)
        with torch.no_grad():
            of_clean, of_moved = (-math.log(net(shown)[0].softmax(0)[label]) for shown in (image, moved))
        slow.append((1 - mix) * of_clean + mix * of_moved)
        images.append(moved.detach())
    net.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach()))
    metrics = defence.step(state, x, y, progress=0.0, generator=generator())
    assert torch.allclose(seen[-1], torch.cat([x, *images]), atol=1e-6)
    assert float(metrics["loss"]) == pytest.approx(sum(slow) / len(slow), rel=1e-4)
    assert set(metrics) == {"loss", "accuracy", "adversarial_accuracy"}


def test_each_network_makes_the_images_of_about_as_many_batches_and_the_seed_says_which(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = ensemble_adversarial._draw

    def noted(count: int, source: torch.Generator) -> int:
        drawn.append(draw(count, source))
        return drawn[-1]

    monkeypatch.setattr(ensemble_adversarial, "_draw", noted)
    defence = EnsembleAdversarial(attack=FGSM(), threat=Linf(0.1), surrogates=NAMES)
    for _ in range(2):
        state, source = defence.init(setup(runs)), generator()
        for _ in range(300):
            defence.step(state, *batch(2), progress=0.0, generator=source)
    assert drawn[:300] == drawn[300:]
    counts = Counter(drawn[:300])
    assert set(counts) == {0, 1, 2}
    assert min(counts.values()) > 70  # of 100: 3.7 standard errors
    pairs = Counter(pairwise(drawn[:300]))
    assert len(pairs) == 9  # no order


def test_the_trained_networks_stay_as_they_are_and_out_of_the_checkpoint(runs: Path) -> None:
    defence = EnsembleAdversarial(attack=PGD(steps=2), threat=Linf(0.1), surrogates=NAMES)
    state, source = defence.init(setup(runs)), generator()
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in state.networks.values()]
    defence.deploy(state).train()
    for _ in range(6):
        defence.step(state, *batch(), progress=0.0, generator=source)
    for values, net in zip(before, state.networks.values(), strict=True):
        assert all(torch.equal(values[k], v) for k, v in net.state_dict().items())
        assert not any(module.training for module in net.modules())
        assert all(parameter.grad is None for parameter in net.parameters())
    saved = state.state_dict()
    assert set(saved) == {"learners", "extra", "losses"}
    assert set(saved["learners"]) == {"classifier"}
    assert not saved["extra"]


def test_it_looks_out_for_overfitting_to_one_step_alone(runs: Path) -> None:
    for attack, told in ((FGSM(), {"one_step_accuracy", "pgd_accuracy", "overfitting"}), (PGD(steps=2), set())):
        defence = EnsembleAdversarial(attack=attack, threat=Linf(0.1), surrogates=NAMES)
        state, means = defence.init(setup(runs)), {}
        defence.step(state, *batch(), progress=0.0, generator=generator())
        defence.epoch_end(state, means)
        assert set(means) == told


def test_it_goes_on_to_the_same_bits(
    runs: Path, recipe: Callable[..., Recipe], same_after_a_break: Callable[[Recipe, int], None]
) -> None:
    surrogates = tuple(str(runs / name) for name in NAMES)
    defence = EnsembleAdversarial(attack=FGSM(), threat=Linf(0.1), surrogates=surrogates)
    same_after_a_break(recipe(defence=repr(defence)), 10)


def test_runs_that_cannot_serve_are_named_in_one_line(runs: Path) -> None:
    def given(**changes: object) -> EnsembleAdversarial:
        return EnsembleAdversarial(**{"attack": FGSM(), "threat": Linf(0.1), "surrogates": NAMES, **changes})

    with pytest.raises(InputError, match=r"^ensemble_adversarial: surrogates: nowhere: there is no such"):
        given(surrogates=("run-a", "nowhere")).init(setup(runs))
    message = r"^ensemble_adversarial: run-a is of 10 classes of images \(1, 8, 8\); the data has 4 of \(1, 8, 8\)$"
    with pytest.raises(InputError, match=message):
        given().init(replace(setup(runs), classes=4))
    with pytest.raises(InputError, match=r"the data has 10 of \(1, 9, 9\)$"):
        given().init(replace(setup(runs), shape=(1, 9, 9)))
    with pytest.raises(InputError, match="surrogates is empty"):
        given(surrogates=())
    with pytest.raises(InputError, match="mix"):
        given(mix=0.0)
    with pytest.raises(InputError, match="'surrogates' is missing"):
        DEFENCES.parse("ensemble_adversarial(attack=fgsm(), threat=linf(0.1))")
