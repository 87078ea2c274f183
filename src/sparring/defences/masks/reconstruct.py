"""An autoencoder in front of a classifier (Gu & Rigazio 2014, arXiv:1412.5068; Liang, Hayes & Althoff 2017)."""

from dataclasses import dataclass

from sparring.defences.masks.purifying import Purifier, Purifying
from sparring.generative import GenerativeNetwork


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Purifying):
    """Encodes each image and decodes it again, by an autoencoder; that has a gradient as it stands."""

    name = "reconstruct"
    source = "arXiv:1412.5068"

    def around(self, network: GenerativeNetwork) -> Purifier:
        return self.encoding(network)
