"""Classifiers of the package torchvision."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sparring.core.errors import InputError
from sparring.models.adapted import adapt
from sparring.models.outside import Collected, opened

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what all of its ImageNet weights expect


@dataclass(frozen=True, kw_only=True)
class Torchvision(Collected):
    """A classifier of torchvision, such as torchvision("inception_v3"), ImageNet's normalisation inside."""

    name = "torchvision"
    architecture: str = field(kw_only=False)
    pretrained: bool = True

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return adapt(self.create(pretrained=False, classes=classes), mean=MEAN, std=STD)

    def create(self, *, pretrained: bool, classes: int | None) -> Any:
        models = opened("torchvision.models", f"torchvision({self.architecture!r})")
        wanted = {} if classes is None else {"num_classes": classes}
        try:
            return models.get_model(self.architecture, weights="DEFAULT" if pretrained else None, **wanted)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"torchvision: {self.architecture}: {' '.join(str(error).split())[:200]}") from None
