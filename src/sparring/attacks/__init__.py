"""Attacks: one file each, all under one contract, all run by `run`."""

from sparring.attacks.adaptation import bpda
from sparring.attacks.base import Adversarial, Attack, craft, run
from sparring.attacks.crafting import Crafting
from sparring.attacks.fgsm import FGSM
from sparring.attacks.oracle import Oracle
from sparring.attacks.pgd import PGD
from sparring.attacks.uniform_noise import UniformNoise
from sparring.core.spec import Catalogue

ATTACKS = Catalogue(Attack, "attack", (UniformNoise, FGSM, PGD))

__all__ = [
    "ATTACKS",
    "FGSM",
    "PGD",
    "Adversarial",
    "Attack",
    "Crafting",
    "Oracle",
    "UniformNoise",
    "bpda",
    "craft",
    "run",
]
