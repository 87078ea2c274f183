"""What is special to DDN: the paper's sphere, step by step."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError, run
from sparring.attacks import ATTACKS, DDN


def slow_ddn(net: nn.Module, x: Tensor, y: Tensor, *, steps: int, init_norm: float, gamma: float) -> Tensor:
    """Run the paper's algorithm 1 on one image (1, C, H, W); give the nearest."""
    delta, radius, best = torch.zeros_like(x), init_norm, torch.full_like(x, math.inf)
    farthest = float(torch.where(x < 0.5, 1 - x, x).norm())
    for step in range(steps):
        at = (x + delta).requires_grad_()
        logits = net(at)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, y), at)
        if int(logits.argmax()) != int(y):
            best = delta if float(delta.norm()) < float(best.norm()) else best
            radius *= 1 - gamma
        else:
            radius *= 1 + gamma
        radius = min(radius, farthest)
        step_size = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = delta + step_size * grad / grad.norm()
        delta = (x + delta * radius / delta.norm()).clamp(0, 1) - x
    with torch.no_grad():
        if int(net(x + delta).argmax()) != int(y) and float(delta.norm()) < float(best.norm()):
            best = delta
    return x + best


@pytest.mark.parametrize("gamma", [0.05, 0.3])
def test_the_full_course_is_that_of_a_slow_loop(gamma: float, net: nn.Module, data: SimpleNamespace) -> None:
    attack = DDN(steps=15, init_norm=0.5, gamma=gamma)
    found = run(attack, net, data.x, data.y, "l2(inf)")
    assert found.success.any()
    for i in torch.nonzero(found.success).flatten().tolist():
        one, label = data.x[i : i + 1], data.y[i : i + 1]
        slow = slow_ddn(net, one, label, steps=15, init_norm=0.5, gamma=gamma)
        assert torch.allclose(found.x[i : i + 1], slow, atol=1e-5)


def test_a_step_is_one_forward_and_one_backward_and_the_last_image_is_looked_at(
    net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(DDN(steps=12), net, data.x, data.y, "l2(inf)")
    assert (found.forwards == 12 + 1).all()
    assert (found.backwards == 12).all()


def test_an_example_ends_once_it_is_within_eps(net: nn.Module, data: SimpleNamespace) -> None:
    free, bound = (run(DDN(), net, data.x, data.y, f"l2({eps})") for eps in ("inf", 1.5))
    assert (bound.distance[bound.success] <= 1.5).all()
    assert bound.forwards.sum() < free.forwards.sum() / 2


@pytest.mark.parametrize("text", ["ddn(steps=0)", "ddn(init_norm=0)", "ddn(init_norm=inf)", "ddn(gamma=1)"])
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="ddn: "):
        ATTACKS.parse(text)
