"""Learning-rate schedules: pure functions of the progress and of past epochs' losses, so they keep no state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component


class Schedule(Component, ABC):
    """The factor by which the optimiser's learning rate is multiplied."""

    @abstractmethod
    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        """Return the factor at `progress` in [0, 1), after finished epochs with these mean losses."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The optimiser's rate throughout."""

    name = "constant"

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """Multiply by `by` every `every` epochs."""

    name = "step"
    every: int = 10
    by: float = 0.1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"step: every must be at least 1 epoch, not {self.every}")
        _check_factor("step: by", self.by)

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        return self.by ** (len(losses) // self.every)


@dataclass(frozen=True, kw_only=True)
class HalveOnPlateau(Schedule):
    """Halve whenever an epoch's loss is above the one before, and with `every` after so many epochs besides.

    The rule of Dhillon & Pavse: both in their games, where `every` is 10.
    """

    name = "halve_on_plateau"
    every: int = 0

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InputError(f"halve_on_plateau: every is a number of epochs, or 0 for never, not {self.every}")

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        rises = sum(later > earlier for earlier, later in pairwise(losses))
        return 0.5 ** (rises + (len(losses) // self.every if self.every else 0))


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `end`, after a linear warm-up over the share `warmup` of training."""

    name = "cosine"
    warmup: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise InputError(f"cosine: warmup is a share of training from 0 to less than 1, not {self.warmup}")
        _check_factor("cosine: end", self.end)

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        share = (progress - self.warmup) / (1 - self.warmup)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Linearly from `start` up to 1 at the share `peak` of training, then linearly down to `end` (Smith 2018)."""

    name = "one_cycle"
    peak: float = 0.4
    start: float = 0.04
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.peak < 1:
            raise InputError(f"one_cycle: peak is a share of training between 0 and 1, not {self.peak}")
        _check_factor("one_cycle: start", self.start)
        _check_factor("one_cycle: end", self.end)

    def factor(self, *, progress: float, losses: Sequence[float]) -> float:
        if progress < self.peak:
            return self.start + (1 - self.start) * progress / self.peak
        return 1 + (self.end - 1) * (progress - self.peak) / (1 - self.peak)


def _check_factor(where: str, factor: float) -> None:
    if not 0 <= factor <= 1:
        raise InputError(f"{where} is a factor of the learning rate, from 0 to 1, not {factor}")


SCHEDULES = Catalogue(Schedule, "schedule", (Constant, Step, HalveOnPlateau, Cosine, OneCycle))
