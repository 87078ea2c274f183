"""What may be handed over as data, checked and brought into one form: `examples_of(data)`."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data as torch_data
from torch.utils.data import DataLoader

from sparring.core.errors import InputError
from sparring.data import load
from sparring.data.dataset import Dataset, Source, Split, check_pixels, drawn, refuse

READ = 256  # examples at once, of a dataset of PyTorch's
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Examples(Split):
    """A split with its provenance: its dataset's call string or "given tensors", "given loader".

    `classes` is empty where the number of classes is not known. `ids` of given data count from 0.
    """

    source: str
    split: str
    classes: tuple[str, ...] = ()
    note: str = ""


Array: TypeAlias = Tensor | NDArray[Any]
Data: TypeAlias = (
    Dataset | Source | Examples | str | tuple[Array, Array] | DataLoader[Any] | torch_data.Dataset[tuple[Tensor, int]]
)


def examples_of(data: Data, split: str = "test", count: int | None = None, seed: int = 0) -> Examples:
    """Return the examples that `data` means: a dataset's `split`, or tensors, arrays or a loader of images with labels.

    Images (N, C, H, W) are uint8, or floats in [0, 1], which are kept as float32; labels (N,) are whole numbers.
    `count` takes a subset of that many, drawn by `seed`. A loader, or an iterable dataset of PyTorch's, is read once,
    from beginning to end; of a dataset with a length only the examples of the subset are read. Raises InputError naming
    the first bad example, and what to do.
    """
    found = data if isinstance(data, Examples) else _read(data, split, count, seed)
    return found if count is None else found.sample(count, seed)


def _read(data: Data, split: str, count: int | None, seed: int) -> Examples:
    if isinstance(data, str | Source):
        data = load(data)
    if isinstance(data, Dataset):
        part = data.split(split)
        found = Examples(part.x, part.y, part.ids, data.source, split, data.classes, data.note)
    elif isinstance(data, DataLoader):
        found = _given(*_read_all(data), source="given loader")
    elif isinstance(data, torch_data.Dataset):
        found = _of_pytorch(data, count, seed)
    else:
        kinds = "a dataset's call string, a Dataset, a pair of tensors or arrays (images, labels) or a DataLoader"
        found = _given(*_pair(data, f"data: expected {kinds}"), source="given tensors")
    if not len(found):
        raise InputError(f"{found.source}: there are no examples in {found.split}")
    check_pixels(found.x, found.source, None if isinstance(data, Dataset) else found.ids)
    return found


def _of_pytorch(data: torch_data.Dataset[Any], count: int | None, seed: int) -> Examples:
    """Read a dataset of PyTorch's: where it has a length and is asked for by number, the drawn examples alone."""
    ids = None
    if count is not None and not isinstance(data, torch_data.IterableDataset) and isinstance(data, Sized):
        ids = drawn(len(data), count, seed)
        data = torch_data.Subset(data, ids.tolist())
    return _given(*_read_all(DataLoader(data, batch_size=READ)), source="given loader", ids=ids)


def _given(images: Tensor, labels: Tensor, source: str, ids: Tensor | None = None) -> Examples:
    ids = torch.arange(len(labels)) if ids is None else ids
    x = _pixels(images.detach().cpu(), source)  # what is judged stays there; batches go where the model is
    y = _labels(labels.detach().cpu(), source, ids)
    if len(x) != len(y):
        raise InputError(f"{source}: {len(x)} images and {len(y)} labels; give one label an image")
    return Examples(x, y, ids, source, "all")


def _pixels(x: Tensor, source: str) -> Tensor:
    if x.ndim != 4 or 0 in x.shape[1:]:
        hint = "; for grey images, x.unsqueeze(1)" if x.ndim == 3 else ""
        raise InputError(f"{source}: images must have shape (N, C, H, W), not {tuple(x.shape)}{hint}")
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise InputError(f"{source}: images are {_name(x)}; give uint8, or floats in [0, 1]")
    return x.float()


def _labels(y: Tensor, source: str, ids: Tensor) -> Tensor:
    if y.ndim != 1:
        hint = "; of one-hot labels, y.argmax(1)" if y.ndim == 2 else ""
        raise InputError(f"{source}: labels must have shape (N,), not {tuple(y.shape)}{hint}")
    if y.is_floating_point():
        refuse(y != y.round(), source, lambda i: f"label {float(y[i]):g} of example {ids[i]} is not a whole number")
    if y.dtype not in INTEGERS:
        raise InputError(f"{source}: labels are {_name(y)}; give whole numbers, such as y.long()")
    refuse(y < 0, source, lambda i: f"label {int(y[i])} of example {ids[i]} is negative; classes count from 0")
    return y.long()


def _read_all(loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    try:
        with torch.random.fork_rng(devices=[]):  # a loader draws its seed from the global state
            pairs = [
                _pair(batch, f"given loader: expected batch {number} to be (images, labels)")
                for number, batch in enumerate(loader)
            ]
    except TypeError as error:  # what cannot be put into one tensor, such as images of Pillow's
        raise InputError(f"given loader: {str(error)[:160]}; give images as tensors") from None
    if not pairs:
        raise InputError("given loader: it gives no batches")
    for number, pair in enumerate(pairs):
        for one, first in zip(pair, pairs[0], strict=True):
            if one.shape[1:] != first.shape[1:] or one.dtype != first.dtype or not one.ndim:
                unlike = f"{tuple(one.shape)} {_name(one)} after {tuple(first.shape)} {_name(first)}"
                raise InputError(f"given loader: batch {number} has {unlike}; give all examples one shape and type")
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def _pair(pair: object, expected: str) -> tuple[Tensor, Tensor]:
    match pair:
        case (Tensor() | np.ndarray() as x, Tensor() | np.ndarray() as y):
            return _tensor(x, expected), _tensor(y, expected)
    shown = f"({', '.join(type(p).__name__ for p in pair)})" if isinstance(pair, tuple | list) else type(pair).__name__
    raise InputError(f"{expected}, not {shown[:80]}")


def _tensor(x: Array, expected: str) -> Tensor:
    try:
        return x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    except TypeError:
        raise InputError(f"{expected}, not an array of {x.dtype}") from None


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
