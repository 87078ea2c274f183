"""Uniform noise in front of a classifier (Liang, Hayes & Althoff 2017)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise(Mask):
    """Adds to each value of an image noise drawn evenly from `low` to `high`, anew each time, and cuts to [0, 1].

    An honest attacker averages gradients over draws (EOT). The cut passes the gradient on as it is: else pixels at 0
    and 1, which noise moves out of the range, would seem not to matter.
    """

    name = "additive_noise"
    source = "Liang, Hayes & Althoff 2017"
    low: float = -3 / 255
    high: float = 3 / 255

    def __post_init__(self) -> None:
        if not -1 <= self.low <= self.high <= 1:
            raise InputError(f"additive_noise: low and high lie in [-1, 1], low first, not {self.low} and {self.high}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        return Noise(self.low, self.high)


class Noise(nn.Module):
    """Images (B, C, H, W) in [0, 1] to noisy ones."""

    adaptive = frozenset({"eot"})

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._low, self._high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy images; the noise is drawn from torch's global random state."""
        noisy = x + torch.empty_like(x).uniform_(self._low, self._high)
        return noisy + (noisy.clamp(0, 1) - noisy).detach()
