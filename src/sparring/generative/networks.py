"""The networks that generative models are made of; they fit any image whose sides are at least 4."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from sparring.core.errors import InputError

SMALLEST = 4  # sides are halved while they are even and larger
MOST = 3  # halvings
SLOPE = 0.2  # of the leaky rectifiers


def halvings(shape: tuple[int, int, int]) -> int:
    """Return how often strided convolutions halve an image of `shape` (C, H, W): 28 to 14 to 7, 32 to 16 to 8 to 4."""
    _, height, width = shape
    if min(height, width) < SMALLEST:
        raise InputError(f"generative models take images of at least 4x4, not {height}x{width}")
    count = 0
    while count < MOST and height % 2 == width % 2 == 0 and min(height, width) > SMALLEST:
        height, width, count = height // 2, width // 2, count + 1
    return count


def innermost(shape: tuple[int, int, int], width: int) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the innermost feature maps; `width` is the channels of the outermost."""
    count = halvings(shape)
    return width << max(count - 1, 0), shape[1] >> count, shape[2] >> count


def conv_decoder(inputs: int, shape: tuple[int, int, int], width: int) -> nn.Sequential:
    """Return a network from (B, inputs) to what a sigmoid turns into images (B, *shape) (Radford et al. 2016)."""
    channels, height, breadth = innermost(shape, width)
    layers: list[nn.Module] = [
        nn.Linear(inputs, channels * height * breadth, bias=False),
        nn.Unflatten(1, (channels, height, breadth)),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    for _ in range(halvings(shape) - 1):
        half = channels // 2
        layers += [nn.ConvTranspose2d(channels, half, 4, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()]
        channels = half
    doubling = PatchSum if shape[0] == 1 else nn.ConvTranspose2d
    last = doubling(channels, shape[0], 4, 2, 1) if halvings(shape) else nn.Conv2d(channels, shape[0], 3, 1, 1)
    return nn.Sequential(*layers, last)


class PatchSum(nn.ConvTranspose2d):
    """A transposed convolution as one matrix product that gives all patches, then their sum where they overlap.

    To one channel it takes a fifth of torch's time, and half of it to learn; to many it takes longer than torch's.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        count, channels, height, width = x.shape
        assert not isinstance(self.padding, str)
        kernel, stride, padding = self.kernel_size[0], self.stride[0], self.padding[0]
        patches = x.permute(0, 2, 3, 1).reshape(-1, channels) @ self.weight.flatten(1)
        size = tuple((side - 1) * stride - 2 * padding + kernel for side in (height, width))
        outputs = F.fold(
            patches.view(count, height * width, -1).transpose(1, 2), size, kernel, padding=padding, stride=stride
        )
        return outputs if self.bias is None else outputs + self.bias[:, None, None]


def conv_features(shape: tuple[int, int, int], width: int, *, batch_norm: bool) -> nn.Sequential:
    """Return a network from images (B, *shape) to flat features (B, F), the product of `innermost`."""
    channels, count = shape[0], halvings(shape)
    layers: list[nn.Module] = []
    for place in range(max(count, 1)):
        strided = (4, 2, 1) if count else (3, 1, 1)
        layers.append(nn.Conv2d(channels, width << place, *strided))
        if batch_norm and place:
            layers.append(nn.BatchNorm2d(width << place))
        layers.append(nn.LeakyReLU(SLOPE))
        channels = width << place
    return nn.Sequential(*layers, nn.Flatten())


class Encoder(nn.Module):
    """Flat features of images, beside the shares of their classes where it is conditional, to (B, outputs)."""

    def __init__(self, features: nn.Sequential, last: nn.Module) -> None:
        super().__init__()
        self.features, self.last = features, last

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return codes or their parameters; `shares` (B, classes) of each class: no columns without condition."""
        outputs: Tensor = self.last(torch.cat([self.features(x), shares], 1))
        return outputs


def conv_encoder(shape: tuple[int, int, int], width: int, classes: int, outputs: int, *, batch_norm: bool) -> Encoder:
    """Return an encoder of strided convolutions and one linear layer."""
    features = conv_features(shape, width, batch_norm=batch_norm)
    return Encoder(features, nn.Linear(prod(innermost(shape, width)) + classes, outputs))


class ImageDiscriminator(nn.Module):
    """Images to one logit each, (B,): how real they look, and where it is conditional, as images of their class.

    The class enters as a projection (Miyato & Koyama 2018, arXiv:1802.05637).
    """

    def __init__(self, shape: tuple[int, int, int], width: int, classes: int, *, spectral: bool) -> None:
        super().__init__()
        self.features = conv_features(shape, width, batch_norm=False)
        size = prod(innermost(shape, width))
        self.last = nn.Linear(size, 1)
        self.of_class = nn.Linear(classes, size, bias=False) if classes else None
        if spectral:
            for layer in list(self.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Return logits (B,): positive means real; `shares` (B, classes) of each class."""
        features = self.features(x)
        logits: Tensor = self.last(features).squeeze(1)
        if self.of_class is not None:
            logits = logits + (features * self.of_class(shares)).sum(1)
        return logits


def quick(network: nn.Module) -> None:
    """Keep the convolutions' weights in the layout that is fastest here."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
