"""The contract of a model: a component that builds a classifier for any image shape and number of classes."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from sparring.core.spec import Component


class Model(Component, ABC):
    """A classifier's architecture; `build` gives fresh weights from torch's global random state.

    `outside`: whether building it imports code that is not ours.
    """

    outside: ClassVar[bool] = False

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return a network from float images (B, *shape) in [0, 1] to logits (B, classes).

        Raises InputError when the architecture cannot take that shape.
        """

    def fill(self, network: nn.Module) -> None:  # most have none
        """Give a fresh network the weights that this model brings along, if it does; raises InputError if they fail."""

    def begin(self, network: nn.Module) -> None:
        """As `fill`, for a network that is trained further: for other classes, its last layer may stay fresh."""
        self.fill(network)
