"""The moving average of weights: what a slow loop makes of them, around any defence, without a trace."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError
from sparring.core.randomness import seeded
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import DEFENCES, Defence
from sparring.models import MLP
from sparring.recipe import Recipe, fit
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

INNER = (
    "standard()",
    "awp(defence=trades(threat=linf(0.1), attack=pgd(steps=2, loss='kl')))",
    "free(threat=linf(0.1), replays=2)",
    "a3t(threat=linf(0.1), layer='1')",
    "gan_game(threat=linf(0.1), perturber=perturber(hidden=(24,)))",
)


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)


def setup() -> Setup:
    return Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=0.3).build(net), Constant()))


def trained(defence: Defence, state: State, steps: int) -> list[dict[str, Tensor]]:
    """Train, and return what the network was at the beginning and after each step."""
    x, y = load("digits()").train.batch(torch.arange(32))
    net, source = state.learners["classifier"].network, torch.Generator().manual_seed(0)
    seen = [{name: value.clone() for name, value in net.state_dict().items()}]
    with seeded(0):
        for _ in range(steps):
            defence.step(state, x, y, progress=0.0, generator=source)
            seen.append({name: value.clone() for name, value in net.state_dict().items()})
    return seen


def begun(call: str) -> tuple[Defence, State]:
    defence = DEFENCES.parse(call)
    with seeded(0):
        return defence, defence.init(setup())


@pytest.mark.parametrize("decay", [0.2, 0.9])
@pytest.mark.parametrize("inner", INNER)
def test_what_is_deployed_is_the_average_of_a_slow_loop(inner: str, decay: float) -> None:
    """0.2 bounds the warm-up's decay from the third step on (1/10, 2/11, 3/12), 0.9 never."""
    defence, state = begun(f"ema(defence={inner}, decay={decay})")
    seen = trained(defence, state, 5)
    averaged, plain = defence.deploy(state).state_dict(), defence.defence.deploy(state).state_dict()
    assert averaged.keys() == plain.keys()
    for name, value in averaged.items():
        if not value.is_floating_point():
            assert torch.equal(value, plain[name])
            continue
        slow = seen[0][name].double()
        for t, values in enumerate(seen[1:]):
            keep = min(decay, (1 + t) / (10 + t))
            slow = keep * slow + (1 - keep) * values[name].double()
        assert torch.allclose(value.double(), slow, atol=1e-6), name
    assert any(not torch.allclose(averaged[name], plain[name], atol=1e-4) for name in averaged)


@pytest.mark.parametrize("inner", INNER)
def test_training_is_as_without_it(inner: str) -> None:
    ends = []
    for call in (inner, f"ema(defence={inner})"):
        defence, state = begun(call)
        ends.append(trained(defence, state, 3)[-1])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_to_deploy_changes_nothing_and_shares_nothing() -> None:
    defence, state = begun("ema(defence=standard())")
    trained(defence, state, 3)
    net = state.learners["classifier"].network
    tensors = {**net.state_dict(), **state.extra}
    before = {name: value.clone() for name, value in tensors.items()}
    for parameter in defence.deploy(state).parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], value) for name, value in tensors.items())


def test_it_hands_on_what_the_defence_inside_has_to_say(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    game = "ema(defence=gan_game(threat=linf(0.1), perturber=perturber(hidden=(24,))))"
    fitted = fit(recipe(defence=game), runs=tmp_path, quiet=True)
    assert (fitted.run.path / "perturber.safetensors").is_file()
    watched = fit(recipe(defence="ema(defence=fast(threat=linf(0.1)))"), runs=tmp_path, quiet=True)
    assert "pgd_accuracy" in watched.run.read_metrics()[-1].metrics


def test_the_run_holds_the_average(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    fitted = fit(recipe(defence="ema(defence=standard())"), runs=tmp_path, quiet=True)
    extra = fitted.run.read_checkpoint()["state"]["extra"]
    assert int(extra["ema.steps"]) == 21
    assert all(torch.equal(extra[f"ema.{name}"], value) for name, value in fitted.model.named_parameters())


@pytest.mark.parametrize("at", [4, 13])
def test_it_goes_on_to_the_same_bits(
    at: int, recipe: Callable[..., Recipe], same_after_a_break: Callable[[Recipe, int], None]
) -> None:
    same_after_a_break(recipe(defence="ema(defence=fast(threat=linf(0.1)))"), at)


@pytest.mark.parametrize(
    "call",
    [
        "ema(defence=standard(), decay=0)",
        "ema(defence=standard(), decay=1)",
        "ema(defence=ema(defence=standard()))",
        "ema(defence=best_epoch(defence=standard(), threat=linf(0.1)))",
        "ema(defence=pixel_mix(defence=best_epoch(defence=standard(), threat=linf(0.1))))",
    ],
)
def test_what_makes_no_average_is_refused(call: str) -> None:
    with pytest.raises(InputError, match=r"^ema: "):
        DEFENCES.parse(call)
