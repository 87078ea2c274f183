"""What the training loop knows: a `Trainable` with its `State`. Classifiers, GANs and attacks all train so."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError

CPU = torch.device("cpu")


class Rates(Protocol):
    """A learning-rate schedule: the factor on the base rate, from the progress and past epochs' losses."""

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        """Return the factor; `losses` holds the mean loss of each finished epoch."""


@dataclass
class Learner:
    """A network with the optimiser and the schedule that change it."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Rates

    def __post_init__(self) -> None:
        self._base = [float(group["lr"]) for group in self.optimiser.param_groups]

    def set_rate(self, *, progress: float, losses: Sequence[float]) -> None:
        """Set the learning rate for the coming step."""
        factor = self.schedule.factor(progress=progress, losses=losses)
        for group, base in zip(self.optimiser.param_groups, self._base, strict=True):
            group["lr"] = base * factor

    def update(self, loss: Tensor) -> None:
        """Take one optimiser step down the gradient of `loss`."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.optimiser.step()


@dataclass
class State:
    """All that must survive a restart: the learners by name, tensors of the method's own, and the epochs' losses.

    `networks` and `data` never change: `init` opens them again, and no checkpoint holds them.
    """

    learners: dict[str, Learner]
    extra: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    networks: dict[str, nn.Module] = field(default_factory=dict)
    data: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain containers of tensors, safe to load with `weights_only=True`."""
        learners = {
            name: {"network": learner.network.state_dict(), "optimiser": learner.optimiser.state_dict()}
            for name, learner in self.learners.items()
        }
        return {"learners": learners, "extra": self.extra, "losses": self.losses}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, sharing no tensor with it (torch's optimisers would)."""
        saved = deepcopy(saved)
        for name, learner in self.learners.items():
            learner.network.load_state_dict(saved["learners"][name]["network"])
            learner.optimiser.load_state_dict(saved["learners"][name]["optimiser"])
        where = next(p.device for learner in self.learners.values() for p in learner.network.parameters())
        self.extra = {name: value.to(where) for name, value in saved["extra"].items()}
        self.losses = list(saved["losses"])


def _no_validation(_count: int) -> tuple[Tensor, Tensor]:
    raise InputError("no validation images are at hand here; train by a recipe, or set Setup(validation=...)")


def _no_training() -> tuple[Tensor, Tensor, Tensor]:
    raise InputError("the training images are not at hand here; train by a recipe, or set Setup(training=...)")


@dataclass(frozen=True)
class Setup:
    """What a Trainable may know of the run that it is part of."""

    shape: tuple[int, int, int]
    classes: int
    classifier: Callable[[], nn.Module]  # a fresh one, as the recipe's model says, on the run's device
    learner: Callable[[nn.Module], Learner]  # with the recipe's optimiser and schedule
    runs: Path = Path("runs")  # where the runs are that a recipe may name
    validation: Callable[[int], tuple[Tensor, Tensor]] = _no_validation  # so many images, if there are, and labels
    device: torch.device = CPU
    training: Callable[[], tuple[Tensor, Tensor, Tensor]] = _no_training  # all images as stored, labels and ids
    description: Mapping[str, object] = field(default_factory=dict)  # of the classifier, as its run will hold it

    def check_alike(self, about: Mapping[str, Any], where: str) -> None:
        """Raise InputError unless a run's model is of images of this shape, and of these classes in this order.

        `about`: the run's description. Classes by the same numbers but other names would be labels exchanged.
        """
        shape, classes = tuple(about["shape"]), list(about["classes"])
        if (shape, len(classes)) != (self.shape, self.classes):
            raise InputError(
                f"{where} is of {len(classes)} classes of images {shape}; the data has {self.classes} of {self.shape}"
            )
        ours = self.description.get("classes", classes)
        if ours != classes:
            raise InputError(f"{where} has its classes in this order: {classes}; the data has {ours}")


class Trainable(ABC):
    """Parameters and an update rule; the loop lives in `training/loop.py`."""

    @abstractmethod
    def init(self, setup: Setup) -> State:
        """Make networks and optimisers; called under a seeded global random state."""

    @abstractmethod
    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Update once on images `x` (B, C, H, W) in [0, 1] and labels `y` (B,).

        `progress` is the share of training done, 0 to 1. Returns metrics as scalar tensors on the device, `loss` among
        them; nothing here may wait for the device.
        """

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:  # noqa: B027  # a hook; most need none
        """Look at a finished epoch's mean metrics; what is added to them is written with them."""

    def finished(self, state: State) -> bool:
        """Return whether to end before the last epoch; asked between epochs, and again after a restart."""
        return False

    @abstractmethod
    def deploy(self, state: State) -> nn.Module:
        """Return what the world uses, and attacks."""

    def companions(self, state: State) -> dict[str, tuple[str, nn.Module]]:
        """Return other networks worth keeping with the run, by name: the call string each is built from, and itself."""
        return {}
