"""The contract of a defence: a Trainable whose deployed module is a classifier."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.core.spec import Component
from sparring.core.trainable import Setup, State, Trainable


class Defence(Component, Trainable):
    """A way to train a classifier that holds up; `source` is its paper."""

    source: ClassVar[str]


class LossDefence(Defence):
    """One network, one optimiser: most defences write only `loss`."""

    @abstractmethod
    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to descend, a scalar, and metrics to show beside it."""

    def init(self, setup: Setup) -> State:
        return State({"classifier": setup.learner(setup.classifier())})

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        learner = state.learners["classifier"]
        loss, metrics = self.loss(learner.network, x, y, progress=progress, generator=generator)
        learner.update(loss)
        return {"loss": loss.detach(), **metrics}

    def deploy(self, state: State) -> nn.Module:
        return state.learners["classifier"].network


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the share classified right, a scalar on the device."""
    return (logits.detach().argmax(1) == y).float().mean()


def draw_seed(generator: torch.Generator) -> Tensor:
    """Return a fresh seed for an attack's noise; it stays on the device."""
    return torch.randint(1 << 62, (), generator=generator, device=generator.device)
