"""What adversarial training and its kin share: images crafted with the current network, beside the clean ones."""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import Attack, craft
from sparring.attacks.freezing import Statistics
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import State
from sparring.defences.base import Defence, LossDefence, accuracy, draw_seed, hard
from sparring.defences.overfitting import remember, takes_one_step, watch

Halves = Literal["joint", "separate"]


class Watched(Defence):
    """Trains on perturbed images; where one step makes them, each epoch's end looks for catastrophic overfitting."""

    threat: ThreatModel | None

    @property
    def one_step(self) -> bool:
        """Whether a single gradient makes the images."""
        return True

    @abstractmethod
    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return adversarial images (B, C, H, W) of these examples; the network is as it was."""

    def keep(self, state: State, x: Tensor, y: Tensor) -> None:
        """Keep examples for `epoch_end`; called by each step."""
        if self.one_step:
            remember(state, x, hard(y))

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        if self.one_step and self.threat is not None:
            net = self.deploy(state)
            metrics.update(watch(state, net, self.threat, lambda x, y: self.images(net, x, y, generator=_seeded(x))))


class CraftedOnDemand(Watched):
    """Crafts the images by `attack` within `threat` where it has them, and takes them as they are where it has not."""

    attack: Attack | None

    def check_attack(self) -> None:
        """Raise InputError if there is an attack without a threat, or a threat without an attack."""
        if (self.attack is None) != (self.threat is None):
            raise InputError(f"{self.name}: attack and threat go together; give both or neither")

    @property
    def one_step(self) -> bool:
        return self.attack is not None and takes_one_step(self.attack)

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        if self.attack is None or self.threat is None:
            return x
        return craft(self.attack, net, x, y, self.threat, seed=draw_seed(generator))


class Perturbing(Watched, LossDefence):
    """Perturbs the images with the current network, then compares what it says of them and of the clean ones."""

    threat: ThreatModel

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compare(net, x, self.images(net, x, hard(y), generator=generator), y)

    @abstractmethod
    def compare(self, net: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, on clean images and on adversarial images of the same examples; and metrics."""

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        self.keep(state, x, y)
        return super().step(state, x, y, progress=progress, generator=generator)


class Crafted(Perturbing):
    """Crafts the images by `attack` within `threat`.

    `halves`: batch norm sees both as one batch ("joint") or each on its own ("separate"). `crafting`: which statistics
    it uses while the attack runs, the running ones ("eval") or the batch's ("train").
    """

    attack: Attack
    halves: Halves
    crafting: Statistics

    @property
    def one_step(self) -> bool:
        return takes_one_step(self.attack)

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        seed = draw_seed(generator)
        return craft(self.attack, net, x, y, self.threat, seed=seed, statistics=self.crafting)

    def both(self, net: nn.Module, x: Tensor, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) on clean and on adversarial images."""
        return both(net, x, x_adv, self.halves)


def both(net: nn.Module, x: Tensor, x_adv: Tensor, halves: Halves) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) on clean and on adversarial images; see `Crafted` for `halves`."""
    if halves == "separate":
        return net(x), net(x_adv)
    clean, adversarial = net(torch.cat([x, x_adv])).chunk(2)
    return clean, adversarial


def adversarial_alone(net: nn.Module, x_adv: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return Madry's loss, the cross-entropy on adversarial images and on nothing else; and metrics."""
    logits = net(x_adv)
    return F.cross_entropy(logits, y), {"adversarial_accuracy": accuracy(logits, y)}


def accuracies(clean: Tensor, adversarial: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the metrics that these defences show, from logits (B, K)."""
    return {"accuracy": accuracy(clean, y), "adversarial_accuracy": accuracy(adversarial, y)}


def _seeded(x: Tensor) -> torch.Generator:
    """Return a generator for what stands outside training's own draws, and is the same after each epoch."""
    return torch.Generator(x.device).manual_seed(0)
