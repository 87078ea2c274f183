"""What is special to uniform noise: it needs no gradient, each draw is another, and of many the worst is kept."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import run
from sparring.attacks import Oracle, UniformNoise, craft
from sparring.attacks.losses import margin
from sparring.core.randomness import uniform
from sparring.core.threat import THREATS


class Blind(nn.Module):
    """A classifier that lets no gradient through."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.detach()).detach()


@pytest.mark.parametrize("draws", [1, 3])
def test_it_asks_for_no_gradient(draws: int, net: nn.Module, data: SimpleNamespace) -> None:
    found = run(UniformNoise(draws=draws), Blind(net), data.x, data.y, "linf(0.3)")
    assert not found.backwards.any()
    assert torch.equal(found.x, run(UniformNoise(draws=draws), net, data.x, data.y, "linf(0.3)").x)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_one_draw_is_the_oracles_first_noise_spread_over_the_ball(
    norm: str, net: nn.Module, data: SimpleNamespace
) -> None:
    threat = THREATS.parse(f"{norm}(0.2)")
    found = run(UniformNoise(), net, data.x, data.y, threat, seed=9)
    noise = uniform(9, torch.arange(len(data.x)), 0, data.x[0].numel() + 1)
    assert torch.allclose(found.x, threat.random_start(data.x, noise), atol=1e-7)


def test_of_many_draws_the_worst_is_kept(net: nn.Module, data: SimpleNamespace) -> None:
    threat, draws = THREATS.parse("linf(0.05)"), 6
    ids, size = torch.arange(len(data.x)), data.x[0].numel() + 1
    tried = [threat.random_start(data.x, uniform(0, ids, draw, size)) for draw in range(draws)]
    with torch.no_grad():
        worst = torch.stack([margin(net(x), data.y) for x in tried]).argmax(0)
    found = craft(UniformNoise(draws=draws), net, data.x, data.y, threat, seed=0)
    assert len(worst.unique()) > 1
    assert torch.allclose(found, torch.stack(tried)[worst, ids], atol=1e-6)


def test_the_first_draw_that_fools_ends_the_search(linear: Callable) -> None:
    # half of all draws raise the mean pixel, and that fools
    net = linear(torch.stack([torch.zeros(4), torch.ones(4)]), torch.tensor([2.0 + 1e-4, 0.0]))
    x, y = torch.full((200, 1, 2, 2), 0.5), torch.zeros(200).long()
    found = run(UniformNoise(draws=8), net, x, y, "linf(0.1)")
    ids = torch.arange(200)
    fools = torch.stack([uniform(0, ids, draw, 5)[:, :4].sum(1) > 2.0 + 5e-4 for draw in range(8)])
    first = torch.where(fools.any(0), fools.int().argmax(0) + 1, 8)
    assert (found.forwards == first).float().mean() > 0.98  # save for draws on the very boundary
    assert found.forwards.float().mean() < 2.5


def test_more_draws_never_do_worse(net: nn.Module, data: SimpleNamespace) -> None:
    few, many = (run(UniformNoise(draws=draws), net, data.x, data.y, "linf(0.2)") for draws in (2, 20))
    assert bool((many.success >= few.success).all())
    assert (margin(many.logits, data.y) >= margin(few.logits, data.y) - 1e-6)[~many.success].all()


def test_without_a_bound_it_is_an_image_of_noise(net: nn.Module, data: SimpleNamespace) -> None:
    found = run(UniformNoise(), net, data.x, data.y, f"linf({math.inf})", seed=4)
    noise = uniform(4, torch.arange(len(data.x)), 0, data.x[0].numel() + 1)
    assert torch.equal(found.x.flatten(1), noise[:, :-1])


def test_noise_of_the_oracle_follows_the_rows_that_are_left(net: nn.Module) -> None:
    oracle = Oracle(net, torch.tensor([5, 6, 7]), seed=1)
    oracle.keep(torch.tensor([True, False, True]))
    assert torch.equal(oracle.uniform(2, 3), uniform(1, torch.tensor([5, 7]), 0, 6).view(2, 2, 3))
    oracle.keep(torch.tensor([False, True]))
    assert torch.equal(oracle.uniform(4), uniform(1, torch.tensor([7]), 1, 4))
