"""What purifying masks share: a generative model that gives an image back as it would have drawn it."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparring.core.errors import InputError, naming
from sparring.core.trainable import Setup
from sparring.generative import GenerativeNetwork
from sparring.generative.saved import blank_generative, load_generative
from sparring.models.mask import Mask
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class Purifying(Mask):
    """A mask that stands on the generative model of the run `model`, which is not told the class."""

    model: str

    @abstractmethod
    def around(self, network: GenerativeNetwork) -> "Purifier":
        """Return the module; raises InputError if the network cannot serve."""

    def encoding(self, network: GenerativeNetwork) -> "Purifier":
        """Return the module that encodes and decodes; raises InputError if the network has no encoder."""
        if network.encoder is None:
            raise InputError(f'{self.name}: {self.model} has no encoder; train one: generative = "encoding(model=...)"')
        return Purifier(network)

    def fit(self, setup: Setup) -> nn.Module:
        with naming(f"{self.name}: model"):
            network = load_generative(Run.find(self.model, setup.runs).path)
        if network.shape != setup.shape:
            raise InputError(f"{self.name}: {self.model} draws images {network.shape}, and the data has {setup.shape}")
        if network.about.conditional:
            raise InputError(f"{self.name}: {self.model} is conditional, and nobody knows the class of an image here")
        return self.around(network)

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        return self.around(blank_generative(about, shape, 1))

    def describe(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, Purifier)
        return module.network.description


class Purifier(nn.Module):
    """Images (B, C, H, W) in [0, 1] to what a generative network, which is the mask's own, makes of them."""

    def __init__(self, network: GenerativeNetwork) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images encoded and decoded again; that has a gradient as it stands."""
        again: Tensor = self.network(x)
        return again
