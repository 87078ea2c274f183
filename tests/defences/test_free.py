"""What is special to free adversarial training: one pass a replay, and the perturbation that lives on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError
from sparring.core.randomness import seeded
from sparring.core.threat import L1, L2, Linf, ThreatModel
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import DEFENCES, Free
from sparring.models import MLP
from sparring.recipe import Recipe
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

RATE = 0.3


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,)).build((1, 8, 8), 10)


def setup() -> Setup:
    return Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=RATE, momentum=0).build(net), Constant()))


def batch(begin: int, end: int) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(begin, end))


def step(defence: Free, state: State, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return defence.step(state, x, y, progress=0.0, generator=torch.Generator())


def test_two_batches_are_the_papers_algorithm_read_slowly() -> None:
    """Each image's gradients alone, by hand: delta += share * eps * sign, cut to the ball and to [0, 1]."""
    eps, share, replays = 0.1, 0.4, 3
    defence = Free(threat=Linf(eps), replays=replays, rel_step_size=share)
    state, slow = defence.init(setup()), network()
    deltas = [torch.zeros(1, 1, 8, 8) for _ in range(6)]
    for begin, end in ((0, 6), (6, 10)):  # the second batch is smaller
        x, y = batch(begin, end)
        losses = []
        for _ in range(replays):
            steps = [torch.zeros_like(weight) for weight in slow.parameters()]
            for place, (image, label) in enumerate(zip(x.split(1), y.split(1), strict=True)):
                moved = (image + deltas[place]).clamp(0, 1).requires_grad_(True)
                loss = F.cross_entropy(slow(moved), label)
                grad, *own = torch.autograd.grad(loss, [moved, *slow.parameters()])
                steps = [total + part / len(x) for total, part in zip(steps, own, strict=True)]
                delta = (moved.detach() - image + share * eps * grad.sign()).clamp(-eps, eps)
                deltas[place] = (image + delta).clamp(0, 1) - image
                losses.append(loss.detach())
            with torch.no_grad():
                for weight, part in zip(slow.parameters(), steps, strict=True):
                    weight -= RATE * part
        metrics = step(defence, state, x, y)
        assert torch.allclose(metrics["loss"], torch.stack(losses).mean(), rtol=1e-4)
    for a, b in zip(slow.parameters(), defence.deploy(state).parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(torch.cat(deltas), state.extra["delta"], atol=1e-6)


def test_a_replay_costs_one_forward_and_one_backward_and_steps_the_weights_once() -> None:
    defence = Free(threat=Linf(0.1), replays=5)
    state, counts = defence.init(setup()), {"forward": 0, "backward": 0, "updates": 0}
    learner = state.learners["classifier"]

    def counting(name: str) -> Callable[..., None]:
        def count(*_: object) -> None:
            counts[name] += 1

        return count

    learner.network.register_forward_hook(counting("forward"))
    last = [module for module in learner.network.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.register_hook(counting("backward"))
    learner.optimiser.register_step_post_hook(counting("updates"))
    step(defence, state, *batch(0, 32))
    assert counts == {"forward": 5, "backward": 5, "updates": 5}


def test_a_batch_begins_with_the_last_ones_delta_and_a_small_one_leaves_the_rest() -> None:
    defence = Free(threat=Linf(0.1), replays=2)
    state, seen = defence.init(setup()), []
    step(defence, state, *batch(0, 32))
    before = state.extra["delta"]
    assert before.abs().amax() > 0.05
    defence.deploy(state).register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach()))
    x, y = batch(32, 44)
    step(defence, state, x, y)
    assert torch.allclose(seen[0], (x + before[:12]).clamp(0, 1))
    after = state.extra["delta"]
    assert not torch.equal(after[:12], before[:12])
    assert torch.equal(after[12:], before[12:])
    step(defence, state, *batch(44, 100))  # larger than any before
    assert len(state.extra["delta"]) == 56


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.8), L1(3.0), Linf(float("inf"))], ids=repr)
def test_delta_stays_in_the_ball_of_any_norm_and_images_in_their_range(threat: ThreatModel) -> None:
    defence = Free(threat=threat, replays=4, rel_step_size=0.7)
    state = defence.init(setup())
    for begin in (0, 32):
        x, y = batch(begin, begin + 32)
        step(defence, state, x, y)
        x_adv = x + state.extra["delta"]
        assert (threat.distance(x_adv, x) <= threat.eps * 1.0001).all()
        assert (threat.distance(x_adv, x) > 0).all()
        assert x_adv.min() > -1e-6
        assert x_adv.max() < 1 + 1e-6


@pytest.mark.parametrize("at", [3, 9])
def test_it_goes_on_to_the_same_bits(
    at: int, recipe: Callable[..., Recipe], same_after_a_break: Callable[[Recipe, int], None]
) -> None:
    same_after_a_break(recipe(defence="free(threat=linf(0.1), replays=2)"), at)


@pytest.mark.parametrize("wrong", ["replays=0", "rel_step_size=0", "rel_step_size=inf"])
def test_settings_that_make_no_sense_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=r"^free: .*, not"):
        DEFENCES.parse(f"free(threat=linf(0.1), {wrong})")


def test_a_network_without_a_gradient_in_its_input_is_refused() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.detach())

    given = setup()
    defence = Free(threat=Linf(0.1))
    state = defence.init(Setup(given.shape, given.classes, Deaf, given.learner))
    with pytest.raises(InputError, match="free: the model gives no gradient"):
        step(defence, state, *batch(0, 8))


def test_a_mask_without_a_gradient_does_not_stop_the_images_from_moving() -> None:
    x, y = batch(0, 32)
    threat = Linf(0.1)
    masked = DEFENCES.parse("masked(masks=(bit_depth(bits=8),), defence=free(threat=linf(0.1), replays=2))")
    states = [defence.init(setup()) for defence in (masked, Free(threat=threat, replays=2))]
    for defence, state in zip((masked, Free(threat=threat, replays=2)), states, strict=True):
        defence.step(state, x, y, progress=0.0, generator=torch.Generator())
    behind, bare = (state.extra["delta"] for state in states)
    assert float((behind.sign() == bare.sign()).float().mean()) > 0.95  # of 8 bits the mask hardly changes anything
