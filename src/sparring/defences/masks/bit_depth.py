"""Fewer levels of brightness in front of a classifier (Xu, Evans & Qi 2018, arXiv:1704.01155)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class BitDepth(Mask):
    """Rounds each value to one of 2**`bits` levels. That has no gradient: an attacker takes the identity's (BPDA)."""

    name = "bit_depth"
    source = "arXiv:1704.01155"
    bits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise InputError(f"bit_depth: bits are 1 to 8, not {self.bits}")

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        return Rounding(self.bits)


class Rounding(nn.Module):
    """Images in [0, 1] to images with 2**bits levels."""

    adaptive = frozenset({"bpda"})

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._steps = 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded images."""
        rounded: Tensor = (x.clamp(0, 1) * self._steps).round() / self._steps
        return rounded
