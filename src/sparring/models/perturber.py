"""A perturber: the adversary's network, which learns how to move an image (Dhillon & Pavse 2018)."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component
from sparring.core.threat import TINY, ThreatModel
from sparring.models.mlp import MLP


@dataclass(frozen=True, kw_only=True)
class Perturber(Component):
    """A multi-layer perceptron that gives, of each image, a direction with all values in [-1, 1].

    `output` brings them there: "tanh" of each value, or "scaled", an image's values less their mean and divided by the
    largest that is left. It `gives` the perturbation itself, or the "image" to move towards. It `sees` the image, or
    the "gradient" of the classifier's loss there (each image's divided by its root mean square).
    """

    name = "perturber"
    hidden: tuple[int, ...] = (512, 512)
    output: Literal["tanh", "scaled"] = "tanh"
    gives: Literal["perturbation", "image"] = "perturbation"
    sees: Literal["image", "gradient"] = "image"
    norm: Literal["none", "batch"] = "batch"

    def __post_init__(self) -> None:
        if not all(size > 0 for size in self.hidden):
            raise InputError(f"perturber: hidden sizes must be at least 1, not {self.hidden}")
        if self.gives == "image" and self.sees == "gradient":
            raise InputError('perturber: what gives an image must see the image; with sees="gradient" it cannot')

    def build(self, shape: tuple[int, int, int]) -> "PerturberNetwork":
        """Return a fresh network for images of `shape` (C, H, W)."""
        layers = MLP(hidden=self.hidden, norm=self.norm, activation="leaky_relu").build(shape, prod(shape))
        return PerturberNetwork(self, shape, layers)


class PerturberNetwork(nn.Module):
    """Images (B, C, H, W) in [0, 1], or gradients, to directions (B, C, H, W) in [-1, 1]."""

    def __init__(self, about: Perturber, shape: tuple[int, int, int], layers: nn.Module) -> None:
        super().__init__()
        self.about, self.shape, self.layers = about, shape, layers

    def forward(self, seen: Tensor) -> Tensor:
        """Return the direction in which to move each image; `seen` is what the network sees of it."""
        if self.about.sees == "gradient":
            seen = seen / _each(seen.flatten(1).abs().amax(1))  # or the squares of a sure image's gradient were all 0
            seen = seen / _each(seen.flatten(1).square().mean(1).sqrt())
        values: Tensor = self.layers(seen)
        if self.about.output == "tanh":
            values = torch.tanh(values)
        else:
            values = values - values.mean(1, keepdim=True)
            values = values / values.abs().amax(1, keepdim=True).clamp(min=TINY)
        values = values.view_as(seen)
        return values if self.about.gives == "perturbation" else (values + 1) / 2 - seen


def _each(size: Tensor) -> Tensor:
    """Return sizes (B,) to divide images by."""
    return size.clamp(min=TINY).view(-1, 1, 1, 1)


def moved(x: Tensor, direction: Tensor, threat: ThreatModel) -> Tensor:
    """Return images (B, C, H, W) in [0, 1] moved by eps along directions, each shortened to norm 1 if it is longer.

    A direction in [-1, 1] is at most 1 long in Linf, and in no other norm: there it ends on the sphere.
    """
    length = threat.distance(direction, torch.zeros_like(direction)).clamp(min=1)
    return (x + threat.eps * direction / length.view(-1, 1, 1, 1)).clamp(0, 1)


PERTURBERS = Catalogue(Perturber, "perturber", (Perturber,))
