"""An encoder for a decoder that has none, such as a GAN's (Zhu et al. 2016, arXiv:1609.03552, section 3.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.errors import InputError, naming
from sparring.core.trainable import Setup, State
from sparring.generative.base import Generative, GenerativeNetwork
from sparring.generative.networks import quick
from sparring.generative.saved import load_generative
from sparring.models.modes import held
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class Encoding(Generative):
    """Trains an encoder for the generative model of the run `model`, which it leaves as it is.

    From images that the model draws the encoder learns to tell the codes, by their mean squared error; from real
    images, codes that the model decodes to the same images: `pixels` times the mean squared error of those, and the
    squared distance from 1 of each code's mean square. `width`: channels of the feature maps next to the image.
    """

    name = "encoding"
    source = "arXiv:1609.03552"
    model: str
    width: int = 32
    pixels: float = 20.0

    def __post_init__(self) -> None:
        self.check_positive("width")
        if not self.pixels >= 0:
            raise InputError(f"encoding: pixels is a weight of at least 0, not {self.pixels}")

    def init(self, setup: Setup) -> State:
        run = Run.find(self.model, setup.runs)
        with naming(f"{self.name}: model"):
            network = load_generative(run.path)
        setup.check_alike(run.read_description(), f"encoding: {self.model}")
        network = network.with_encoder(self.width).to(setup.device)
        quick(network)
        assert network.encoder is not None
        return State({"encoder": setup.learner(network.encoder)}, networks={"whole": network})

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        network, encoder = self.deploy(state), state.learners["encoder"]
        network.decoder.eval()
        shares = network.shares(y, x)
        z = network.draw(len(x), generator)
        with torch.no_grad():
            drawn = network.decode(z, shares)
        told, codes = encoder.network(torch.cat([drawn, x]), torch.cat([shares, shares])).chunk(2)
        with held(network.decoder):
            again = network.decode(codes, shares)
            in_code, in_pixels = F.mse_loss(told, z), F.mse_loss(again, x)
            beyond = (codes.square().mean(1) - 1).square().mean()
            loss = in_code + self.pixels * in_pixels + beyond
            encoder.update(loss)
        return {"loss": loss.detach(), "code_error": in_code.detach(), "pixel_error": in_pixels.detach()}

    def deploy(self, state: State) -> GenerativeNetwork:
        network = state.networks["whole"]
        assert isinstance(network, GenerativeNetwork)
        return network
