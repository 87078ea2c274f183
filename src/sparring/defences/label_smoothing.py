"""Label smoothing (Szegedy et al. 2016, arXiv:1512.00567)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.defences.base import LossDefence, accuracy


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(LossDefence):
    """Cross-entropy on clean images with the share `amount` of each label spread over all classes."""

    name = "label_smoothing"
    source = "arXiv:1512.00567"
    soft_labels = True
    amount: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.amount < 1:
            raise InputError(f"label_smoothing: amount is a share below 1, not {self.amount}")

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = net(x)
        return F.cross_entropy(logits, y, label_smoothing=self.amount), {"accuracy": accuracy(logits, y)}
