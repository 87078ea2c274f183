"""Randomness that leaves no trace: noise from a counter, and a global state that is seeded inside and restored outside.

Each number of `uniform` depends on (seed, example, draw, place) alone, never on batch-mates or batch size. The mixing
function is SplitMix64's finaliser (Steele, Lea & Flood 2014), in wrapping 64-bit integer arithmetic, so CPU and GPU
give the same bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sparring.core.errors import InputError


def _signed(constant: int) -> int:
    """Return a 64-bit constant as torch's int64 holds it."""
    return constant - (1 << 64) if constant >> 63 else constant


GAMMA, MIX_1, MIX_2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
FRACTION_BITS = 24  # what a float32 in [0, 1) can hold


def uniform(seed: int | Tensor, examples: Tensor, draw: int, size: int) -> Tensor:
    """Return float32 noise in [0, 1) of shape (B, size) for the int64 `examples` (B,).

    A seed that was drawn on the device may stay there, as an int64 tensor (); nothing waits for it.
    """
    key = torch.zeros_like(examples) + (seed if isinstance(seed, Tensor) else _signed(seed % (1 << 64)))
    for part in (examples, torch.full_like(examples, draw)):
        key = _mix(key * GAMMA + part + 1)
    place = torch.arange(1, size + 1, device=examples.device)
    bits = _mix(key[:, None] + place[None, :] * GAMMA)
    return _shift(bits, 64 - FRACTION_BITS).to(torch.float32) * 2.0**-FRACTION_BITS


def check_seed(seed: int, where: str) -> None:
    """Raise InputError, which begins with `where`, unless `seed` is one that every generator takes."""
    if not 0 <= seed < 2**63:
        raise InputError(f"{where}: expected a whole number from 0 to 2**63 - 1, not {seed}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global random state within the block (initial weights, dropout); restore it after."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        yield


def derive(seed: int, stream: int, index: int = 0) -> int:
    """Return a seed for one part of a run: a stream of its own, and within it an index (an epoch, say)."""
    counter = torch.tensor([_signed(((stream << 32) + stream + index + seed) % (1 << 64))])
    return int(uniform(seed, counter, 0, 1).view(torch.int32).item())


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * MIX_1
    z = (z ^ _shift(z, 27)) * MIX_2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros (torch's shift copies the sign)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
