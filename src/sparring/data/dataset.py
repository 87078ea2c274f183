"""A dataset: three splits, each one tensor of images and one of labels; and what a source of one must offer."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.randomness import check_seed
from sparring.core.spec import Component

ROUNDING = 1e-3  # by which arithmetic may leave [0, 1]
TrainOn = Literal["train", "train+validation"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images `x` (N, C, H, W), uint8, and labels `y` (N,), int64; `ids` are the rows' places in the published order.

    Images that someone hands over as floats stay floats: `x` may be float32 in [0, 1].
    """

    x: Tensor
    y: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        if self.x.dtype not in (torch.uint8, torch.float32) or self.x.ndim != 4 or self.y.dtype != torch.int64:
            raise InputError("a split takes uint8 or float32 images (N, C, H, W) and int64 labels (N,)")
        if not len(self.x) == len(self.y) == len(self.ids):
            raise InputError(f"{len(self.x)} images, {len(self.y)} labels and {len(self.ids)} ids do not match")

    def __len__(self) -> int:
        return len(self.y)

    def images(self) -> Tensor:
        """Return all images as float32 in [0, 1]."""
        return to_float(self.x)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return these rows' images as float32 in [0, 1] (B, C, H, W), and their labels (B,)."""
        return to_float(self.x[rows]), self.y[rows]

    def take(self, rows: Tensor) -> Self:
        """Return the split with these rows only, in this order; `rows`: indices or flags."""
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows], ids=self.ids[rows])

    def sample(self, count: int, seed: int) -> Self:
        """Return `count` rows drawn by `seed`, in the split's order; all rows if there are no more than that."""
        rows = drawn(len(self), count, seed)
        return self if len(rows) == len(self) else self.take(rows)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train, validation and test splits of one source; `note` says what a reader of a result must know of the data.

    Raises InputError when the splits' images differ in shape or type, a pixel is outside [0, 1], or a label has no
    class.
    """

    source: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            part = self.split(name)
            if part.x.shape[1:] != self.train.x.shape[1:] or part.x.dtype != self.train.x.dtype:
                raise InputError(f"{self.source}: the {name} images are not of the train images' shape and type")
            check_pixels(part.x, f"{self.source}: {name}")
            check_labels(part.y, len(self.classes), f"{self.source}: {name}")

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


@dataclass(frozen=True)
class PublishedFile:
    """A file that others publish, its contents known to the bit.

    `path`: its place inside a data folder. Unless `path` itself ends in .gz, a copy may be gzipped (and called .gz),
    and the contents are what decompressing gives. `size`: of the contents, in bytes; no more is ever decompressed.
    `checksum`: of the contents, with its algorithm, "sha256:…". `mirrors`: whole addresses, tried in turn.
    """

    path: str
    size: int
    checksum: str
    mirrors: tuple[str, ...] = ()


class Source(Component, ABC):
    """Where a dataset comes from; a frozen dataclass, one file a format."""

    name: ClassVar[str]
    lasting: ClassVar[bool] = True  # whether it is the same whenever it is loaded

    @abstractmethod
    def load(self) -> Dataset:
        """Find, check and read the data; raise InputError with one clear line when that cannot be done."""

    @abstractmethod
    def files(self) -> tuple[PublishedFile, ...]:
        """Return the published files that must be at hand; none for embedded data and for a folder of one's own."""

    def whereabouts(self) -> tuple[str, str]:
        """Return what there is to say of data without published files, and its place; InputError if it is missing."""
        return "comes with Sparring", ""


def to_float(x: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [0, 1]; float images as they are."""
    return x.to(torch.float32) / 255 if x.dtype == torch.uint8 else x


def new_generator(seed: int) -> torch.Generator:
    """Return a new generator with this seed."""
    check_seed(seed, "seed")
    return torch.Generator().manual_seed(seed)


def drawn(total: int, count: int, seed: int) -> Tensor:
    """Return which `count` of `total` rows `seed` draws, in order; all if there are no more than that."""
    if count < 1:
        raise InputError(f"examples: expected at least 1, not {count}")
    if count >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=new_generator(seed))[:count].sort().values


def check_pixels(x: Tensor, source: str, ids: Tensor | None = None) -> None:
    """Raise InputError, naming the first bad example and what to do, unless all pixels (N, C, H, W) are in [0, 1].

    `ids`: what the examples are called, if not by their places.
    """
    if x.dtype == torch.uint8 or not x.numel():
        return
    low, high = x.flatten(1).amin(1), x.flatten(1).amax(1)  # amin and amax hand NaN on
    names = torch.arange(len(x)) if ids is None else ids
    refuse(~((low >= 0) & (high <= 1)), source, lambda i: _pixel_fault(int(names[i]), float(low[i]), float(high[i])))


def _pixel_fault(row: int, low: float, high: float) -> str:
    if not math.isfinite(high - low):
        return f"example {row} holds {'NaN' if high != high else 'infinite pixels'}; remove it"
    fix = "undo the normalisation and put it into the model (models.adapt)"
    if low > -ROUNDING:
        fix = "divide by 255" if high > 1 + ROUNDING else "x.clamp(0, 1) removes what rounding left"
    return f"pixels of example {row} lie in {low:g}..{high:g}, outside 0..1; {fix}"


def refuse(bad: Tensor, source: str, say: Callable[[int], str]) -> None:
    """Raise InputError with what there is to say of the first example that is flagged in `bad` (N,), if one is."""
    rows = bad.nonzero()
    if len(rows):
        raise InputError(f"{source}: {say(int(rows[0]))}")


def check_labels(y: Tensor, classes: int, where: str) -> None:
    """Raise InputError, naming the first bad example, unless all labels (N,) are in 0..classes-1."""
    bad = (y < 0) | (y >= classes)
    if bad.any():
        first = int(bad.nonzero()[0])
        raise InputError(
            f"{where}: label {int(y[first])} of example {first} is outside 0..{classes - 1}, the {classes} classes"
        )


def holdout(x: Tensor, y: Tensor, size: int, seed: int, ids: Tensor | None = None) -> tuple[Split, Split]:
    """Split off `size` examples, drawn by `seed`, for validation; return (train, validation).

    `ids` (N,): the rows' places in the published order, where `x` is not in that order itself.
    """
    if not 0 < size < len(y):
        raise InputError(f"validation: cannot hold out {size} of {len(y)} examples; give a number between them")
    held = torch.zeros(len(y), dtype=torch.bool)
    held[torch.randperm(len(y), generator=new_generator(seed))[:size]] = True
    whole = Split(x, y, torch.arange(len(y)) if ids is None else ids)
    return whole.take(~held), whole.take(held)


def stratified(y: Tensor, share: float, seed: int) -> Tensor:
    """Return flags (N,) that draw by `seed` the same `share` of each class of `y` (N,), rounded."""
    shuffled = torch.randperm(len(y), generator=new_generator(seed))
    order = shuffled[y[shuffled].argsort(stable=True)]
    counts = y.bincount()
    place = torch.arange(len(y)) - (counts.cumsum(0) - counts)[y[order]]
    quota = (counts.double() * share).round()
    chosen = torch.zeros(len(y), dtype=torch.bool)
    chosen[order] = place < quota[y[order]]
    return chosen
