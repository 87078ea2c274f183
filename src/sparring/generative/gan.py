"""A generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661) of convolutions (arXiv:1511.06434)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.generative.networks import ImageDiscriminator
from sparring.generative.rivals import Rivals


@dataclass(frozen=True, kw_only=True)
class GAN(Rivals):
    """A decoder against a discriminator that tells its images from real ones, with the non-saturating loss.

    `steadied`: what keeps the discriminator smooth. "spectral" divides each weight by its spectral norm
    (arXiv:1802.05957); "r1" adds `penalty` / 2 times the squared gradient of its logits at real images
    (arXiv:1801.04406).
    """

    name = "gan"
    source = "arXiv:1406.2661"
    steadied: Literal["spectral", "r1", "none"] = "spectral"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.penalty > 0:
            raise InputError(f"gan: penalty must be more than 0, not {self.penalty}")

    def discriminator(self, shape: tuple[int, int, int], classes: int) -> ImageDiscriminator:
        return ImageDiscriminator(shape, self.width, classes, spectral=self.steadied == "spectral")

    def discriminator_loss(
        self, discriminator: nn.Module, x: Tensor, drawn: Tensor, shares: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.steadied != "r1":
            real, fake = discriminator(torch.cat([x, drawn]), torch.cat([shares, shares])).chunk(2)
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        leaf = x.clone().requires_grad_(True)
        real, fake = discriminator(leaf, shares), discriminator(drawn, shares)
        (slope,) = torch.autograd.grad(real.sum(), leaf, create_graph=True)
        penalty = self.penalty / 2 * slope.flatten(1).square().sum(1).mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean() + penalty

    def decoder_loss(self, logits: Tensor) -> Tensor:
        return F.softplus(-logits).mean()
