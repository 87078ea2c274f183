"""L-BFGS for many small problems side by side (Nocedal & Wright 2006, algorithm 7.4), each with its own step."""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
SUFFICIENT = 1e-4  # of the decrease that the slope promises
SHORTER = 0.35  # what a step is multiplied with when it does not decrease enough
TRIES = 8
MEMORY = 8  # pairs of steps and changes of gradient


def lbfgs(objective: Objective, z: Tensor, steps: int) -> Tensor:
    """Return points (B, D) from `z` on downhill; none ends higher than it began.

    `objective(z, rows)` gives the values (B',) and gradients (B', D) at points (B', D) of these rows of the batch.
    Rows do not influence each other. A row that finds no way down stays where it is.
    """
    everyone = torch.arange(len(z), device=z.device)
    value, gradient = objective(z, everyone)
    pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
    for step in range(steps):
        direction = -_two_loops(gradient, pairs)
        slope = (gradient * direction).sum(1)
        uphill = ~(slope < 0)
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(1), slope)
        first = 1 / gradient.norm(dim=1).clamp(min=1) if step == 0 else torch.ones_like(value)
        moved, value, changed = _search(objective, z, value, gradient, direction, slope, first)
        pairs.append(_pair(moved - z, changed - gradient))
        z, gradient = moved, changed
    return z


def _search(
    objective: Objective,
    z: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
    slope: Tensor,
    length: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, values and gradients after a backtracking search; rows that find nothing keep what they had."""
    z, value, gradient = z.clone(), value.clone(), gradient.clone()
    rows = torch.arange(len(z), device=z.device)
    for _ in range(TRIES):
        tried = z[rows] + length[rows, None] * direction[rows]
        found, at = objective(tried, rows)
        down = found <= value[rows] + SUFFICIENT * length[rows] * slope[rows]  # never true of NaN
        won = rows[down]
        z[won], value[won], gradient[won] = tried[down], found[down], at[down]
        rows = rows[~down]
        if not len(rows):
            break
        length[rows] *= SHORTER
    return z, value, gradient


def _pair(moved: Tensor, changed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a step, its change of gradient, and 1 / their product; that is 0, to be ignored, without curvature."""
    product = (moved * changed).sum(1)
    curved = product > 1e-10 * changed.square().sum(1)
    return moved, changed, torch.where(curved, 1 / product, 0.0)


def _two_loops(gradient: Tensor, pairs: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return the inverse Hessian, as `pairs` know it, times the gradient (B, D)."""
    direction, weights = gradient, []
    for moved, changed, inverse in reversed(pairs):
        weight = inverse * (moved * direction).sum(1)
        direction = direction - weight[:, None] * changed
        weights.append(weight)
    scale = torch.ones(len(gradient), device=gradient.device, dtype=gradient.dtype)
    for _, changed, inverse in pairs:  # of the latest pair that counts: 1 / (inverse * |changed|^2)
        scale = torch.where(inverse > 0, 1 / (inverse * changed.square().sum(1)), scale)
    direction = scale[:, None] * direction
    for (moved, changed, inverse), weight in zip(pairs, reversed(weights), strict=True):
        again = inverse * (changed * direction).sum(1)
        direction = direction + (weight - again)[:, None] * moved
    return direction
