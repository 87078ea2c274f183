"""Standard training: no defence, the row that every other is measured against."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.defences.base import LossDefence, accuracy


@dataclass(frozen=True, kw_only=True)
class Standard(LossDefence):
    """Cross-entropy on clean images."""

    name = "standard"
    source = "folklore"
    soft_labels = True

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = net(x)
        return F.cross_entropy(logits, y), {"accuracy": accuracy(logits, y)}
