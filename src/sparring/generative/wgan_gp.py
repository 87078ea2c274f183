"""A Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.generative.networks import ImageDiscriminator
from sparring.generative.rivals import Rivals


@dataclass(frozen=True, kw_only=True)
class WGANGP(Rivals):
    """A decoder against a discriminator (in the paper a critic) that estimates how far drawn images lie from real ones.

    `penalty` times the squared distance from 1 of the norm of its gradient, at points between real and drawn images,
    keeps the discriminator's slope near 1. Its updates for one of the decoder are all on the same real images, where
    the paper's algorithm draws new ones for each.
    """

    name = "wgan_gp"
    source = "arXiv:1704.00028"
    discriminator_updates: int = 5
    penalty: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.penalty > 0:
            raise InputError(f"wgan_gp: penalty must be more than 0, not {self.penalty}")

    def discriminator(self, shape: tuple[int, int, int], classes: int) -> ImageDiscriminator:
        return ImageDiscriminator(shape, self.width, classes, spectral=False)

    def discriminator_loss(
        self, discriminator: nn.Module, x: Tensor, drawn: Tensor, shares: Tensor, generator: torch.Generator
    ) -> Tensor:
        real, fake = discriminator(torch.cat([x, drawn]), torch.cat([shares, shares])).chunk(2)
        places = torch.rand(len(x), 1, 1, 1, generator=generator, device=generator.device)
        between = torch.lerp(x, drawn, places).requires_grad_(True)
        (slope,) = torch.autograd.grad(discriminator(between, shares).sum(), between, create_graph=True)
        steepness = slope.flatten(1).norm(dim=1)
        loss: Tensor = fake.mean() - real.mean() + self.penalty * (steepness - 1).square().mean()
        return loss

    def decoder_loss(self, logits: Tensor) -> Tensor:
        return -logits.mean()
