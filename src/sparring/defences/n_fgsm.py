"""N-FGSM: a step from a noisy image, and no projection (de Jorge et al. 2022, arXiv:2202.01181)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks import Oracle
from sparring.attacks.freezing import Statistics, frozen
from sparring.attacks.losses import cross_entropy
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.base import check_step, draw_seed
from sparring.defences.crafted import Perturbing, adversarial_alone


@dataclass(frozen=True, kw_only=True)
class NFGSM(Perturbing):
    """Cross-entropy on images with noise from a ball of `noise` times eps, and one step up the loss from there.

    The gradient is taken at the noisy image, and noise and step, `rel_step_size` of eps long, stay as they are: their
    sum may leave the threat's ball, and is cut to [0, 1] alone. The authors take noise 2 and a step of 1. While it is
    made, batch norm uses the batch's statistics (`crafting`), as theirs does.
    """

    name = "n_fgsm"
    source = "arXiv:2202.01181"
    soft_labels = True
    threat: ThreatModel
    noise: float = 2.0
    rel_step_size: float = 1.0
    crafting: Statistics = "train"

    def __post_init__(self) -> None:
        check_step(self.name, self.rel_step_size)
        if not 0 <= self.noise < math.inf:
            raise InputError(f"n_fgsm: noise is a multiple of eps, at least 0, not {self.noise}")

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        reach = self.threat.reach(x)
        with frozen(net, self.crafting):
            oracle = Oracle(net, torch.arange(len(x), device=x.device), seed=draw_seed(generator))
            noise = self.threat.noise(x, oracle.uniform(x[0].numel() + 1), self.noise * reach)
            noisy = (x + noise).clamp(0, 1)
            _, grad, _ = oracle.value_and_gradient(noisy, lambda logits: cross_entropy(logits, y))
        return (noisy + self.threat.ascent(noisy, grad, self.rel_step_size * reach)).clamp(0, 1)

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return adversarial_alone(net, x_adv, y)
