"""An exponential moving average of the weights, around any defence (Gowal et al. 2020, arXiv:2010.03593)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.trainable import Setup, State
from sparring.defences.base import Defence, Wrapper, with_values
from sparring.defences.best_epoch import BestEpoch

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
        if isinstance(self.defence, EMA | BestEpoch):
            raise InputError(f"ema: averages a network that is trained; put {self.defence.name} around ema instead")
        if not 0 < self.decay < 1:
            raise InputError(f"ema: decay is a share above 0 and below 1, not {self.decay}")

    def init(self, setup: Setup) -> State:
        state = self.defence.init(setup)
        averages = {KEPT + name: value.clone() for name, value in self._averaged(state).items()}
        where = next(iter(averages.values())).device
        state.extra |= {**averages, "ema_steps": torch.zeros((), dtype=torch.int64, device=where)}
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        metrics = self.defence.step(state, x, y, progress=progress, generator=generator)
        steps = state.extra["ema_steps"].add_(1)
        share = 1 - (steps / (9 + steps)).clamp(max=self.decay)
        for name, value in self._averaged(state).items():
            state.extra[KEPT + name].lerp_(value, share.to(value.dtype))
        return metrics

    def deploy(self, state: State) -> nn.Module:
        return with_values(self.defence.deploy(state), state.extra, KEPT)

    def _averaged(self, state: State) -> dict[str, Tensor]:
        """Return what is averaged of the network, by name, without its graph; counters are not."""
        values = self.defence.deploy(state).state_dict()
        return {name: value for name, value in values.items() if value.is_floating_point()}
