"""Attacks: one file each, all under one contract, all run by `run`."""

from sparring.attacks.adaptation import bpda
from sparring.attacks.apgd import APGD
from sparring.attacks.autoattack import AutoAttack
from sparring.attacks.base import Adversarial, Attack, craft, run
from sparring.attacks.crafting import Crafting
from sparring.attacks.cw import CW
from sparring.attacks.ddn import DDN
from sparring.attacks.deepfool import DeepFool
from sparring.attacks.fab import FAB
from sparring.attacks.fgsm import FGSM
from sparring.attacks.fmn import FMN
from sparring.attacks.hopskipjump import HopSkipJump
from sparring.attacks.learned import Learned
from sparring.attacks.mifgsm import MIFGSM
from sparring.attacks.oracle import Oracle
from sparring.attacks.pgd import PGD
from sparring.attacks.preparing import LearnedAttack, prepared
from sparring.attacks.square import Square
from sparring.attacks.targeted import Targeted
from sparring.attacks.transfer import Transfer
from sparring.attacks.uniform_noise import UniformNoise
from sparring.attacks.universal import Universal, fooling_rate
from sparring.core.spec import Catalogue

ATTACKS = Catalogue(
    Attack,
    "attack",
    (
        UniformNoise,
        FGSM,
        PGD,
        DeepFool,
        DDN,
        FMN,
        CW,
        APGD,
        FAB,
        Square,
        AutoAttack,
        MIFGSM,
        Targeted,
        HopSkipJump,
        Transfer,
        Universal,
        Learned,
    ),
    "pgd(steps=40)",
    outside=True,
)

__all__ = [
    "APGD",
    "ATTACKS",
    "CW",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "MIFGSM",
    "PGD",
    "Adversarial",
    "Attack",
    "AutoAttack",
    "Crafting",
    "DeepFool",
    "HopSkipJump",
    "Learned",
    "LearnedAttack",
    "Oracle",
    "Square",
    "Targeted",
    "Transfer",
    "UniformNoise",
    "Universal",
    "bpda",
    "craft",
    "fooling_rate",
    "prepared",
    "run",
]
