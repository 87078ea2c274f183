"""How adversarial images are crafted: what they may cost, and in which precision. Who judges them is never changed."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.training.precision import Precision

CPU_VALUES, CPU_EXAMPLES = 2**18, 250  # larger batches are slower there: they leave the caches
GPU_VALUES, GPU_EXAMPLES = 2**22, 1000
FEW = 8  # examples at once, however large: fewer would waste more than the caches give


@dataclass(frozen=True, kw_only=True)
class Crafting:
    """The means of an attack. Successes are judged in float32 whatever these say.

    `precision`: of the model's passes; in "bf16-mixed" an example leaves the attack only when float32 agrees that it is
    fooled. `memory_format`: of the images handed to the model. `draws`: of a random model at each step (expectation
    over transformation); None: 20 if the model says that it is random, else 1. `max_forwards`: a hard limit on the
    forward passes spent on each example, draws counted. `adaptive`: whether attacks know what the model's modules
    declare; without, the attack is naive: it takes gradients as they come, of one draw.
    """

    precision: Precision = "32-true"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    draws: int | None = None
    max_forwards: int | None = None
    adaptive: bool = True

    def __post_init__(self) -> None:
        for name in ("draws", "max_forwards"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"crafting: {name} must be at least 1, not {value}")


def suitable_batch(x: Tensor, device: torch.device) -> int:
    """Return how many examples like those of `x` (N, C, H, W) are best attacked at once on `device`."""
    values, most = (CPU_VALUES, CPU_EXAMPLES) if device.type == "cpu" else (GPU_VALUES, GPU_EXAMPLES)
    return min(most, max(FEW, values // x[0].numel()))
