"""Defense-VAE (Li & Ji 2019, arXiv:1812.06570)."""

from dataclasses import dataclass

from sparring.defences.masks.purifying import Purifier, Purifying
from sparring.generative import GenerativeNetwork


@dataclass(frozen=True, kw_only=True)
class DefenseVAE(Purifying):
    """Encodes each image and decodes it again, by any model with an encoder: one pass, with a gradient as it stands.

    The authors train their VAE to give clean images back from attacked ones; here it is as its own run trained it.
    """

    name = "defense_vae"
    source = "arXiv:1812.06570"

    def around(self, network: GenerativeNetwork) -> Purifier:
        return self.encoding(network)
