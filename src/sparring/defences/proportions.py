"""The proportions in which images are mixed."""

from functools import lru_cache

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from sparring.core.errors import InputError

QUANTILES = 4096  # of the Beta distribution, of which some are drawn: no wait for the device


def draw_shares(
    size: tuple[int, ...], alpha: float, generator: torch.Generator, weights: tuple[float, ...] = ()
) -> Tensor:
    """Return proportions of this size on the device: evenly from `weights`, or if there are none Beta(alpha, alpha)."""
    where = generator.device
    values = torch.tensor(weights, device=where) if weights else _quantiles(alpha, where)
    return values[torch.randint(len(values), size, generator=generator, device=where)]


@lru_cache(maxsize=8)
def _quantiles(alpha: float, device: torch.device) -> Tensor:
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, levels)).float().to(device)


def check_proportions(name: str, weights: tuple[float, ...], alpha: float) -> None:
    """Raise InputError unless `weights` are proportions and `alpha` makes a Beta distribution."""
    check_alpha(name, alpha)
    if not all(0 <= weight <= 1 for weight in weights):
        raise InputError(f"{name}: weights are proportions from 0 to 1, not {weights}")


def check_alpha(name: str, alpha: float) -> None:
    """Raise InputError unless `alpha` makes a Beta distribution."""
    if not 0 < alpha < float("inf"):
        raise InputError(f"{name}: alpha of the Beta distribution must be above 0, not {alpha}")
