"""What autoencoders share: an encoder, its mirror image as decoder, and the squared error."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.trainable import Setup, State
from sparring.generative.base import GenerativeModel, GenerativeNetwork
from sparring.generative.networks import SLOPE, Encoder


@dataclass(frozen=True, kw_only=True)
class Reconstructing(GenerativeModel):
    """An encoder and a decoder that together give an image back, by the squared error of its pixels.

    `latent`: the numbers in a code. `tied`: each layer of the decoder has the transposed weights of its counterpart.
    """

    draws = False
    conditional = False
    latent: int = 64
    tied: bool = False

    def init(self, setup: Setup) -> State:
        return State({"network": setup.learner(self.made(setup))})

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        loss = F.mse_loss(self.deploy(state)(x), x)
        state.learners["network"].update(loss)
        return {"loss": loss.detach()}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        metrics["psnr"] = -10 * math.log10(max(metrics["loss"], 1e-12))

    def deploy(self, state: State) -> GenerativeNetwork:
        network = state.learners["network"].network
        assert isinstance(network, GenerativeNetwork)
        return network


def mirrored(encoder: Encoder, shape: tuple[int, int, int], *, tied: bool) -> nn.Sequential:
    """Return a decoder whose layers undo those of `encoder`, which takes images of `shape`, in reverse."""
    sizes: list[tuple[int, ...]] = []  # what each layer of the encoder takes
    layers = [*encoder.features, encoder.last]
    x = torch.zeros(1, *shape)
    for layer in layers:
        sizes.append(tuple(x.shape[1:]))
        x = layer(x)
    decoder: list[nn.Module] = []
    between: list[nn.Module] = []  # no rectifier stands before the first layer
    for layer, size in zip(reversed(layers), reversed(sizes), strict=True):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            decoder += [*between, Transposed(layer) if tied else _opposite(layer)]
            between = [nn.LeakyReLU(SLOPE)]
        elif isinstance(layer, nn.Flatten):
            decoder.append(nn.Unflatten(1, size))
    return nn.Sequential(*decoder)


class Transposed(nn.Module):
    """A linear or convolutional layer in the other direction: the same weights, and a bias of its own."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple no module registers it: its weights are saved where it stands
        self.bias = nn.Parameter(torch.zeros(layer.weight.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Return inputs that the layer could have been given, from its outputs `x`."""
        (layer,) = self._layer
        if isinstance(layer, nn.Linear):
            return F.linear(x, layer.weight.T, self.bias)
        return F.conv_transpose2d(x, layer.weight, self.bias, _pair(layer.stride), _pair(layer.padding))


def _opposite(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.out_features, layer.in_features)
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    return nn.ConvTranspose2d(layer.out_channels, layer.in_channels, kernel, stride, _pair(layer.padding))


def _pair(size: object) -> tuple[int, int]:
    assert isinstance(size, tuple)
    return int(size[0]), int(size[1])
