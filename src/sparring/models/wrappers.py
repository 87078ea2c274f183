"""What stands inside a classifier before its first layer, so that eps is in pixels of [0, 1] everywhere."""

from typing import Literal

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.data.dataset import Split, to_float

Normalisation = Literal["none", "mean_std", "mean_image"]
CHUNK = 4096  # images turned to float at a time


class Normalise(nn.Module):
    """Subtract `mean` and divide by `std`, each broadcastable to (C, H, W)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if not bool((std > 0).all()):
            raise InputError("normalise: std must be more than 0 in every channel")
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised images (B, C, H, W)."""
        return (x - self.mean) / self.std


class MeanImage(nn.Module):
    """Subtract the training set's mean image (C, H, W)."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images (B, C, H, W) less the mean image."""
        return x - self.mean


def normaliser(kind: Normalisation, split: Split) -> nn.Module:
    """Return the layer that normalises as `kind` says, with the statistics of `split`."""
    if kind == "none":
        return nn.Identity()
    total = torch.zeros(split.x.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(split.x, CHUNK):
        pixels = to_float(chunk).double()
        total += pixels.sum(0)
        squares += pixels.square().sum(0)
    mean = total / len(split)
    if kind == "mean_image":
        return MeanImage(mean.float())
    centre = mean.mean((1, 2), keepdim=True)
    spread = ((squares / len(split)).mean((1, 2), keepdim=True) - centre.square()).clamp(min=0).sqrt()
    return Normalise(centre.float(), spread.float())


def blank_normaliser(kind: Normalisation, shape: tuple[int, int, int]) -> nn.Module:
    """Return a normaliser whose statistics are still to be loaded."""
    if kind == "none":
        return nn.Identity()
    if kind == "mean_image":
        return MeanImage(torch.zeros(shape))
    return Normalise(torch.zeros(shape[0], 1, 1), torch.ones(shape[0], 1, 1))
