"""Hashes of tensors: what was made of one set of values must never be taken for what was made of another."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def fingerprint(text: str, values: Iterable[tuple[str, Tensor]]) -> str:
    """Return a SHA-256 in hexadecimals of a text and of named tensors: their types, shapes and every bit."""
    digest = hashlib.sha256(text.encode())
    for name, value in values:
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
