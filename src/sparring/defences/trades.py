"""TRADES (Zhang et al. 2019, arXiv:1901.08573)."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import PGD, Attack
from sparring.attacks.freezing import Statistics
from sparring.attacks.losses import divergence
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.crafted import Crafted, Halves, accuracies


@dataclass(frozen=True, kw_only=True)
class TRADES(Crafted):
    """Cross-entropy on clean images, and `beta` times how far predictions go from them within the threat's ball.

    Loss: CE(f(x), y) + beta * KL(f(x) || f(x_adv)). The attack climbs the same divergence, not the labels' loss. The
    authors take beta 6 and step by 0.007 where eps is 0.031; for MNIST beta 1, and 40 steps of 0.01 where it is 0.3.
    They begin at the image, moved by noise of 0.001; here the attack begins where it will, by default in all the ball.
    """

    name = "trades"
    source = "arXiv:1901.08573"
    soft_labels = True
    threat: ThreatModel
    beta: float = 6.0
    attack: Attack = PGD(steps=10, rel_step_size=0.225, loss="kl")
    halves: Halves = "separate"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise InputError(f"trades: beta must be at least 0, not {self.beta}")

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        clean, adversarial = self.both(net, x, x_adv)
        loss = F.cross_entropy(clean, y) + self.beta * divergence(adversarial, clean).mean()
        return loss, accuracies(clean, adversarial, y)
