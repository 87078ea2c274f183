"""What adversarial training and its kin share: images crafted with the current network, beside the clean ones."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.attacks import Attack, craft
from sparring.attacks.oracle import Statistics
from sparring.core.threat import ThreatModel
from sparring.defences.base import LossDefence, accuracy, draw_seed

Halves = Literal["joint", "separate"]


class Crafted(LossDefence):
    """Crafts images by `attack` within `threat`, then compares what the network says of them and of the clean ones.

    `halves`: batch norm sees both as one batch ("joint") or each on its own ("separate"). `crafting`: which statistics
    it uses while the attack runs, the running ones ("eval") or the batch's ("train").
    """

    attack: Attack
    threat: ThreatModel
    halves: Halves
    crafting: Statistics

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compare(net, x, self.images(net, x, y, generator=generator), y)

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return adversarial images (B, C, H, W) of these examples; the network is as it was."""
        seed = draw_seed(generator)
        return craft(self.attack, net, x, y, self.threat, seed=seed, statistics=self.crafting)

    @abstractmethod
    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, on clean images and on adversarial images of the same examples; and metrics."""

    def both(self, net: nn.Module, x: Tensor, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) on clean and on adversarial images."""
        return both(net, x, x_adv, self.halves)


def both(net: nn.Module, x: Tensor, x_adv: Tensor, halves: Halves) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) on clean and on adversarial images; see `Crafted` for `halves`."""
    if halves == "separate":
        return net(x), net(x_adv)
    clean, adversarial = net(torch.cat([x, x_adv])).chunk(2)
    return clean, adversarial


def accuracies(clean: Tensor, adversarial: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the metrics that these defences show, from logits (B, K)."""
    return {"accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}
