"""Defences: ways to train a classifier, one file each."""

from sparring.core.spec import Catalogue
from sparring.defences.adversarial import Adversarial
from sparring.defences.alp import ALP
from sparring.defences.base import Defence, LossDefence
from sparring.defences.mart import MART
from sparring.defences.noise_training import NoiseTraining
from sparring.defences.standard import Standard
from sparring.defences.trades import TRADES

DEFENCES = Catalogue(Defence, "defence", (Standard, NoiseTraining, Adversarial, TRADES, MART, ALP))

__all__ = ["ALP", "DEFENCES", "MART", "TRADES", "Adversarial", "Defence", "LossDefence", "NoiseTraining", "Standard"]
