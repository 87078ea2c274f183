"""Classifiers of the package torchvision."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sparring.core.errors import InputError
from sparring.core.outside import imported
from sparring.models.adapted import adapt
from sparring.models.outside import Collected

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # by which torch unpickles nothing but tensors, whoever asks it to
# Heads that help in training give further outputs; the released weights expect images normalised as they were then.
SPECIAL: dict[str, dict[str, object]] = {
    "inception_v3": {"aux_logits": False, "transform_input": True},
    "googlenet": {"aux_logits": False, "transform_input": True},
}


@dataclass(frozen=True, kw_only=True)
class Torchvision(Collected):
    """A classifier of torchvision, such as torchvision("inception_v3"), inside it the normalisation of its weights."""

    name = "torchvision"
    architecture: str = field(kw_only=False)
    pretrained: bool = True

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        network = self.create(pretrained=False, classes=classes)
        about = self._models().get_model_weights(self.architecture).DEFAULT.transforms()
        return adapt(network, mean=about.mean, std=about.std)

    def create(self, *, pretrained: bool, classes: int | None) -> Any:
        wanted = SPECIAL.get(self.architecture, {}) | ({} if classes is None else {"num_classes": classes})
        if self.architecture in SPECIAL and not pretrained:
            wanted["init_weights"] = True
        try:
            with _tensors_alone():
                return self._models().get_model(self.architecture, weights="DEFAULT" if pretrained else None, **wanted)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"torchvision: {self.architecture}: {' '.join(str(error).split())[:200]}") from None

    def _models(self) -> Any:
        return imported("torchvision.models", f"torchvision({self.architecture!r})")


@contextmanager
def _tensors_alone() -> Iterator[None]:
    """Let torch unpickle nothing but tensors meanwhile; torchvision's own downloads ask it to unpickle all."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before
