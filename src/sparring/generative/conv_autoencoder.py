"""Autoencoders of convolutions (Masci et al. 2011, doi:10.1007/978-3-642-21735-7_7)."""

from dataclasses import dataclass

from torch import nn

from sparring.core.errors import InputError
from sparring.generative.base import GenerativeNetwork
from sparring.generative.networks import Encoder, conv_encoder, conv_features, innermost
from sparring.generative.reconstructing import Reconstructing, mirrored


@dataclass(frozen=True, kw_only=True)
class ConvAutoencoder(Reconstructing):
    """Strided convolutions and a linear layer down to a code of `latent` numbers, and the same back up.

    The loss is the mean squared error of the pixels. `width`: channels of the feature maps next to the image, doubled
    with each halving of its sides. `tied`: the layers up have the transposed weights of those down. `spatial`: no
    layer sees the whole image, the code is feature maps, as in the paper; `latent` is a multiple of their places.
    """

    name = "conv_autoencoder"
    source = "doi:10.1007/978-3-642-21735-7_7"
    width: int = 32
    spatial: bool = False

    def __post_init__(self) -> None:
        self.check_positive("latent", "width")

    def build(self, shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
        if self.spatial:
            encoder = self._spatial_encoder(shape)
        else:
            encoder = conv_encoder(shape, self.width, 0, self.latent, batch_norm=False)
        return GenerativeNetwork(self, shape, classes, mirrored(encoder, shape, tied=self.tied), encoder)

    def _spatial_encoder(self, shape: tuple[int, int, int]) -> Encoder:
        channels, height, width = innermost(shape, self.width)
        maps, left = divmod(self.latent, height * width)
        if left:
            raise InputError(
                f"conv_autoencoder: latent must be a multiple of the {height}x{width} places of the code's feature "
                f"maps, such as {(maps + 1) * height * width}, not {self.latent}"
            )
        *features, flatten = conv_features(shape, self.width, batch_norm=False)
        return Encoder(nn.Sequential(*features, nn.Conv2d(channels, maps, 1), flatten), nn.Identity())
