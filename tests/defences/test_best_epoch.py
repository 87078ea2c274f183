"""Early stopping: the best epoch is deployed and not the last, patience ends training, and validation stays unseen."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError
from sparring.attacks import PGD, run
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import DEFENCES, EMA, BestEpoch, Standard
from sparring.defences.base import OneNetwork
from sparring.models import MLP
from sparring.recipe import Recipe, fit, run_of
from sparring.training.optimisers import SGD
from sparring.training.runs import Run
from sparring.training.schedules import Constant

THREAT = Linf(0.05)


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,)).build((1, 8, 8), 10)


def validation(count: int) -> tuple[Tensor, Tensor]:
    return load("digits()").validation.batch(torch.arange(count))


def setup() -> Setup:
    return Setup(
        (1, 8, 8),
        10,
        network,
        lambda net: Learner(net, SGD(lr=0.1).build(net), Constant()),
        validation=validation,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned(OneNetwork):
    """Is as good after each epoch as `shares` say: right on such a share of the validation images."""

    name = "planned"
    source = "this test"
    shares: tuple[float, ...]
    end: int = 99

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        state.extra["epoch"] = torch.zeros((), dtype=torch.int64)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        share = self.shares[int(state.extra["epoch"])]
        net = state.learners["classifier"].network
        assert isinstance(net, Answering)
        net.share.data.fill_(share)
        state.extra["epoch"] += 1
        return {"loss": torch.zeros(())}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        metrics["planned"] = float(state.extra["epoch"])

    def finished(self, state: State) -> bool:
        return int(state.extra["epoch"]) >= self.end


class Answering(nn.Module):
    """Right on as many of the validation images as its one parameter says: it knows them by their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(()))
        x, y = validation(100)
        self.register_buffer("sums", x.flatten(1).sum(1))
        self.register_buffer("labels", y)

    def forward(self, x: Tensor) -> Tensor:
        nearest = (x.flatten(1).sum(1)[:, None] - self.sums).abs().argmin(1)
        known = nearest < self.share * 100
        answers = torch.where(known, self.labels[nearest], (self.labels[nearest] + 1) % 10)
        return nn.functional.one_hot(answers, 10).float() + 0 * x.flatten(1).sum(1, keepdim=True)


def planned(*shares: float, patience: int = 0) -> tuple[BestEpoch, State]:
    defence = BestEpoch(defence=Planned(shares=shares), threat=Linf(0.0), patience=patience, examples=100)
    return defence, defence.init(dataclasses.replace(setup(), classifier=Answering))


def epoch(defence: BestEpoch, state: State) -> dict[str, float]:
    defence.step(state, *validation(2), progress=0.0, generator=torch.Generator())
    means: dict[str, float] = {}
    defence.epoch_end(state, means)
    return means


def share_of(network: nn.Module) -> float:
    return float(network.get_parameter("share").detach())


def test_the_best_epoch_is_deployed_and_of_equal_ones_the_first() -> None:
    shares = (0.2, 0.6, 0.5, 0.8, 0.3, 0.8, 0.1)
    defence, state = planned(*shares)
    deployed, told = [], []
    for _ in shares:
        told.append(epoch(defence, state)["validation_robust_accuracy"])
        deployed.append(share_of(defence.deploy(state)))
    assert told == pytest.approx(shares, abs=0.03)  # some images have the same sum
    assert deployed == pytest.approx([0.2, 0.6, 0.6, 0.8, 0.8, 0.8, 0.8])
    assert int(state.extra["epochs_since_best"]) == 3
    assert share_of(state.learners["classifier"].network) == pytest.approx(0.1)


@pytest.mark.parametrize(("patience", "end"), [(0, 6), (1, 2), (2, 5), (3, 6)])
def test_training_ends_when_patience_does(patience: int, end: int) -> None:
    shares = (0.5, 0.4, 0.6, 0.3, 0.2, 0.9)
    defence, state = planned(*shares, patience=patience)
    count = 0
    while count < len(shares) and not defence.finished(state):
        count += 1
        epoch(defence, state)
    assert count == end


def test_what_the_defence_inside_says_of_an_epoch_and_of_the_end_is_heard() -> None:
    defence = BestEpoch(defence=EMA(defence=Planned(shares=(0.5, 0.6), end=2)), threat=Linf(0.0), examples=100)
    state = defence.init(dataclasses.replace(setup(), classifier=Answering))
    assert epoch(defence, state)["planned"] == 1
    assert not defence.finished(state)
    assert epoch(defence, state)["planned"] == 2
    assert defence.finished(state)


def test_the_figures_are_the_attacks_on_what_would_be_deployed() -> None:
    attack = PGD(steps=3)
    inner = DEFENCES.parse("ema(defence=standard(), decay=0.9)")
    defence = BestEpoch(defence=inner, threat=THREAT, attack=attack, examples=50)
    state = defence.init(setup())
    x, y = load("digits()").train.batch(torch.arange(400))
    for _ in range(30):
        defence.step(state, x, y, progress=0.0, generator=torch.Generator())
    means = {"loss": 1.0}
    defence.epoch_end(state, means)
    found = run(attack, inner.deploy(state), *validation(50), THREAT)
    assert means == {
        "loss": 1.0,
        "validation_clean_accuracy": pytest.approx(1 - float(found.skipped.float().mean())),
        "validation_robust_accuracy": pytest.approx(1 - float(found.success.float().mean())),
    }
    assert means["validation_robust_accuracy"] < means["validation_clean_accuracy"]


def test_it_nests_around_an_average_of_perturbed_weights(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """What is deployed is the best epoch's average, by its own figure on the recipe's validation images."""
    call = (
        "best_epoch(defence=ema(defence=awp(defence=trades(threat=linf(0.05), attack=pgd(steps=2, loss='kl')))), "
        "threat=linf(0.05), attack=pgd(steps=5), examples=80)"
    )
    recipe = recipe(defence=call, epochs=5, optimiser="sgd(lr=2)", seed=3)
    fitted = fit(recipe, runs=tmp_path, quiet=True)
    told = [epoch.metrics["validation_robust_accuracy"] for epoch in fitted.run.read_metrics()]
    assert told[-1] < max(told)  # such a rate makes epochs uneven
    held = load("digits()").validation.sample(80, 3)
    found = run("pgd(steps=5)", fitted.model, held.images(), held.y, "linf(0.05)")
    assert 1 - float(found.success.float().mean()) == pytest.approx(max(told))


STILL = "best_epoch(defence=standard(), threat=linf(0.05), attack=pgd(steps=2), patience=2)"


def test_patience_ends_the_loop_and_a_restart_does_not_forget_it(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = recipe(defence=STILL, optimiser="sgd(lr=1e-12)", model="mlp(hidden=(16,))", epochs=9)

    def dies(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", dies)
        with pytest.raises(ZeroDivisionError):
            fit(still, runs=tmp_path, quiet=True)
    assert len(run_of(still, tmp_path).read_metrics()) == 3
    fitted = fit(still, runs=tmp_path, quiet=True)
    assert fitted.run.finished
    assert len(fitted.run.read_metrics()) == 3


@pytest.mark.parametrize("at", [5, 10, 19])
def test_it_goes_on_to_the_same_bits(
    at: int, recipe: Callable[..., Recipe], same_after_a_break: Callable[[Recipe, int], None]
) -> None:
    call = (
        "best_epoch(defence=ema(defence=fast(threat=linf(0.05))), threat=linf(0.05), attack=pgd(steps=2), patience=1)"
    )
    same_after_a_break(recipe(defence=call, optimiser="sgd(lr=1)"), at)


def test_a_step_around_another_costs_nothing_and_its_training_is_the_same(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    plain = fit(recipe(defence="standard()"), runs=tmp_path, quiet=True)
    around = fit(recipe(defence=STILL.replace("patience=2", "patience=0")), runs=tmp_path, quiet=True)
    ends = [fitted.run.read_checkpoint()["state"]["learners"]["classifier"]["network"] for fitted in (plain, around)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_validation_images_that_training_sees_or_that_are_not_there_are_refused(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    seen = recipe(defence=STILL, train_on="train+validation")
    with pytest.raises(InputError, match=r'^recipe: best_epoch .*; set train_on = "train"$'):
        fit(seen, runs=tmp_path, quiet=True)
    data = load("digits()")
    none = dataclasses.replace(data, validation=data.validation.take(torch.arange(0)))
    with pytest.raises(InputError, match=r"needs validation images, and digits.* has none"):
        fit(recipe(defence=STILL), runs=tmp_path, quiet=True, dataset=none)
    bare = dataclasses.replace(setup(), validation=Setup.validation)
    with pytest.raises(InputError, match="no validation images are at hand"):
        BestEpoch(defence=Standard(), threat=THREAT).init(bare)


@pytest.mark.parametrize(
    "call",
    [
        "best_epoch(defence=standard(), threat=linf(0.1), patience=-1)",
        "best_epoch(defence=standard(), threat=linf(0.1), examples=0)",
        "best_epoch(defence=standard(), threat=linf(0.1), attack=universal())",
        "best_epoch(defence=pixel_mix(defence=best_epoch(defence=standard(), threat=linf(0.1))), threat=linf(0.1))",
        "best_epoch(defence=best_epoch(defence=standard(), threat=linf(0.1)), threat=linf(0.1))",
    ],
)
def test_settings_that_make_no_sense_are_refused(call: str) -> None:
    with pytest.raises(InputError, match=r"^best_epoch: "):
        DEFENCES.parse(call)


def test_an_attack_without_a_form_for_the_norm_is_refused() -> None:
    with pytest.raises(InputError, match=r"^deepfool: attacks in .*, not in l1$"):
        DEFENCES.parse("best_epoch(defence=standard(), threat=l1(1), attack=deepfool())")
