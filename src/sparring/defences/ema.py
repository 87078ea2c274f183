"""An exponential moving average of the weights, around any defence (Gowal et al. 2020, arXiv:2010.03593)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.trainable import Setup, State
from sparring.defences.base import Defence, Wrapper
from sparring.defences.best_epoch import BestEpoch
from sparring.training.averages import begin_average, follow, with_values

KEPT = "ema."  # before the names of parameters and buffers in the state


@dataclass(frozen=True, kw_only=True)
class EMA(Wrapper):
    """Trains as `defence` does, and deploys the network's moving average: of parameters and running statistics.

    After each step, average = d * average + (1 - d) * network, where d is `decay`, but in the t-th step no more than
    t / (9 + t): the first weights, which know nothing, are soon forgotten. The authors take 0.995.
    """

    name = "ema"
    source = "arXiv:2010.03593"
    defence: Defence
    decay: float = 0.999

    def __post_init__(self) -> None:
        for each in self.inside():
            if isinstance(each, EMA | BestEpoch):
                raise InputError(f"ema: averages a trained network, and {each.name} inside it deploys another")
        if not 0 < self.decay < 1:
            raise InputError(f"ema: decay is a share above 0 and below 1, not {self.decay}")

    def init(self, setup: Setup) -> State:
        state = self.defence.init(setup)
        begin_average(state, KEPT, self.defence.deploy(state))
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        metrics = self.defence.step(state, x, y, progress=progress, generator=generator)
        follow(state, KEPT, self.defence.deploy(state), self.decay)
        return metrics

    def deploy(self, state: State) -> nn.Module:
        return with_values(self.defence.deploy(state), state.extra, KEPT)
