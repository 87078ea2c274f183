"""A median filter in front of a classifier (Xu, Evans & Qi 2018, arXiv:1704.01155)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class Median(Mask):
    """Puts in each value's place the median of the `size` by `size` values around it; edges are mirrored.

    The median is one of the values, and has its gradient as it stands.
    """

    name = "median"
    source = "arXiv:1704.01155"
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise InputError(f"median: size must be an odd whole number, not {self.size}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        if self.size // 2 >= min(shape[1:]):
            raise InputError(f"median: a window of {self.size} is too large for images of {shape[1]}x{shape[2]}")
        return MedianFilter(self.size)


class MedianFilter(nn.Module):
    """Images (B, C, H, W) to their medians."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered images."""
        whole = F.pad(x, (self._size // 2,) * 4, mode="reflect")
        windows = whole.unfold(2, self._size, 1).unfold(3, self._size, 1).flatten(4)
        return windows.median(dim=-1).values
