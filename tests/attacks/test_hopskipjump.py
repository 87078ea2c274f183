"""What is special to HopSkipJump: it sees decisions only, and comes close to the optimum if it may ask enough."""

import math
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, Crafting, HopSkipJump, Oracle
from sparring.attacks.active import Closest
from sparring.attacks.freezing import frozen
from sparring.attacks.hopskipjump import _Walk
from sparring.core.randomness import seeded
from sparring.core.threat import THREATS

NORMS = ("linf", "l2")


class Decisions(nn.Module):
    """Says which class another network sees and no more; of no use to whoever wants a gradient."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        logits = self.net(x)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(x.dtype)


@pytest.mark.parametrize("norm", NORMS)
def test_decisions_are_all_it_needs(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    attack = HopSkipJump(steps=4, evaluations=10)
    soft, hard = (run(attack, model, data.x, data.y, f"{norm}(inf)") for model in (net, Decisions(net)))
    assert soft.success.all()
    assert torch.equal(soft.x, hard.x)
    assert torch.equal(soft.forwards, hard.forwards)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("norm", "at_most"), [("l2", 1.03), ("linf", 1.06)])
def test_with_enough_questions_it_comes_near_the_optimum(
    norm: str, at_most: float, classes: int, linear: Callable
) -> None:
    generator = torch.Generator().manual_seed(classes)
    weight = torch.randn(classes, 16, generator=generator)
    net = linear(weight, -weight.sum(1) / 2)
    x = 0.45 + 0.1 * torch.rand(16, 1, 4, 4, generator=generator)
    with torch.no_grad():
        logits = net(x)
    y = logits.argmax(1)
    dual = torch.linalg.vector_norm(weight[y][:, None] - weight, ord={"linf": 1, "l2": 2}[norm], dim=2)
    reach = ((logits.amax(1, keepdim=True) - logits) / dual).nan_to_num(math.inf).amin(1)
    found = run(HopSkipJump(steps=20, evaluations=60), net, x, y, f"{norm}(inf)")
    assert found.success.all()
    ratio = found.distance / reach
    assert ratio.min() > 1 - 1e-4
    assert ratio.median() < at_most
    early = run(HopSkipJump(steps=2, evaluations=10), net, x, y, f"{norm}(inf)")
    assert (early.distance / reach).median() > 1.2  # and it is the questions that bring it there


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_never_lead_further_away(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    found = [run(HopSkipJump(steps=n, evaluations=8), net, data.x, data.y, f"{norm}(inf)") for n in (1, 3, 6)]
    for few, more in pairwise(found):
        assert bool((more.distance <= few.distance).all())
        assert more.distance.sum() < few.distance.sum()


def test_within_eps_an_example_ends_and_pays_no_more(net: nn.Module, data: SimpleNamespace) -> None:
    attack = HopSkipJump(steps=8, evaluations=8)
    free = run(attack, net, data.x, data.y, "l2(inf)")
    eps = float(free.distance.median()) * 1.2
    found = run(attack, net, data.x, data.y, f"l2({eps})")
    assert torch.equal(found.success, free.distance <= eps)
    assert bool((found.forwards[found.success] < free.forwards[found.success]).any())
    assert torch.equal(found.forwards[~found.success], free.forwards[~found.success])


@pytest.mark.parametrize("norm", NORMS)
def test_pixels_at_zero_and_one_move(norm: str, linear: Callable) -> None:
    # class 1 wins where pixels 1 and 3, of weights 1 and -1, move inward by 0.4 together; the others are no help
    net = linear(torch.tensor([[0.0, 0.0, 0.0, 0.0], [-3.0, 1.0, 3.0, -1.0]]), torch.tensor([2.4, 0.0]))
    x = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)
    found = run(HopSkipJump(steps=10, evaluations=30), net, x, torch.tensor([0]), f"{norm}(inf)")
    assert found.success.all()
    moved = (found.x - x).flatten()
    assert moved[1] > 0.1
    assert moved[3] < -0.1
    assert found.distance.item() < {"l2": 0.2 * math.sqrt(2), "linf": 0.2}[norm] * 1.1


def test_towards_a_target_it_begins_from_an_image_of_that_class(linear: Callable) -> None:
    # class 2 lives where even pixels are white and odd ones black, which noise does not come near
    odd = torch.arange(64) % 2
    weight = torch.stack([torch.zeros(64), torch.ones(64), 10 - 20.0 * odd])
    net = linear(weight, torch.tensor([0.0, -30.0, -310.0]))
    x, y, target = torch.full((2, 1, 8, 8), 0.2), torch.zeros(2).long(), torch.full((2,), 2)
    attack = HopSkipJump(steps=6, evaluations=20)
    lost = run(attack, net, x, y, "l2(inf)", target=target)
    assert not lost.success.any()
    assert torch.equal(lost.x, x)
    assert lost.forwards.tolist() == [100, 100]
    corner = 1.0 - odd.view(8, 8)
    start = torch.stack([corner, torch.full_like(corner, 0.5)])[:, None]  # the second is of no use: class 1
    found = run(attack, net, x, y, "l2(inf)", target=target, start=start)
    assert found.success.tolist() == [True, False]
    assert found.distance[0] < (start - x)[0].norm() * 0.98
    nearer = run(attack, net, x, y, "l2(inf)", start=torch.full_like(x, 0.5))  # any class: begins at the image given
    assert nearer.success.all()


def test_one_example_alone_is_asked_about_in_large_batches(net: nn.Module, data: SimpleNamespace) -> None:
    sizes = []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = run(HopSkipJump(steps=3, evaluations=100), net, data.x[:1], data.y[:1], "l2(inf)")
    assert max(sizes) == int(100 * math.sqrt(3))
    assert sum(sizes) == int(found.forwards) + 2


def test_evaluations_grow_with_the_root_of_the_step_up_to_their_limit(net: nn.Module, data: SimpleNamespace) -> None:
    costs = []
    for most in (10_000, 20):
        attack = HopSkipJump(steps=4, evaluations=20, max_evaluations=most)
        sizes = []
        hook = net.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        run(attack, net, data.x[:1], data.y[:1], "l2(inf)")
        hook.remove()
        costs.append([size for size in sizes if size > 1])
    assert costs == [[20, 28, 34, 40], [20, 20, 20, 20]]


@pytest.mark.parametrize(
    "spec", ["hopskipjump(steps=0)", "hopskipjump(evaluations=0)", "hopskipjump(max_evaluations=-1)"]
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="hopskipjump: "):
        ATTACKS.parse(spec)


def test_of_a_random_model_no_image_that_was_found_is_lost(net: nn.Module, make_data: Callable) -> None:
    """The last image of a bisection may have fooled by chance; asked again it did not, and nothing was kept."""

    class Noisy(nn.Module):
        adaptive = frozenset({"eot"})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return net(x + 0.05 * torch.randn_like(x))

    data = make_data(net, 30)
    crafting = Crafting(draws=20)
    with seeded(0), frozen(Noisy()):
        oracle = Oracle(Noisy(), torch.arange(30), crafting=crafting)
        active = Closest(oracle, data.x, data.y, THREATS.parse("l2(inf)"), None, stop=False, clear=0)
        _Walk(oracle, active, THREATS.parse("l2(inf)")).begin()
    assert len(active.reached) > 20
    assert active.reached.isfinite().float().mean() > 0.95
