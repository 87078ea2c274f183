"""Training on random noise: the control that adversarial training must beat."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks import UniformNoise
from sparring.core.threat import ThreatModel
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import LossDefence


@dataclass(frozen=True, kw_only=True)
class NoiseTraining(LossDefence):
    """Cross-entropy on clean images and on images with uniform noise from the threat's ball, weighted by `mix`."""

    name = "noise_training"
    source = "folklore"
    soft_labels = True
    threat: ThreatModel
    mix: float = 0.5

    def __post_init__(self) -> None:
        self._as_adversarial()

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self._as_adversarial().loss(net, x, y, progress=progress, generator=generator)

    def _as_adversarial(self) -> Adversarial:
        return Adversarial(attack=UniformNoise(), threat=self.threat, mix=self.mix)
