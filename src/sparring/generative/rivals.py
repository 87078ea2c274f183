"""What GANs share: a decoder against a discriminator, and the decoder's moving average, which is what is used."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.trainable import Learner, Setup, State
from sparring.generative.base import GenerativeModel, GenerativeNetwork, remember_spread, watch_spread
from sparring.generative.networks import ImageDiscriminator, conv_decoder
from sparring.models.modes import held
from sparring.training.averages import begin_average, follow, with_values
from sparring.training.optimisers import Optimiser

KEPT = "average."  # before the names of the decoder's averaged values in the state


@dataclass(frozen=True, kw_only=True)
class Rivals(GenerativeModel):
    """A decoder and a discriminator in turn: `discriminator_updates` on a batch, each with new codes, then the decoder.

    The decoder learns on the last of these codes; the papers draw new ones for it, which costs a pass more.

    `latent`: the numbers in a code. `conditional`: both are told the classes. `width`: channels of the feature maps
    next to the image, doubled with each halving of its sides. `average`: the decay of the decoder's moving average,
    which is what is used. The discriminator has the recipe's optimiser or its own.
    """

    latent: int = 64
    conditional: bool = False
    width: int = 64
    average: float = 0.999
    discriminator_updates: int = 1
    discriminator_optimiser: Optimiser | None = None

    def __post_init__(self) -> None:
        self.check_positive("latent", "width", "discriminator_updates")
        if not 0 <= self.average < 1:
            raise InputError(f"{self.name}: average is a share from 0 and below 1, not {self.average}")

    @abstractmethod
    def discriminator(self, shape: tuple[int, int, int], classes: int) -> ImageDiscriminator:
        """Return a fresh discriminator; `classes` is 0 if it is not to be told any."""

    @abstractmethod
    def discriminator_loss(
        self, discriminator: nn.Module, x: Tensor, drawn: Tensor, shares: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return what the discriminator descends, a scalar, on real images `x` and as many `drawn`, (B, C, H, W)."""

    @abstractmethod
    def decoder_loss(self, logits: Tensor) -> Tensor:
        """Return what the decoder descends, a scalar, from what the discriminator says of its images (B,)."""

    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        inputs = self.latent + self.told(classes)
        return GenerativeNetwork(self, shape, classes, conv_decoder(inputs, shape, self.width))

    def init(self, setup: Setup) -> State:
        discriminator = self.discriminator(setup.shape, self.told(setup.classes)).to(setup.device)
        rival = setup.learner(discriminator)
        if self.discriminator_optimiser is not None:
            rival = Learner(discriminator, self.discriminator_optimiser.build(discriminator), rival.schedule)
        state = State({"decoder": setup.learner(self.made(setup)), "discriminator": rival})
        begin_average(state, KEPT, state.learners["decoder"].network)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        decoder, discriminator = state.learners["decoder"], state.learners["discriminator"]
        network = decoder.network
        assert isinstance(network, GenerativeNetwork)
        remember_spread(state, x)
        shares = network.shares(y, x)
        for _ in range(self.discriminator_updates):
            drawn = network.decode(network.draw(len(x), generator), shares)
            loss = self.discriminator_loss(discriminator.network, x, drawn.detach(), shares, generator)
            discriminator.update(loss)
        with held(discriminator.network):
            decoder_loss = self.decoder_loss(discriminator.network(drawn, shares))
            decoder.update(decoder_loss)
        follow(state, KEPT, network, self.average)
        return {"loss": loss.detach(), "decoder_loss": decoder_loss.detach()}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        watch_spread(self.deploy(state), state, metrics)

    def deploy(self, state: State) -> GenerativeNetwork:
        network = with_values(state.learners["decoder"].network, state.extra, KEPT)
        assert isinstance(network, GenerativeNetwork)
        return network
