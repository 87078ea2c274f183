"""A median filter in front of a classifier (Xu, Evans & Qi 2018, arXiv:1704.01155)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class Median(Mask):
    """Puts in each value's place the median of the `size` by `size` values around it; edges are mirrored, repeated.

    Of an even number of values it is the upper of the middle two, and of an even size the window reaches farther up and
    left, as in SciPy's filter, which the authors use: best with a size of 2. The median is one of the values, and has
    its gradient; where several are alike they share it, for in a flat area to follow one of them alone leads nowhere.
    """

    name = "median"
    source = "arXiv:1704.01155"
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"median: size must be at least 1, not {self.size}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        if self.size // 2 > min(shape[1:]):
            raise InputError(f"median: a window of {self.size} is too large for images of {shape[1]}x{shape[2]}")
        return MedianFilter(self.size)


class MedianFilter(nn.Module):
    """Images (B, C, H, W) to their medians."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered images."""
        rows, columns = (self._mirrored(side) for side in x.shape[2:])
        whole = x[:, :, rows][:, :, :, columns]
        windows = whole.unfold(2, self._size, 1).unfold(3, self._size, 1).flatten(4)
        median = windows.detach().kthvalue(self._size**2 // 2 + 1, dim=-1, keepdim=True).values
        tied = windows == median
        shared = windows.where(tied, 0).sum(-1) / tied.sum(-1)  # the median again, but for rounding
        return median.squeeze(-1) + (shared - shared.detach())

    def _mirrored(self, side: int) -> list[int]:
        """Return the places of a row's values with those beyond its ends: ..., 1, 0, 0, 1, ..., n - 1, n - 1, ..."""
        before, after = self._size // 2, (self._size - 1) // 2
        places = list(range(side))
        return [*places[:before][::-1], *places, *places[side - after :][::-1]]
