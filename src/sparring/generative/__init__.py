"""Generative models, one file each, and the latent codes of images in them."""

from sparring.core.spec import Catalogue
from sparring.generative.autoencoder import Autoencoder
from sparring.generative.base import Generative, GenerativeModel, GenerativeNetwork
from sparring.generative.conv_autoencoder import ConvAutoencoder
from sparring.generative.encoding import Encoding
from sparring.generative.gan import GAN
from sparring.generative.vae import VAE
from sparring.generative.wgan_gp import WGANGP

GENERATIVES = Catalogue(Generative, "generative model", (GAN, WGANGP, VAE, Autoencoder, ConvAutoencoder, Encoding))

__all__ = [
    "GAN",
    "GENERATIVES",
    "VAE",
    "WGANGP",
    "Autoencoder",
    "ConvAutoencoder",
    "Encoding",
    "Generative",
    "GenerativeModel",
    "GenerativeNetwork",
]
