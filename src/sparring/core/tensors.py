"""Tensors in files that are never half written: safetensors."""

import errno
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sparring.core.files import replacing

FULL = "os error 28"  # how safetensors says that the disk is full


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write tensors by name, and facts about them; raises InputError as `replacing` does."""
    with replacing(path) as part:
        try:
            save_file(tensors, part, facts)
        except SafetensorError as error:  # which is no OSError
            raise OSError(errno.ENOSPC if FULL in str(error) else errno.EIO, str(error)) from error
