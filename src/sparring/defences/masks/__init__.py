"""Masks: what stands in front of a classifier, one file each."""

from sparring.core.spec import Catalogue
from sparring.defences.masks.defense_gan import DefenseGAN
from sparring.defences.masks.defense_vae import DefenseVAE
from sparring.models.mask import Mask

MASKS = Catalogue(Mask, "mask", (DefenseVAE, DefenseGAN))

__all__ = ["MASKS", "DefenseGAN", "DefenseVAE", "Mask"]
