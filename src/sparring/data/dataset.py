"""A dataset: three splits, each one uint8 tensor of images and one tensor of labels."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.spec import Component

TrainOn = Literal["train", "train+validation"]


@dataclass(frozen=True)
class Split:
    """Images `x` (N, C, H, W), uint8, and labels `y` (N,), int64; `ids` are the rows' places in the published order."""

    x: Tensor
    y: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or self.x.ndim != 4 or self.y.dtype != torch.int64:
            raise InputError("a split takes uint8 images (N, C, H, W) and int64 labels (N,)")
        if not len(self.x) == len(self.y) == len(self.ids):
            raise InputError(f"{len(self.x)} images, {len(self.y)} labels and {len(self.ids)} ids do not match")

    def __len__(self) -> int:
        return len(self.y)

    def images(self) -> Tensor:
        """Return all images as float32 in [0, 1]."""
        return to_float(self.x)

    def take(self, rows: Tensor) -> "Split":
        """Return the split with these rows only, in this order."""
        return Split(self.x[rows], self.y[rows], self.ids[rows])

    def sample(self, count: int, seed: int) -> "Split":
        """Return `count` rows drawn by `seed`, in the split's order; all rows if there are no more than that."""
        if count < 1:
            raise InputError(f"examples: expected at least 1, not {count}")
        if count >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[:count].sort().values)


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits of one source; `note` says what a reader of a result must know of the data."""

    source: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    note: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """Return a split by name: train, validation, test or train+validation."""
        if name == "train+validation":
            parts = (self.train, self.validation)
            return Split(*(torch.cat([getattr(part, field) for part in parts]) for field in ("x", "y", "ids")))
        if name not in ("train", "validation", "test"):
            raise InputError(f"unknown split {name!r}; there are: train, validation, test, train+validation")
        chosen = getattr(self, name)
        assert isinstance(chosen, Split)
        return chosen


class Source(Component):
    """Where a dataset comes from; a frozen dataclass, one file a format."""

    name: ClassVar[str]

    @abstractmethod
    def load(self) -> Dataset:
        """Find, check and read the data; raise InputError with one clear line when that cannot be done."""

    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Return the files that must be at hand, relative to the data folder; none for embedded data."""


def to_float(x: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]."""
    return x.to(torch.float32) / 255


def holdout(x: Tensor, y: Tensor, size: int, seed: int) -> tuple[Split, Split]:
    """Split off `size` examples, drawn by `seed`, for validation; return (train, validation)."""
    if not 0 < size < len(y):
        raise InputError(f"validation: cannot hold out {size} of {len(y)} examples")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    whole = Split(x, y, torch.arange(len(y)))
    return whole.take(order[size:].sort().values), whole.take(order[:size].sort().values)
