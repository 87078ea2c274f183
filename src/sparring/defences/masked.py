"""A classifier behind masks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.trainable import Setup, State
from sparring.defences.base import Defence, Wrapper
from sparring.defences.standard import Standard
from sparring.models.mask import Mask, Masked
from sparring.models.saved import take_over
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class MaskedTraining(Wrapper):
    """Puts `masks` in front of the classifier, the first one first, and trains it behind them as `defence` does.

    With `model`, the name of a run, it trains nothing: the classifier is that run's, which never saw a masked image.
    The masks are fitted on the training images.
    """

    name = "masked"
    source = "Liang, Hayes & Althoff 2017"
    masks: tuple[Mask, ...]
    model: str = ""
    defence: Defence = Standard()

    def __post_init__(self) -> None:
        if not self.masks:
            raise InputError("masked: masks is empty; name some, such as masks=(defense_vae(model='RUN'),)")
        if any(isinstance(each, MaskedTraining) for each in self.inside()):
            raise InputError("masked: goes around no other masked; put all masks into one, in their order")

    def init(self, setup: Setup) -> State:
        modules = [mask.fit(setup).to(setup.device) for mask in self.masks]

        def classifier() -> nn.Module:
            network = setup.classifier()
            if self.model:
                take_over(network, Run.find(self.model, setup.runs), setup, f"{self.name}: model")
            return Masked(self.masks, modules, network)

        return super().init(replace(setup, classifier=classifier))

    def finished(self, state: State) -> bool:
        return bool(self.model) or super().finished(state)

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return self.defence.step(state, x, y, progress=progress, generator=generator)
