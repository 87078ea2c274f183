"""Adversarial training (Goodfellow et al. 2015, arXiv:1412.6572; Madry et al. 2018, arXiv:1706.06083)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import Attack
from sparring.attacks.freezing import Statistics
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.crafted import Crafted, Halves, accuracies, adversarial_alone


@dataclass(frozen=True, kw_only=True)
class Adversarial(Crafted):
    """Cross-entropy on clean images and on images that `attack` makes of the same examples with the current network.

    The loss is (1 - mix) * clean + mix * adversarial: 0.5 is Goodfellow's even mixture, 1 is Madry's. Batch norm sees
    both halves as one batch (`halves="joint"`) or each on its own ("separate"); `crafting` says which statistics it
    uses while the attack runs: the running ones ("eval") or the batch's ("train").
    """

    name = "adversarial"
    source = "arXiv:1706.06083"
    soft_labels = True
    attack: Attack
    threat: ThreatModel
    mix: float = 1.0
    halves: Halves = "joint"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not 0 < self.mix <= 1:
            raise InputError(
                f"adversarial: mix is the weight of adversarial images, above 0 and up to 1, not {self.mix}"
            )

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.mix == 1:
            return adversarial_alone(net, x_adv, y)
        clean, adversarial = self.both(net, x, x_adv)
        loss = (1 - self.mix) * F.cross_entropy(clean, y) + self.mix * F.cross_entropy(adversarial, y)
        return loss, accuracies(clean, adversarial, y)
