"""Classifiers of the package timm (Wightman, github.com/huggingface/pytorch-image-models)."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sparring.core.errors import InputError
from sparring.core.outside import imported
from sparring.models.adapted import adapt
from sparring.models.outside import Collected


@dataclass(frozen=True, kw_only=True)
class Timm(Collected):
    """A classifier of timm, such as timm("resnet18.a1_in1k"), its normalisation inside; `pip install timm`."""

    name = "timm"
    architecture: str = field(kw_only=False)
    pretrained: bool = True

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        network = self.create(pretrained=False, classes=classes)
        about = network.pretrained_cfg
        return adapt(network, mean=about["mean"], std=about["std"])

    def create(self, *, pretrained: bool, classes: int | None) -> Any:
        timm = imported("timm", f"timm({self.architecture!r})")
        wanted = {} if classes is None else {"num_classes": classes}
        try:
            return timm.create_model(self.architecture, pretrained=pretrained, **wanted)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"timm: {self.architecture}: {' '.join(str(error).split())[:200]}") from None
