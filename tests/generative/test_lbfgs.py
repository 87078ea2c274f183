"""L-BFGS on many problems at once: closed forms, an independent library, and rows that do not meddle."""

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from sparring.core.lbfgs import _pair, lbfgs


def quadratics(count: int = 6, size: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    return half @ half.mT + 0.1 * torch.eye(size), torch.randn(count, size, generator=generator, dtype=torch.float64)


def rosenbrock(z: Tensor, _rows: Tensor) -> tuple[Tensor, Tensor]:
    leaf = z.detach().requires_grad_(True)
    value = (100 * (leaf[:, 1:] - leaf[:, :-1] ** 2) ** 2 + (1 - leaf[:, :-1]) ** 2).sum(1)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def test_it_finds_the_minima_of_quadratics() -> None:
    hessians, minima = quadratics()

    def objective(z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        slope = torch.einsum("bij,bj->bi", hessians[rows], z - minima[rows])
        return ((z - minima[rows]) * slope).sum(1) / 2, slope

    found = lbfgs(objective, torch.zeros_like(minima), 150)
    assert torch.allclose(found, minima, atol=1e-5)


def test_it_finds_what_scipy_finds_in_as_many_steps() -> None:
    starts = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, _ = rosenbrock(lbfgs(rosenbrock, starts, 60), torch.arange(5))

    def one(z: object) -> tuple[float, object]:
        value, slope = rosenbrock(torch.as_tensor(z)[None], torch.arange(1))
        return value.item(), slope[0].numpy()

    theirs = [minimize(one, s.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": 60}).fun for s in starts]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-6)


def test_a_row_is_as_it_would_be_alone_and_none_ends_higher() -> None:
    starts = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for steps in (1, 3, 10):
        together = lbfgs(rosenbrock, starts, steps)
        alone = torch.cat([lbfgs(rosenbrock, start[None], steps) for start in starts])
        assert torch.allclose(together, alone, rtol=1e-9)
        assert bool((rosenbrock(together, torch.arange(5))[0] <= rosenbrock(starts, torch.arange(5))[0]).all())


def test_a_row_with_no_way_down_stays_and_the_others_go_on() -> None:
    """The first row is flat, the second climbs whichever way it goes, the third is not a number."""

    def objective(z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = (z - 1).square().sum(1), 2 * (z - 1)
        value = torch.where(rows == 0, 0.0, torch.where(rows == 1, z.abs().sum(1), value))
        slope = torch.where((rows == 0)[:, None], 0.0, torch.where((rows == 1)[:, None], -1.0, slope))
        return torch.where(rows == 2, torch.nan, value), slope

    found = lbfgs(objective, torch.zeros(4, 3), 20)
    assert torch.equal(found[:3], torch.zeros(3, 3))
    assert torch.allclose(found[3], torch.ones(3))
    assert lbfgs(objective, torch.zeros(0, 3), 5).shape == (0, 3)


def test_a_first_step_is_no_longer_than_one_however_steep_it_is() -> None:
    def objective(z: Tensor, _rows: Tensor) -> tuple[Tensor, Tensor]:
        return 1e8 * z.square().sum(1), 2e8 * z

    assert float(lbfgs(objective, torch.ones(2, 3), 20).abs().max()) < 1e-3


def test_a_pair_without_curvature_counts_for_nothing() -> None:
    moved = torch.tensor([[1.0, 0], [1.0, 0], [0.0, 0]])
    changed = torch.tensor([[2.0, 0], [-2.0, 0], [0.0, 0]])
    assert _pair(moved, changed)[2].tolist() == [0.5, 0, 0]
