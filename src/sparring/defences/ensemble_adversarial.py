"""Ensemble adversarial training (Tramèr et al. 2018, arXiv:1705.07204)."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks import Attack, craft
from sparring.attacks.freezing import Statistics
from sparring.core.errors import InputError, naming
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Setup, State
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import OneNetwork, draw_seed
from sparring.defences.crafted import Halves
from sparring.models.saved import load
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class EnsembleAdversarial(OneNetwork):
    """Adversarial training on images that are made on the network itself or on a trained one, drawn for each batch.

    The loss is that of `adversarial`, (1 - mix) * clean + mix * adversarial; the authors take an even mixture and one
    step. `surrogates` name the runs of the trained networks, which stay as they are. All have the same chance.
    """

    name = "ensemble_adversarial"
    source = "arXiv:1705.07204"
    attack: Attack
    threat: ThreatModel
    surrogates: tuple[str, ...]
    mix: float = 0.5
    halves: Halves = "joint"
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        self._own()
        if not self.surrogates:
            raise InputError("ensemble_adversarial: surrogates is empty; name at least one run of a trained network")

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        where = next(state.learners["classifier"].network.parameters()).device
        for name in self.surrogates:
            run = Run.find(name, setup.runs)
            with naming(f"{self.name}: surrogates"):
                state.networks[name] = load(run.path).to(where)
            setup.check_alike(run.read_description(), f"ensemble_adversarial: {name}")
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        learner, own = state.learners["classifier"], self._own()
        place = _draw(len(state.networks) + 1, generator)
        if place == 0:
            x_adv = own.images(learner.network, x, y, generator=generator)
        else:
            surrogate = list(state.networks.values())[place - 1]
            x_adv = craft(self.attack, surrogate, x, y, self.threat, seed=draw_seed(generator))
        loss, metrics = own.compare(learner.network, x, x_adv, y)
        learner.update(loss)
        own.keep(state, x, y)
        return {"loss": loss.detach(), **metrics}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        self._own().epoch_end(state, metrics)

    def _own(self) -> Adversarial:
        """Return adversarial training on the network itself."""
        return Adversarial(
            attack=self.attack, threat=self.threat, mix=self.mix, halves=self.halves, crafting=self.crafting
        )


def _draw(count: int, generator: torch.Generator) -> int:
    """Return a number from 0 to `count` - 1, another whenever the generator has moved on.

    It is read off the generator's state, which lies on the CPU: what is drawn on a device has to be waited for.
    """
    state = generator.get_state().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(state).digest()[:8], "big") % count
