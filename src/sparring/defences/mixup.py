"""Mixup (Zhang et al. 2018, arXiv:1710.09412)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.defences.base import LossDefence, accuracy
from sparring.defences.proportions import check_alpha, draw_shares


@dataclass(frozen=True, kw_only=True)
class Mixup(LossDefence):
    """Cross-entropy on images blended with another of the batch, against both labels in the same proportion.

    The proportion is drawn from Beta(alpha, alpha), once a batch; the authors take alpha 1 on CIFAR-10.
    """

    name = "mixup"
    source = "arXiv:1710.09412"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_alpha(self.name, self.alpha)

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        share, order = draw_mix(len(x), self.alpha, generator)
        return mixed_loss(net(blend(x, share, order)), y, share, order)


def draw_mix(count: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a proportion from Beta(alpha, alpha), a scalar, and an order of `count` examples, on the device."""
    share = draw_shares((), alpha, generator)
    return share, torch.randperm(count, generator=generator, device=generator.device)


def blend(x: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """Return share * x + (1 - share) * x[order]."""
    return torch.lerp(x[order], x, share.to(x.dtype))


def mixed_loss(logits: Tensor, y: Tensor, share: Tensor, order: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cross-entropy of both labels in their proportion; and the accuracy on whichever has more."""
    loss = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
    return loss, {"accuracy": accuracy(logits, torch.where(share >= 0.5, y, y[order]))}
