"""Masks: what stands in front of a classifier, one file each."""

from sparring.core.spec import Catalogue
from sparring.defences.masks.additive_noise import AdditiveNoise
from sparring.defences.masks.bit_depth import BitDepth
from sparring.defences.masks.defense_gan import DefenseGAN
from sparring.defences.masks.defense_vae import DefenseVAE
from sparring.defences.masks.downsample import Downsample
from sparring.defences.masks.jpeg import JPEG
from sparring.defences.masks.median import Median
from sparring.defences.masks.pca import PCA
from sparring.defences.masks.reconstruct import Reconstruct
from sparring.defences.masks.smooth import Smooth
from sparring.models.mask import Mask

MASKS = Catalogue(
    Mask, "mask", (PCA, Reconstruct, AdditiveNoise, Downsample, JPEG, BitDepth, Median, Smooth, DefenseVAE, DefenseGAN)
)

__all__ = [
    "JPEG",
    "MASKS",
    "PCA",
    "AdditiveNoise",
    "BitDepth",
    "DefenseGAN",
    "DefenseVAE",
    "Downsample",
    "Mask",
    "Median",
    "Reconstruct",
    "Smooth",
]
