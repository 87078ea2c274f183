"""What is special to FGSM: one step, of the gradient's sign or the norm's own steepest direction, by the book."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import run
from sparring.attacks import FGSM, craft
from sparring.core.threat import THREATS


def gradient(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    F.cross_entropy(net(x), labels, reduction="sum").backward()
    return x.grad


def test_it_adds_eps_times_the_sign_of_the_gradient(net: nn.Module, data: SimpleNamespace) -> None:
    expected = (data.x + 0.03 * gradient(net, data.x, data.y).sign()).clamp(0, 1)
    assert torch.equal(run("fgsm()", net, data.x, data.y, "linf(0.03)").x, expected)


def test_in_l2_it_goes_eps_along_the_gradient(net: nn.Module, data: SimpleNamespace) -> None:
    x = 0.4 + 0.2 * data.x  # away from the box
    y = net(x).argmax(1)
    grad = gradient(net, x, y).flatten(1)
    expected = x + (0.1 * grad / grad.norm(dim=1, keepdim=True)).view_as(x)
    assert torch.allclose(run("fgsm()", net, x, y, "l2(0.1)").x, expected, atol=1e-6)


def test_towards_a_target_it_goes_down_the_targets_loss(net: nn.Module, data: SimpleNamespace) -> None:
    target = (data.y + 1) % 5
    expected = (data.x - 0.03 * gradient(net, data.x, target).sign()).clamp(0, 1)
    assert torch.equal(run("fgsm()", net, data.x, data.y, "linf(0.03)", target=target).x, expected)


def test_no_step_is_taken_where_there_is_no_gradient(linear: Callable) -> None:
    net = linear(torch.zeros(2, 4), torch.tensor([1.0, 0.0]))
    x, y = torch.rand(3, 1, 2, 2), torch.zeros(3).long()
    for norm in ("linf", "l2", "l1"):
        assert torch.equal(run("fgsm()", net, x, y, f"{norm}(0.5)").x, x)


def test_labels_and_not_predictions_say_where_to_go(net: nn.Module, data: SimpleNamespace) -> None:
    x_adv = craft(FGSM(), net, data.x, data.wrong, THREATS.parse("linf(0.03)"), seed=0)
    expected = (data.x + 0.03 * gradient(net, data.x, data.wrong).sign()).clamp(0, 1)
    assert torch.equal(x_adv, expected)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_bound_it_goes_as_far_as_the_box_lets_it(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    found = run("fgsm()", net, data.x, data.y, f"{norm}({math.inf})")
    assert bool(found.x.isfinite().all())
    if norm == "linf":
        moved = found.x != data.x
        assert bool(((found.x == 0) | (found.x == 1))[moved].all())
