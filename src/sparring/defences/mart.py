"""Misclassification-aware adversarial training, MART (Wang et al. 2020, ICLR, openreview.net/forum?id=rklOg6EFwS)."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import PGD, Attack
from sparring.attacks.freezing import Statistics
from sparring.attacks.losses import divergence
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.crafted import Crafted, Halves, accuracies

SURE = 1e-4  # keeps the logarithm finite where the rival is certain; the authors' code


@dataclass(frozen=True, kw_only=True)
class MART(Crafted):
    """Boosted cross-entropy on adversarial images, and `beta` times the divergence, weighted by doubt about the clean.

    Loss: -log p_y(x_adv) - log(1 - max_k p_k(x_adv)) + beta * KL(p(x) || p(x_adv)) * (1 - p_y(x)), k other than y.
    """

    name = "mart"
    source = "openreview.net/forum?id=rklOg6EFwS"
    threat: ThreatModel
    beta: float = 6.0
    attack: Attack = PGD(steps=10, rel_step_size=0.225)
    halves: Halves = "separate"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise InputError(f"mart: beta must be at least 0, not {self.beta}")

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        clean, adversarial = self.both(net, x, x_adv)
        label = y[:, None]
        rival = adversarial.softmax(1).scatter(1, label, -math.inf).amax(1)
        boosted = F.cross_entropy(adversarial, y, reduction="none") - (1 + SURE - rival).log()
        doubt = 1 - clean.softmax(1).gather(1, label).squeeze(1)
        loss = (boosted + self.beta * divergence(adversarial, clean) * doubt).mean()
        return loss, accuracies(clean, adversarial, y)
