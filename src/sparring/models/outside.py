"""What networks from outside share: their code is not ours, and importing it runs it."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from sparring.models.base import Model
from sparring.models.weights import fill, fill_but_last


class Outside(Model):
    """A model whose code comes from elsewhere; a run folder that names one opens only with `trust=True`."""

    outside = True


class Collected(Outside):
    """One of a package that many use and not all have, by its name there, with weights that were released."""

    architecture: str
    pretrained: bool

    @abstractmethod
    def create(self, *, pretrained: bool, classes: int | None) -> Any:  # the package's own class
        """Return the package's network, with the released weights or fresh; `classes` None: as many as released."""

    def fill(self, network: nn.Module) -> None:
        if self.pretrained:
            fill(network, self._released(), f"{self.name}: {self.architecture}")

    def begin(self, network: nn.Module) -> None:
        if self.pretrained:
            fill_but_last(network, self._released(), f"{self.name}: {self.architecture}")

    def _released(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.create(pretrained=True, classes=None).state_dict()
        return {f"network.{name}": value for name, value in weights.items()}
