"""Defences: ways to train a classifier, one file each."""

from sparring.core.spec import Catalogue
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import Defence, LossDefence
from sparring.defences.noise_training import NoiseTraining
from sparring.defences.standard import Standard

DEFENCES = Catalogue(Defence, "defence", (Standard, NoiseTraining, Adversarial))

__all__ = ["DEFENCES", "Adversarial", "Defence", "LossDefence", "NoiseTraining", "Standard"]
