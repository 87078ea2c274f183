"""Hashes of tensors: what was made of one set of values must never be taken for what was made of another."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def fingerprint(text: str, values: Iterable[tuple[str, Tensor]]) -> str:
    """Return a SHA-256 in hexadecimals of a text and of named tensors: their types, shapes and every bit."""
    digest = hashlib.sha256(text.encode())
    for name, value in values:
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprints(x: Tensor, y: Tensor) -> NDArray[np.uint64]:
    """Return for each example, an image of `x` (N, ...) and its label of `y` (N,), the first 8 bytes of a SHA-256."""
    images, labels = x.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy(), y.tolist()
    told = (hashlib.sha256(f"{label} ".encode() + image.tobytes()) for image, label in zip(images, labels, strict=True))
    return np.array([int.from_bytes(each.digest()[:8], "little") for each in told], dtype=np.uint64)
