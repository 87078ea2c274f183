"""The contract of a mask: an input transformation in front of a classifier."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparring.core.spec import Component, convert
from sparring.core.trainable import Setup


class Mask(Component, ABC):
    """What stands in front of a classifier; `source` is its paper.

    Its module takes float images (B, C, H, W) in [0, 1] to such images (a projection or Gaussian noise may leave
    [0, 1]), and says how an honest attacker goes through
    it: see `sparring.attacks.adaptation`. It has buffers and no parameters that train.
    """

    source: ClassVar[str]
    home = "sparring.defences.masks"

    def fit(self, setup: Setup) -> nn.Module:
        """Return the module, fitted on `setup.training()` if it needs images, which are never those judged on."""
        return self.blank(setup.shape, {})

    @abstractmethod
    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        """Return the module for images (C, H, W), or one to load a fitted one's values into.

        `about` is what `describe` said of that one.
        """

    def describe(self, module: nn.Module) -> dict[str, Any]:
        """Return what `blank` must know of a fitted module, as JSON can hold it."""
        return {}


class Masked(nn.Module):
    """Masks, the first of which sees the images first, and behind them a classifier."""

    def __init__(self, masks: tuple[Mask, ...], before: list[nn.Module], classifier: nn.Module) -> None:
        super().__init__()
        self.masks = masks
        self.before, self.classifier = nn.Sequential(*before), classifier

    @property
    def description(self) -> list[dict[str, Any]]:
        """What builds the masks again: of each its call string, and what it says of itself."""
        pairs = zip(self.masks, self.before.children(), strict=True)
        return [{"mask": repr(mask), **mask.describe(module)} for mask, module in pairs]

    def train(self, mode: bool = True) -> "Masked":  # noqa: FBT001, FBT002  # torch's own signature
        """Set the classifier's mode; masks are always in use, and never in training."""
        super().train(mode)
        self.before.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of the masked images."""
        with torch.autocast(x.device.type, enabled=False):  # in 8 bits of precision a mask is another mask
            seen = self.before(x)
        logits: Tensor = self.classifier(seen)
        return logits


def blank_masked(about: list[dict[str, Any]], shape: tuple[int, int, int], classifier: nn.Module) -> Masked:
    """Return masks and a classifier as `Masked.description` has them, to load values into."""
    masks = tuple(convert(of["mask"], Mask, "model.json: masks") for of in about)
    return Masked(masks, [mask.blank(shape, of) for mask, of in zip(masks, about, strict=True)], classifier)
