"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.base import Model
from sparring.models.weights import fill, fill_but_last, read_weights

FIRES = (  # channels in, squeezed, and of each of the two expansions; None: a pool
    (96, 16, 64), (128, 16, 64), (128, 32, 128), None,
    (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256), None,
    (512, 64, 256),
)  # fmt: skip
SMALLEST = 21  # what the strides and pools leave a pixel of
MEAN = (123 / 255, 117 / 255, 104 / 255)  # of ImageNet's red, green and blue, as the released weights expect


@dataclass(frozen=True, kw_only=True)
class SqueezeNet(Model):
    """SqueezeNet 1.0 for colour images of at least 21x21, ImageNet's mean colour taken away inside.

    `weights`: a safetensors file, as it is or below the data folders, such as
    "imagenet-sample/squeezenet1_0.safetensors"; without it the weights are fresh.
    """

    name = "squeezenet"
    weights: str = ""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        channels, height, width = shape
        if channels != 3 or min(height, width) < SMALLEST:
            raise InputError(f"squeezenet: takes colour images of at least {SMALLEST}x{SMALLEST}, not {shape}")
        return Squeezing(classes)

    def fill(self, network: nn.Module) -> None:
        if self.weights:
            fill(network, read_weights(self.weights), f"squeezenet: {self.weights}")

    def begin(self, network: nn.Module) -> None:
        if self.weights:
            fill_but_last(network, read_weights(self.weights), f"squeezenet: {self.weights}")


class Squeezing(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to logits (B, K)."""

    mean: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(), _pool()]
        layers += [_pool() if fire is None else Fire(*fire) for fire in FIRES]
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(512, classes, 1, padding=1)  # as released
        self.classifier = nn.Sequential(nn.Dropout(), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        centred = (x - self.mean).contiguous(memory_format=torch.channels_last)  # on a CPU in two thirds of the time
        logits: Tensor = self.classifier(self.features(centred))
        return logits


class Fire(nn.Module):
    """A squeezing 1x1 convolution, and beside each other an expanding 1x1 and 3x3 one."""

    def __init__(self, before: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, 2 * expanded, H, W)."""
        squeezed = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], 1).relu()


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)
