"""Fast adversarial training: FGSM from a random start (Wong, Rice & Kolter 2020, arXiv:2001.03994)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks import PGD, craft
from sparring.attacks.freezing import Statistics
from sparring.core.threat import ThreatModel
from sparring.defences.base import check_step, draw_seed
from sparring.defences.crafted import Perturbing, adversarial_alone


@dataclass(frozen=True, kw_only=True)
class Fast(Perturbing):
    """Cross-entropy on images that one step makes of a point drawn evenly from the threat's ball.

    The step is `rel_step_size` of eps long, and projected back into the ball; the authors take 1.25. While it is made,
    batch norm uses the batch's statistics (`crafting`), as theirs does.
    """

    name = "fast"
    source = "arXiv:2001.03994"
    soft_labels = True
    threat: ThreatModel
    rel_step_size: float = 1.25
    crafting: Statistics = "train"

    def __post_init__(self) -> None:
        check_step(self.name, self.rel_step_size)

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        attack = PGD(steps=1, rel_step_size=self.rel_step_size)
        return craft(attack, net, x, y, self.threat, seed=draw_seed(generator), statistics=self.crafting)

    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return adversarial_alone(net, x_adv, y)
