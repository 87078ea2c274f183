"""JPEG compression in front of a classifier (Dziugaite et al. 2016, arXiv:1608.00853), whole batches at once.

Baseline JPEG (ITU-T T.81, 1992) without its lossless part, which changes no pixel: YCbCr, 8x8 cosine transforms,
rounding by the standard's tables scaled as libjpeg does, and back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.models.mask import Mask

SIDE = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * SIDE,) * 4,
)  # fmt: skip
TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
SOFTNESS = 0.15  # of the steps that an attacker's rounding has, as a share of their height
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@dataclass(frozen=True, kw_only=True)
class JPEG(Mask):
    """Compresses each image at `quality`, 1 to 100, and opens it again; colours are kept at full size (4:4:4).

    Rounding has no gradient: an honest attacker takes that of soft steps (BPDA), which tells waves that are rounded
    away from those that a small change lifts over a step (after Shin & Song 2017, "JPEG-resistant adversarial images").
    """

    name = "jpeg"
    source = "arXiv:1608.00853"
    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"jpeg: quality is 1 to 100, not {self.quality}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        if shape[0] not in (1, 3):
            raise InputError(f"jpeg: images have one channel or three, not {shape[0]}")
        return Compression(self.quality, shape[0])


class Compression(nn.Module):
    """Images (B, 1 or 3, H, W) in [0, 1] to what is left of them."""

    adaptive = frozenset({"bpda"})
    cosines: Tensor
    tables: Tensor

    def __init__(self, quality: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("cosines", _cosines(), persistent=False)
        self.register_buffer("tables", _tables(quality, channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with 256 levels."""
        return self._opened(x.clamp(0, 1), _levels, _in_eighths)

    def approximation(self, x: Tensor) -> Tensor:
        """Return nearly the same, with a gradient: only waves are rounded, and softly."""
        return self._opened(x, nn.Identity(), _softly)

    def _opened(
        self, x: Tensor, levels: Callable[[Tensor], Tensor], rounded: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Compress and open; `levels` makes pixels what a file can hold, `rounded` waves multiples of the tables."""
        high, wide = x.shape[2:]
        middle = x.new_tensor([0.0, 128, 128])[:, None, None]
        pixels = levels(255 * x)
        if x.shape[1] == 3:
            pixels = levels(_turned(pixels, TO_YCBCR) + middle)
        padded = F.pad(pixels - 128, (0, -wide % SIDE, 0, -high % SIDE), mode="replicate")
        blocks = padded.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)  # (B, C, rows, columns, 8, 8)
        waves = rounded(self.cosines @ blocks @ self.cosines.T, self.tables)
        back = (self.cosines.T @ waves @ self.cosines).transpose(3, 4).reshape(padded.shape)
        pixels = levels(back[:, :, :high, :wide] + 128)
        if x.shape[1] == 3:
            pixels = levels(_turned(pixels - middle, TO_RGB))
        return pixels / 255


def _levels(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255)


def _in_eighths(waves: Tensor, tables: Tensor) -> Tensor:
    """Return the nearest multiples of `tables`, halves away from 0; libjpeg's waves are in eighths."""
    waves = (SIDE * waves).round() / SIDE
    return waves.sign() * (waves.abs() / tables + 0.5).floor() * tables


def _softly(waves: Tensor, tables: Tensor) -> Tensor:
    """Return nearly the same, by stairs whose steps are those of a normal distribution's function."""
    steps = waves / tables
    below = steps.detach().floor()
    soft: Tensor = below + torch.special.ndtr((steps - below - 0.5) / SOFTNESS)
    return soft * tables


def _turned(levels: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    turned: Tensor = torch.einsum("ij,bjhw->bihw", levels.new_tensor(matrix), levels)
    return turned


def _cosines() -> Tensor:
    """Return the orthonormal cosine transform of eight values, (8, 8)."""
    place = torch.arange(SIDE, dtype=torch.float64)
    matrix: Tensor = torch.cos((2 * place[None, :] + 1) * place[:, None] * torch.pi / (2 * SIDE)) * (2 / SIDE) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.float()


def _tables(quality: int, channels: int) -> Tensor:
    """Return the standard's tables, scaled as libjpeg does, one a channel: (C, 1, 1, 8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE][:channels])
    return ((tables * scale + 50) // 100).clamp(1, 255)[:, None, None].float()
