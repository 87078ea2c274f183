"""Defences: ways to train a classifier, one file each."""

from sparring.core.spec import Catalogue
from sparring.defences.a3t import A3T
from sparring.defences.adversarial import Adversarial
from sparring.defences.alp import ALP
from sparring.defences.awp import AWP
from sparring.defences.base import Defence, LossDefence
from sparring.defences.best_epoch import BestEpoch
from sparring.defences.ema import EMA
from sparring.defences.ensemble_adversarial import EnsembleAdversarial
from sparring.defences.fast import Fast
from sparring.defences.free import Free
from sparring.defences.gan_game import GanGame
from sparring.defences.gat import GAT
from sparring.defences.generated import Generated
from sparring.defences.label_smoothing import LabelSmoothing
from sparring.defences.latent_mix import LatentMix
from sparring.defences.manifold_mixup import ManifoldMixup
from sparring.defences.mart import MART
from sparring.defences.masked import MaskedTraining
from sparring.defences.masks import MASKS
from sparring.defences.mixup import Mixup
from sparring.defences.multi_task import MultiTask
from sparring.defences.n_fgsm import NFGSM
from sparring.defences.noise_training import NoiseTraining
from sparring.defences.pixel_mix import PixelMix
from sparring.defences.standard import Standard
from sparring.defences.trades import TRADES

DEFENCES = Catalogue(
    Defence,
    "defence",
    (
        Standard,
        LabelSmoothing,
        Mixup,
        ManifoldMixup,
        PixelMix,
        LatentMix,
        Generated,
        NoiseTraining,
        Adversarial,
        TRADES,
        MART,
        ALP,
        Free,
        Fast,
        NFGSM,
        EnsembleAdversarial,
        AWP,
        EMA,
        BestEpoch,
        MaskedTraining,
        MultiTask,
        A3T,
        GanGame,
        GAT,
    ),
    outside=True,
)

__all__ = [
    "A3T",
    "ALP",
    "AWP",
    "DEFENCES",
    "EMA",
    "GAT",
    "MART",
    "MASKS",
    "NFGSM",
    "TRADES",
    "Adversarial",
    "BestEpoch",
    "Defence",
    "EnsembleAdversarial",
    "Fast",
    "Free",
    "GanGame",
    "Generated",
    "LabelSmoothing",
    "LatentMix",
    "LossDefence",
    "ManifoldMixup",
    "MaskedTraining",
    "Mixup",
    "MultiTask",
    "NoiseTraining",
    "PixelMix",
    "Standard",
]
