"""The contract of a generative model: a Trainable whose deployed module turns codes into images."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError, TrainingError
from sparring.core.spec import Component
from sparring.core.threat import TINY
from sparring.core.trainable import Setup, State, Trainable
from sparring.generative.networks import conv_encoder, quick
from sparring.models.modes import in_use

COLLAPSED = 0.05  # the spread of drawn images, of that of real ones, below which they are all alike
DRAWN = 256  # images, to see whether they are
SPREAD = "spread"


class GenerativeNetwork(nn.Module):
    """Codes (B, latent) to images (B, C, H, W) in [0, 1], and if there is an encoder back.

    A conditional network is also told what is wanted: labels (B,), or shares of the classes (B, K).
    """

    def __init__(
        self,
        about: "GenerativeModel",
        shape: tuple[int, int, int],
        classes: int,
        decoder: nn.Module,
        encoder: nn.Module | None = None,
        encoder_width: int = 0,
    ) -> None:
        super().__init__()
        self.about, self.shape, self.classes = about, shape, classes
        self.decoder, self.encoder, self.encoder_width = decoder, encoder, encoder_width

    @property
    def latent(self) -> int:
        """The numbers in a code."""
        return self.about.latent

    @property
    def description(self) -> dict[str, object]:
        """What builds it again: the model's call string, and its encoder's width if that was trained afterwards."""
        return {"generative": repr(self.about), **({"encoder_width": self.encoder_width} if self.encoder_width else {})}

    def with_encoder(self, width: int) -> "GenerativeNetwork":
        """Return the network with a fresh encoder of its own, which shares the decoder."""
        told = self.about.told(self.classes)
        encoder = conv_encoder(self.shape, width, told, self.latent, batch_norm=True)
        return GenerativeNetwork(self.about, self.shape, self.classes, self.decoder, encoder, width)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of codes (B, latent), in the codes' precision under autocast, too."""
        logits: Tensor = self.decoder(torch.cat([z, self.shares(y, z)], 1))
        return logits.to(z.dtype).sigmoid()

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return codes (B, latent) of images (B, C, H, W) in [0, 1]; raises InputError without an encoder."""
        if self.encoder is None:
            raise InputError(f"{self.about.name}: has no encoder; train one: generative = \"encoding(model='RUN')\"")
        codes: Tensor = self.encoder(x, self.shares(y, x))[:, : self.latent]
        return codes

    def forward(self, x: Tensor) -> Tensor:
        """Return what images (B, C, H, W) become when they are encoded and decoded again."""
        return self.decode(self.encode(x))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return codes (count, latent) from the prior, which is standard normal; raises InputError if there is none."""
        if not self.about.draws:
            raise InputError(f"{self.about.name}: has no prior to draw codes from; a gan or a vae has one")
        return torch.randn(count, self.latent, generator=generator, device=generator.device)

    def shares(self, y: Tensor | None, like: Tensor) -> Tensor:
        """Return shares of the classes (B, K) from labels or shares; (B, 0) if the network is not conditional."""
        if not self.about.conditional:
            return like.new_zeros(len(like), 0)
        if y is None:
            raise InputError(f"{self.about.name}: is conditional; give the labels of the images that are wanted")
        return y.to(like.dtype) if y.ndim == 2 else F.one_hot(y, self.classes).to(like.dtype)


class Generative(Component, Trainable):
    """A way to train a generative network, or a part of one; `source` is its paper."""

    source: ClassVar[str]

    @abstractmethod
    def deploy(self, state: State) -> GenerativeNetwork: ...

    def check_positive(self, *names: str) -> None:
        """Raise InputError unless these fields are at least 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise InputError(f"{self.name}: {name} must be at least 1, not {getattr(self, name)}")


class GenerativeModel(Generative):
    """One that makes its network from nothing.

    `latent`: the numbers in a code. A `conditional` model is told the class of each image.
    """

    draws: ClassVar[bool] = True  # whether the codes of real images are spread as the standard normal distribution is
    latent: int
    conditional: bool

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        """Return a fresh network for images of `shape` (C, H, W) in [0, 1]."""

    def made(self, setup: Setup) -> GenerativeNetwork:
        """Return a fresh network on the run's device, its convolutions in the layout that is fastest there."""
        network = self.build(setup.shape, setup.classes).to(setup.device)
        quick(network)
        return network

    def told(self, classes: int) -> int:
        """Return how many shares of classes the networks are told: none, or all."""
        return classes if self.conditional else 0


def remember_spread(state: State, x: Tensor) -> None:
    """Keep how much the images of the first batch differ: the mean over pixels of their standard deviation."""
    if SPREAD not in state.extra:
        state.extra[SPREAD] = x.std(0, correction=0).mean()


def watch_spread(network: GenerativeNetwork, state: State, metrics: dict[str, float]) -> None:
    """Write down how much drawn images differ, beside real ones; raise TrainingError if they are all alike.

    Those of a conditional network are compared within each class.
    """
    where = state.extra[SPREAD].device
    groups = network.classes if network.about.conditional else 1
    y = torch.arange(groups, device=where).repeat_interleave(max(DRAWN // groups, 2))
    with torch.no_grad(), in_use(network):
        z = network.draw(len(y), torch.Generator(where).manual_seed(0))
        drawn = network.decode(z, y).view(groups, -1, *network.shape)
    metrics[SPREAD] = float(drawn.std(1, correction=0).mean()) / max(float(state.extra[SPREAD]), TINY)
    if metrics[SPREAD] < COLLAPSED:
        raise TrainingError(f"the {network.about.name} has collapsed: all images that it draws are alike")
