"""Fewer pixels in front of a classifier (Liang, Hayes & Althoff 2017)."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.models.mask import Mask

Interpolation = Literal["nearest", "bilinear", "bicubic", "area"]


@dataclass(frozen=True, kw_only=True)
class Downsample(Mask):
    """Shrinks each image's sides to the share `factor`, and enlarges it again to its old size.

    `interpolation` both ways; bilinear and bicubic shrink without aliasing. All have a gradient as they stand.
    """

    name = "downsample"
    source = "Liang, Hayes & Althoff 2017"
    factor: float = 0.5
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise InputError(f"downsample: factor is a share of the sides, above 0 and below 1, not {self.factor}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        small = round(shape[1] * self.factor), round(shape[2] * self.factor)
        if min(small) < 1:
            raise InputError(f"downsample: {self.factor} of {shape[1]}x{shape[2]} leaves no pixel")
        if small == shape[1:]:
            raise InputError(f"downsample: {self.factor} of {shape[1]}x{shape[2]} is as many pixels as before")
        return ThereAndBack(small, self.interpolation)


class ThereAndBack(nn.Module):
    """Images (B, C, H, W) to the size `small` and back."""

    def __init__(self, small: tuple[int, int], interpolation: Interpolation) -> None:
        super().__init__()
        self._small, self._interpolation = small, interpolation

    def forward(self, x: Tensor) -> Tensor:
        """Return the images with what is left of them."""
        smooth = self._interpolation in ("bilinear", "bicubic")
        corners = False if smooth else None
        small = F.interpolate(x, self._small, mode=self._interpolation, align_corners=corners, antialias=smooth)
        back = F.interpolate(small, x.shape[2:], mode=self._interpolation, align_corners=corners)
        return back.clamp(0, 1)
