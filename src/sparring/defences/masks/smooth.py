"""Gaussian noise for randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class Smooth(Mask):
    """Adds Gaussian noise of standard deviation `sigma` to each value, anew each time, and cuts nothing off.

    What a classifier says most often of an image so blurred by chance cannot change within an L2 radius that can be
    proven: an evaluation of a model with this mask as its first certifies each example (`sparring.evaluation.certify`).
    Trained behind it (`masked(masks=(smooth(sigma=0.25),))`) a classifier learns from noisy images, as the authors'
    does. An honest attacker averages gradients over draws (EOT).
    """

    name = "smooth"
    source = "arXiv:1902.02918"
    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise InputError(f"smooth: sigma is a standard deviation above 0, in pixels of [0, 1], not {self.sigma}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        return GaussianNoise(self.sigma)


class GaussianNoise(nn.Module):
    """Images (B, C, H, W) in [0, 1] to noisy ones, which may leave [0, 1]."""

    adaptive = frozenset({"eot"})

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy images; the noise is drawn from torch's global random state."""
        return x + self.sigma * torch.randn_like(x)
