"""The contract of a defence: a Trainable whose deployed module is a classifier."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.spec import Component
from sparring.core.trainable import Setup, State, Trainable


class Defence(Component, Trainable):
    """A way to train a classifier that holds up; `source` is its paper."""

    source: ClassVar[str]

    @property
    def soft_labels(self) -> bool:
        """Whether `step` also takes labels as shares of the classes, (B, K)."""
        return False


class Wrapper(Defence):
    """A defence around another, to which it leaves all that it does not change itself."""

    defence: Defence

    def inside(self) -> Iterator[Defence]:
        """Yield the defences that this one is around, the nearest first."""
        yield self.defence
        if isinstance(self.defence, Wrapper):
            yield from self.defence.inside()

    @property
    def soft_labels(self) -> bool:
        return self.defence.soft_labels

    def init(self, setup: Setup) -> State:
        return self.defence.init(setup)

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        self.defence.epoch_end(state, metrics)

    def finished(self, state: State) -> bool:
        return self.defence.finished(state)

    def deploy(self, state: State) -> nn.Module:
        return self.defence.deploy(state)

    def companions(self, state: State) -> dict[str, tuple[str, nn.Module]]:
        return self.defence.companions(state)


class OneNetwork(Defence):
    """A defence that trains the classifier alone."""

    def init(self, setup: Setup) -> State:
        return State({"classifier": setup.learner(setup.classifier())})

    def deploy(self, state: State) -> nn.Module:
        return state.learners["classifier"].network


class LossDefence(OneNetwork):
    """One network, one optimiser: most defences write only `loss`."""

    @abstractmethod
    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to descend, a scalar, and metrics to show beside it."""

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        learner = state.learners["classifier"]
        loss, metrics = self.loss(learner.network, x, y, progress=progress, generator=generator)
        learner.update(loss)
        return {"loss": loss.detach(), **metrics}


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the share classified right, a scalar on the device; see `hard`."""
    return (logits.detach().argmax(1) == hard(y)).float().mean()


def hard(y: Tensor) -> Tensor:
    """Return labels (B,): `y` itself, or of shares of the classes (B, K) the largest."""
    return y if y.ndim == 1 else y.argmax(1)


def check_step(name: str, rel_step_size: float) -> None:
    """Raise InputError unless `rel_step_size` is a share of eps that a step can be long."""
    if not 0 < rel_step_size < math.inf:
        raise InputError(f"{name}: rel_step_size is a share of eps above 0, not {rel_step_size}")


def draw_seed(generator: torch.Generator) -> Tensor:
    """Return a fresh seed for an attack's noise; it stays on the device."""
    return torch.randint(1 << 62, (), generator=generator, device=generator.device)
