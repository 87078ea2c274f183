"""What stands in a batch beside its own images: others, whose labels may be shares of several classes."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.trainable import Setup, State
from sparring.defences.base import Defence, Wrapper
from sparring.defences.standard import Standard

ONE_HOT = "one_hot"  # the labels as shares of the classes (K, K), in the state


@dataclass(frozen=True, kw_only=True)
class Supplied(Wrapper):
    """Trains as `defence` does, on batches of which the part `share` is replaced by images from elsewhere."""

    defence: Defence = Standard()
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"{self.name}: share is the part of each batch, above 0 and up to 1, not {self.share}")
        if not self.defence.soft_labels:
            raise InputError(
                f"{self.name}: goes around a defence that takes shares of classes, not {self.defence.name}"
            )

    @property
    def soft_labels(self) -> bool:
        return False

    @abstractmethod
    def supply(self, state: State, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return as many images as `x` has, (B, C, H, W) in [0, 1], with their shares of the classes (B, K).

        `x` and `y`, labels (B,), are those that are replaced, drawn at random from the training images.
        """

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        state.data[ONE_HOT] = torch.eye(setup.classes, device=setup.device)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        count = max(1, round(self.share * len(x)))
        made, shares = self.supply(state, x[:count], y[:count], generator)
        images = torch.cat([made, x[count:]])
        labels = torch.cat([shares, state.data[ONE_HOT][y[count:]]])
        return self.defence.step(state, images, labels, progress=progress, generator=generator)
