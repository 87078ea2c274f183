"""Adversarial logit pairing (Kannan et al. 2018, arXiv:1803.06373)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import PGD, Attack
from sparring.attacks.freezing import Statistics
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.crafted import Crafted, Halves, accuracies


@dataclass(frozen=True, kw_only=True)
class ALP(Crafted):
    """Cross-entropy on clean and adversarial images, and `weight` times the mean squared difference of their logits.

    Engstrom et al. (2018, arXiv:1807.10272) broke the authors' ImageNet model with more attack steps.
    """

    name = "alp"
    source = "arXiv:1803.06373"
    soft_labels = True
    threat: ThreatModel
    weight: float = 0.5
    mix: float = 0.5
    attack: Attack = PGD(steps=10, rel_step_size=0.25)
    halves: Halves = "joint"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise InputError(f"alp: weight must be at least 0, not {self.weight}")
        if not 0 <= self.mix <= 1:
            raise InputError(f"alp: mix is the weight of adversarial images, 0 to 1, not {self.mix}")

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        clean, adversarial = self.both(net, x, x_adv)
        mixed = (1 - self.mix) * F.cross_entropy(clean, y) + self.mix * F.cross_entropy(adversarial, y)
        return mixed + self.weight * F.mse_loss(adversarial, clean), accuracies(clean, adversarial, y)
