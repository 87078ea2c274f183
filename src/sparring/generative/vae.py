"""A variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114), with a weight beta (Higgins et al. 2017)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.core.trainable import Setup, State
from sparring.generative.base import GenerativeModel, GenerativeNetwork, remember_spread, watch_spread
from sparring.generative.networks import conv_decoder, conv_encoder


@dataclass(frozen=True, kw_only=True)
class VAE(GenerativeModel):
    """An encoder to a normal distribution of codes, and a decoder back, by the evidence lower bound.

    The loss of an image is the cross-entropy of its pixels, taken as chances, and `beta` times the divergence of its
    codes' distribution from the standard normal one. `latent`: the numbers in a code. `conditional`: both networks are
    told the classes. `width`: channels of the feature maps next to the image, doubled with each halving of its sides.
    """

    name = "vae"
    source = "arXiv:1312.6114"
    latent: int = 64
    conditional: bool = False
    width: int = 32
    beta: float = 1.0

    def __post_init__(self) -> None:
        self.check_positive("latent", "width")
        if not self.beta >= 0:
            raise InputError(f"vae: beta must be at least 0, not {self.beta}")

    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        told = self.told(classes)
        encoder = conv_encoder(shape, self.width, told, 2 * self.latent, batch_norm=True)
        return GenerativeNetwork(self, shape, classes, conv_decoder(self.latent + told, shape, self.width), encoder)

    def init(self, setup: Setup) -> State:
        return State({"network": setup.learner(self.made(setup))})

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        network = self.deploy(state)
        assert network.encoder is not None
        remember_spread(state, x)
        shares = network.shares(y, x)
        mean, log_variance = network.encoder(x, shares).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * network.draw(len(x), generator)
        logits = network.decoder(torch.cat([z, shares], 1))
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1).mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        loss = pixels + self.beta * divergence
        state.learners["network"].update(loss)
        return {"loss": loss.detach(), "reconstruction": pixels.detach(), "divergence": divergence.detach()}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        watch_spread(self.deploy(state), state, metrics)

    def deploy(self, state: State) -> GenerativeNetwork:
        network = state.learners["network"].network
        assert isinstance(network, GenerativeNetwork)
        return network
