"""Adversarial training (Goodfellow et al. 2015, arXiv:1412.6572; Madry et al. 2018, arXiv:1706.06083)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import Attack, craft
from sparring.attacks.oracle import Statistics
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.defences.base import LossDefence, accuracy, draw_seed


@dataclass(frozen=True, kw_only=True)
class Adversarial(LossDefence):
    """Cross-entropy on clean images and on images that `attack` makes of the same examples with the current network.

    The loss is (1 - mix) * clean + mix * adversarial: 0.5 is Goodfellow's even mixture, 1 is Madry's. Batch norm sees
    both halves as one batch (`halves="joint"`) or each on its own ("separate"); `crafting` says which statistics it
    uses while the attack runs: the running ones ("eval") or the batch's ("train").
    """

    name = "adversarial"
    source = "arXiv:1706.06083"
    attack: Attack
    threat: ThreatModel
    mix: float = 1.0
    halves: Literal["joint", "separate"] = "joint"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not 0 < self.mix <= 1:
            raise InputError(
                f"adversarial: mix is the weight of adversarial images, above 0 and up to 1, not {self.mix}"
            )

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seed = draw_seed(generator)
        x_adv = craft(self.attack, net, x, y, self.threat, seed=seed, statistics=self.crafting)
        if self.mix == 1:
            logits = net(x_adv)
            return F.cross_entropy(logits, y), {"adversarial_accuracy": accuracy(logits, y)}
        if self.halves == "joint":
            clean, adversarial = net(torch.cat([x, x_adv])).chunk(2)
        else:
            clean, adversarial = net(x), net(x_adv)
        loss = (1 - self.mix) * F.cross_entropy(clean, y) + self.mix * F.cross_entropy(adversarial, y)
        return loss, {"accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
