"""Autoencoders of fully connected layers (Hinton & Salakhutdinov 2006, doi:10.1126/science.1127647)."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from torch import nn

from sparring.core.errors import InputError
from sparring.generative.base import GenerativeNetwork
from sparring.generative.networks import SLOPE, Encoder
from sparring.generative.reconstructing import Reconstructing, mirrored


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Reconstructing):
    """Fully connected layers of the sizes `hidden` down to a code of `latent` numbers, and the same back up.

    The loss is the mean squared error of the pixels. `tied`: the layers up have the transposed weights of those down.
    """

    name = "autoencoder"
    source = "doi:10.1126/science.1127647"
    hidden: tuple[int, ...] = (512, 256)

    def __post_init__(self) -> None:
        self.check_positive("latent")
        if not all(size > 0 for size in self.hidden):
            raise InputError(f"autoencoder: hidden sizes must be at least 1, not {self.hidden}")

    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        sizes = (prod(shape), *self.hidden)
        features = nn.Sequential(nn.Flatten())
        for size, following in pairwise(sizes):
            features.extend([nn.Linear(size, following), nn.LeakyReLU(SLOPE)])
        encoder = Encoder(features, nn.Linear(sizes[-1], self.latent))
        return GenerativeNetwork(self, shape, classes, mirrored(encoder, shape, tied=self.tied), encoder)
