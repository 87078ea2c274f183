"""The steps onto a hyperplane inside the box are the shortest there are, by solvers that know nothing of them."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, linprog
from torch import Tensor

from sparring.attacks.hyperplane import landing

ORDER = {"linf": math.inf, "l2": 2, "l1": 1}
every_norm = pytest.mark.parametrize("norm", list(ORDER))
Array = NDArray[np.float64]


def problem(seed: int, *, pixels: int = 12, rows: int = 6) -> tuple[Tensor, Tensor]:
    """Give two points in the box for each row, many pixels at its border, and normals of which some entries are 0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, rows, pixels, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.4, x.round(), x)
    w = torch.randn(rows, pixels, generator=generator) * 10 ** torch.randn(rows, 1, generator=generator)
    return x, w.masked_fill(torch.rand(w.shape, generator=generator) < 0.1, 0)


def furthest(x: Tensor, w: Tensor, side: Tensor) -> Tensor:
    """Give what w @ delta can reach in the box on this side of 0 (-1 or 1), (n, B, 1)."""
    corner = ((w * side) > 0).to(x.dtype)
    return ((corner - x) * w).masked_fill(w == 0, 0).sum(2, keepdim=True)


def shortest(norm: str, x: Array, w: Array, gap: float) -> float:
    """Give the least length of a step inside the box that closes the gap."""
    d = len(w)
    if norm == "linf":  # delta, and a bound on all its sizes
        sizes = np.vstack([np.hstack([s * np.eye(d), -np.ones((d, 1))]) for s in (1, -1)])
        bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
        found = linprog(np.append(np.zeros(d), 1), sizes, np.zeros(2 * d), np.append(w, 0)[None], [gap], bounds)
        return float(found.fun)
    if norm == "l1":  # delta = up - down
        bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
        return float(linprog(np.ones(2 * d), A_eq=np.append(w, -w)[None], b_eq=[gap], bounds=bounds).fun)
    w, gap = w / np.abs(w).max(), gap / np.abs(w).max()

    def step(t: float) -> Array:
        return np.clip(t * w, -x, 1 - x)

    reach = 1e8 * np.sign(gap)
    t = brentq(lambda t: float(w @ step(t)) - gap, *sorted((0.0, reach)), xtol=1e-14, rtol=1e-14)
    return float(np.linalg.norm(step(t)))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("side", [-1.0, 1.0])
@every_norm
def test_steps_close_the_gap_and_none_is_shorter(norm: str, side: float, share: float) -> None:
    for seed in range(3):
        x, w = problem(seed)
        gap = share * furthest(x, w, torch.tensor(side))
        delta = landing(norm, x, w, gap) - x
        scale = w.abs().sum(1, keepdim=True)
        assert bool((((delta * w).sum(2, keepdim=True) - gap).abs() <= 1e-5 * scale).all())
        length = torch.linalg.vector_norm(delta.double(), ord=ORDER[norm], dim=2)
        for at in np.ndindex(2, len(w)):
            least = shortest(norm, x[at].double().numpy(), w[at[1]].double().numpy(), gap[at].item())
            assert length[at] == pytest.approx(least, rel=1e-4, abs=1e-5)


@every_norm
def test_no_random_step_in_the_box_that_closes_the_gap_is_shorter(norm: str) -> None:
    generator = torch.Generator().manual_seed(5)
    x, w = (t.double() for t in problem(3, pixels=3))
    x = x.clamp(0.1, 0.9)
    gap = 0.4 * furthest(x, w, torch.tensor(1.0))
    best = torch.linalg.vector_norm(landing(norm, x, w, gap) - x, ord=ORDER[norm], dim=2)
    for _ in range(2000):
        delta = torch.rand(x.shape, generator=generator, dtype=x.dtype) - x
        towards = (delta * w).sum(2, keepdim=True)
        delta = delta * gap / towards  # on the hyperplane; in the box where it still fits
        fits = ((x + delta >= 0) & (x + delta <= 1)).all(2)
        length = torch.linalg.vector_norm(delta, ord=ORDER[norm], dim=2)
        assert bool((~fits | (length >= best * (1 - 1e-5))).all())


@every_norm
def test_a_hyperplane_beyond_the_box_gives_its_furthest_corner(norm: str) -> None:
    x, w = problem(1)
    w = torch.where(w.abs() < 1e-3 * w.abs().amax(1, keepdim=True), 0, w)
    for side in (-1.0, 1.0):
        most = furthest(x, w, torch.tensor(side))
        found = landing(norm, x, w, 2 * most)
        assert torch.allclose(found, torch.where(w == 0, x, (w * side > 0).to(x.dtype)), atol=1e-6)


@every_norm
def test_a_point_on_the_hyperplane_stays_and_a_second_projection_changes_nothing(norm: str) -> None:
    x, w = problem(2)
    assert torch.equal(landing(norm, x, w, torch.zeros(2, len(w), 1)), x)
    gap = 0.5 * furthest(x, w, torch.tensor(1.0))
    once = landing(norm, x, w, gap)
    left = gap - ((once - x) * w).sum(2, keepdim=True)
    assert torch.allclose(landing(norm, once, w, left), once, atol=1e-4)


@every_norm
def test_the_scale_of_the_normal_does_not_matter_not_even_where_its_square_vanishes(norm: str) -> None:
    x, w = problem(4)
    gap = 0.5 * furthest(x, w, torch.tensor(1.0))
    found = landing(norm, x, w, gap)
    for scale in (1e-25, 1e15):
        assert torch.allclose(landing(norm, x, w * scale, gap * scale), found, atol=1e-5)


@every_norm
def test_pixels_without_weight_never_move_and_a_normal_of_nought_moves_none(norm: str) -> None:
    x, w = problem(0)
    for factor in (0.5, 3.0):
        found = landing(norm, x, w, factor * furthest(x, w, torch.tensor(-1.0)))
        assert torch.equal(torch.where(w == 0, found, x), x)
    assert torch.equal(landing(norm, x, torch.zeros_like(w), torch.ones(2, len(w), 1)), x)


@every_norm
def test_double_precision_is_kept(norm: str) -> None:
    x, w = (t.double() for t in problem(0))
    gap = 0.5 * furthest(x, w, torch.tensor(1.0))
    found = landing(norm, x, w, gap)
    assert found.dtype == torch.float64
    assert (((found - x) * w).sum(2, keepdim=True) - gap).abs().max() < 1e-4 * w.abs().sum(1).max()
