"""A multi-layer perceptron."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from sparring.core.errors import InputError
from sparring.models.base import Model

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class MLP(Model):
    """Fully connected layers of the sizes `hidden`, each with its norm and activation; any image."""

    name = "mlp"
    hidden: tuple[int, ...] = (128, 64)
    norm: Literal["none", "batch"] = "none"
    activation: Literal["relu", "leaky_relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        if not all(size > 0 for size in self.hidden):
            raise InputError(f"mlp: hidden sizes must be at least 1, not {self.hidden}")

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise((prod(shape), *self.hidden)):
            layers.append(nn.Linear(before, after))
            if self.norm == "batch":
                layers.append(nn.BatchNorm1d(after))
            layers.append(ACTIVATIONS[self.activation]())
        return nn.Sequential(*layers, nn.Linear((prod(shape), *self.hidden)[-1], classes))
