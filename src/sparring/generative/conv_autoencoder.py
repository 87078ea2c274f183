"""Autoencoders of convolutions (Masci et al. 2011, doi:10.1007/978-3-642-21735-7_7)."""

from dataclasses import dataclass

from sparring.generative.base import GenerativeNetwork
from sparring.generative.networks import conv_encoder
from sparring.generative.reconstructing import Reconstructing, mirrored


@dataclass(frozen=True, kw_only=True)
class ConvAutoencoder(Reconstructing):
    """Strided convolutions and a linear layer down to a code of `latent` numbers, and the same back up.

    The loss is the mean squared error of the pixels. `width`: channels of the feature maps next to the image, doubled
    with each halving of its sides. `tied`: the layers up have the transposed weights of those down.
    """

    name = "conv_autoencoder"
    source = "doi:10.1007/978-3-642-21735-7_7"
    width: int = 32

    def __post_init__(self) -> None:
        self.check_positive("latent", "width")

    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        encoder = conv_encoder(shape, self.width, 0, self.latent, batch_norm=False)
        return GenerativeNetwork(self, shape, classes, mirrored(encoder, shape, tied=self.tied), encoder)
