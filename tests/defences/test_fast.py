"""One-step training: fast and N-FGSM by their papers, and the look-out for catastrophic overfitting."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError
from sparring.core.randomness import seeded, uniform
from sparring.core.study_results import EpochMetrics
from sparring.core.threat import L2, Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import AWP, DEFENCES, NFGSM, Defence, Fast, overfitting
from sparring.defences.base import draw_seed
from sparring.defences.overfitting import WATCHED
from sparring.evaluation.checks import catastrophic_overfitting
from sparring.models import MLP
from sparring.recipe import Recipe, fit
from sparring.studies import run_study
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

EPS = 0.1


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,)).build((1, 8, 8), 10)


def setup(build: Callable[[], nn.Module] = network) -> Setup:
    return Setup((1, 8, 8), 10, build, lambda net: Learner(net, SGD(lr=1e-12, momentum=0).build(net), Constant()))


def batch(size: int = 12) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def slow_images(net: nn.Module, x: Tensor, y: Tensor, radius: float, size: float, bound: float) -> Tensor:
    """Take each image alone: noise of `radius`, a step of `size` from there, cut to `bound` and to [0, 1]."""
    seed, moved = draw_seed(generator()), []
    for place, (image, label) in enumerate(zip(x.split(1), y.split(1), strict=True)):
        noise = (2 * uniform(seed, torch.tensor([place]), 0, 65)[:, :-1] - 1).view_as(image) * radius
        start = (image + noise).clamp(0, 1).requires_grad_(True)
        (grad,) = torch.autograd.grad(F.cross_entropy(net(start), label), start)
        end = start.detach() + size * grad.sign()
        moved.append((image + (end - image).clamp(-bound, bound)).clamp(0, 1))
    return torch.cat(moved)


@pytest.mark.parametrize(
    ("defence", "radius", "size", "bound"),
    [
        (Fast(threat=Linf(EPS)), EPS, 1.25 * EPS, EPS),
        (Fast(threat=Linf(EPS), rel_step_size=0.5), EPS, 0.5 * EPS, EPS),
        (NFGSM(threat=Linf(EPS)), 2 * EPS, EPS, math.inf),
        (NFGSM(threat=Linf(EPS), noise=0.5, rel_step_size=1.5), 0.5 * EPS, 1.5 * EPS, math.inf),
    ],
    ids=str,
)
def test_images_and_loss_are_the_papers_formulas_read_slowly(
    defence: Fast | NFGSM, radius: float, size: float, bound: float
) -> None:
    x, y = batch()
    net = network()
    slow = slow_images(net, x, y, radius, size, bound)
    assert torch.allclose(defence.images(net, x, y, generator=generator()), slow, atol=1e-6)
    loss, metrics = defence.loss(net, x, y, progress=0.0, generator=generator())
    each = [-math.log(net(image[None])[0].softmax(0)[k].detach()) for image, k in zip(slow, y.tolist(), strict=True)]
    assert float(loss.detach()) == pytest.approx(sum(each) / len(each), rel=1e-4)
    assert set(metrics) == {"adversarial_accuracy"}


def test_n_fgsm_leaves_the_ball_by_its_noise_and_never_the_range_of_pixels() -> None:
    x, y = batch(64)
    for threat, pixels in ((Linf(EPS), 0.3), (L2(1.0), 0)):
        x_adv = NFGSM(threat=threat).images(network(), x, y, generator=generator())
        distance = threat.distance(x_adv, x)
        assert (distance > threat.eps).any()
        assert (distance <= 3 * threat.eps * 1.0001).all()
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        assert ((x_adv - x).abs() > threat.eps).float().mean() >= pixels * 0.5
    within = Fast(threat=L2(1.0)).images(network(), x, y, generator=generator())
    assert (L2(1.0).distance(within, x) <= 1.0001).all()


@pytest.mark.parametrize("defence", [Fast(threat=Linf(EPS)), NFGSM(threat=Linf(EPS))], ids=str)
def test_a_step_costs_two_forwards(defence: Defence) -> None:
    state, calls = defence.init(setup()), []
    defence.deploy(state).register_forward_pre_hook(lambda _m, inputs: calls.append(len(inputs[0])))
    defence.step(state, *batch(), progress=0.0, generator=generator())
    assert calls == [12, 12]


@pytest.mark.parametrize("crafting", ["train", "eval"])
def test_batch_norm_crafts_with_the_batchs_statistics_unless_told_otherwise(crafting: str) -> None:
    x, y = batch(32)
    with seeded(0):
        net = MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)
    modes: list[bool] = []
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm1d))
    norm.register_forward_pre_hook(lambda module, _inputs: modes.append(module.training))
    for kind in (Fast, NFGSM):
        kind(threat=Linf(EPS), crafting=crafting).images(net, x, y, generator=generator())
    assert modes == [crafting == "train"] * 2
    assert Fast(threat=Linf(EPS)).crafting == NFGSM(threat=Linf(EPS)).crafting == "train"


@pytest.mark.parametrize("call", ["fast(threat=linf(0.1))", "n_fgsm(threat=linf(0.1))"])
def test_it_goes_on_to_the_same_bits(
    call: str, recipe: Callable[..., Recipe], same_after_a_break: Callable[[Recipe, int], None]
) -> None:
    same_after_a_break(recipe(defence=call), 11)


@pytest.mark.parametrize(
    "call",
    [
        "fast(threat=linf(0.1), rel_step_size=0)",
        "fast(threat=linf(0.1), rel_step_size=inf)",
        "n_fgsm(threat=linf(0.1), rel_step_size=-1)",
        "n_fgsm(threat=linf(0.1), noise=-1)",
        "n_fgsm(threat=linf(0.1), noise=inf)",
    ],
)
def test_settings_that_make_no_sense_are_refused(call: str) -> None:
    with pytest.raises(InputError, match=r"^(fast|n_fgsm): (rel_step_size|noise) .*, not"):
        DEFENCES.parse(call)


# --------------------------------------------------------------------------------------------- catastrophic overfitting


class Rippled(nn.Module):
    """Right at an image of 0.5 and a whole eps away, wrong half-way: what one step misses and several find."""

    def __init__(self, *, sound: bool = False) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.ones(1, 1))  # a matrix, which AWP perturbs
        self.sound = sound

    def forward(self, x: Tensor) -> Tensor:
        away = (x.flatten(1).mean(1) - 0.5) / EPS
        lead = self.height[0] * ((2 - away.abs()) if self.sound else torch.cos(2 * math.pi * away))
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)


ONE_STEP = (
    "adversarial(attack=fgsm(), threat=linf(0.1))",
    "adversarial(attack=pgd(steps=1, rel_step_size=1, random_start=false), threat=linf(0.1), mix=0.5)",
    "adversarial(attack=mifgsm(steps=1), threat=linf(0.1))",
    "alp(attack=fgsm(), threat=linf(0.1))",
    "fast(threat=linf(0.1))",
    "n_fgsm(threat=linf(0.1))",
    "free(threat=linf(0.1), replays=2)",
    "awp(defence=adversarial(attack=fgsm(), threat=linf(0.1)))",
    "ema(defence=fast(threat=linf(0.1)))",
    "manifold_mixup(layers=('input',), attack=fgsm(), threat=linf(0.1))",
)


def at_the_end_of_an_epoch(call: str, *, sound: bool) -> tuple[dict[str, float], State]:
    defence = DEFENCES.parse(call)
    state = defence.init(setup(lambda: Rippled(sound=sound)))
    x, y = torch.full((100, 1, 8, 8), 0.5 + 0.05 * EPS), torch.zeros(100, dtype=torch.int64)
    for _ in range(2):
        defence.step(state, x, y, progress=0.0, generator=generator())
    means: dict[str, float] = {}
    defence.epoch_end(state, means)
    return means, state


@pytest.mark.parametrize("call", ONE_STEP)
def test_an_overfitted_network_is_found_out_and_a_sound_one_is_not_accused(call: str) -> None:
    found, state = at_the_end_of_an_epoch(call, sound=False)
    assert found["overfitting"] == 1
    assert found["one_step_accuracy"] > 0.8
    assert found["pgd_accuracy"] < 0.1
    assert all(parameter.requires_grad for parameter in state.learners["classifier"].network.parameters())
    found, _ = at_the_end_of_an_epoch(call, sound=True)
    assert found == {"one_step_accuracy": 1, "pgd_accuracy": 1, "overfitting": 0}


@pytest.mark.parametrize(
    "call",
    [
        "adversarial(attack=pgd(steps=2), threat=linf(0.1))",
        "adversarial(attack=uniform_noise(), threat=linf(0.1))",
        "awp(defence=trades(threat=linf(0.1)))",
        "standard()",
    ],
)
def test_other_training_spends_nothing_on_it(call: str) -> None:
    found, state = at_the_end_of_an_epoch(call, sound=False)
    assert not found
    assert not state.extra


def test_the_last_examples_are_kept_newest_first_and_in_a_memory_of_their_own() -> None:
    state = State({})
    for begin, end in ((0, 100), (100, 150), (150, 160)):
        rows = torch.arange(begin, end)
        overfitting.remember(state, rows.float().view(-1, 1, 1, 1), rows)
    expected = [*range(150, 160), *range(100, 150), *range(WATCHED - 60)]
    assert state.extra["watched.y"].tolist() == expected
    assert state.extra["watched.x"].flatten().tolist() == expected
    many = torch.rand(1000, 1, 1, 1)
    overfitting.remember(state, many, torch.zeros(1000))
    assert torch.equal(state.extra["watched.x"], many[:WATCHED])
    assert state.extra["watched.x"].untyped_storage().nbytes() == WATCHED * 4  # else checkpoints hold the batch


@pytest.mark.parametrize(
    "call",
    [
        "fast(threat=linf(0.1))",
        "a3t(threat=linf(0.1), layer='1')",
        "multi_task(layer='1', attack=fgsm(), threat=linf(0.1))",
        "manifold_mixup(layers=('1',), attack=fgsm(), threat=linf(0.1))",
    ],
)
def test_the_figures_are_written_with_the_epochs(call: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    fitted = fit(recipe(defence=call), runs=tmp_path, quiet=True)
    for epoch in fitted.run.read_metrics():
        assert {"loss", "one_step_accuracy", "pgd_accuracy", "overfitting"} <= set(epoch.metrics)


def epochs(*flagged: bool) -> list[EpochMetrics]:
    shown = {True: {"one_step_accuracy": 0.95, "pgd_accuracy": 0.02, "overfitting": 1.0}, False: {"overfitting": 0.0}}
    return [EpochMetrics(place, {"loss": 1.0, **shown[flag]}, 1.0) for place, flag in enumerate(flagged)]


def test_a_study_is_told_of_it() -> None:
    assert catastrophic_overfitting([]) is None
    assert catastrophic_overfitting([EpochMetrics(0, {"loss": 1.0}, 1.0)]) is None
    assert catastrophic_overfitting(epochs(False, False)) is None
    passing, lasting = (catastrophic_overfitting(epochs(*flags)) for flags in ((False, True, False), (False, True)))
    assert passing is not None
    assert lasting is not None
    assert passing.severity == lasting.severity == "warn"
    assert passing.message == (
        "catastrophic overfitting in 1 of 3 epochs: after epoch 2 one step left 95.0% of training images right, "
        "PGD 2.0%"
    )
    assert lasting.message.endswith("PGD 2.0%; the last epoch among them")


def test_the_warning_stands_in_the_studys_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfitting, "GAP", -1.1)  # every epoch counts
    (tmp_path / "one.toml").write_text(
        'name = "one"\ntitle = "One"\npaper = "none"\nsummary = "?"\n[recipe]\ndata = "digits()"\n'
        'model = "mlp(hidden=(16,))"\nepochs = 1\n[evaluation]\nthreat = "linf(0.1)"\nattacks = ["fgsm()"]\n'
        'examples = 20\ncurve = []\n[[rows]]\nname = "fast"\ndefence = "fast(threat=linf(0.1))"\n'
        '[[rows]]\nname = "standard"\ndefence = "standard()"\n'
    )
    study, _ = run_study(str(tmp_path / "one.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    raised = [[flag.check for flag in row.evaluation.flags] for row in study.rows]
    assert "catastrophic overfitting" in raised[0]
    assert "catastrophic overfitting" not in raised[1]


def test_weights_may_be_perturbed_around_it() -> None:
    x, y = batch()
    sharper = AWP(defence=Fast(threat=Linf(EPS)), gamma=0.05)
    losses = []
    for defence in (sharper.defence, sharper):
        state = defence.init(setup())
        losses.append(float(defence.step(state, x, y, progress=0.0, generator=generator())["loss"]))
    assert losses[1] > losses[0]
