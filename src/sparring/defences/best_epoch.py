"""Early stopping by robust accuracy on the validation split (Rice, Wong & Kolter 2020, arXiv:2002.11569)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks import PGD, Attack, run
from sparring.attacks.base import check_norm
from sparring.attacks.preparing import LearnedAttack
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Setup, State
from sparring.defences.base import Defence, Wrapper
from sparring.training.averages import with_values

KEPT = "best."  # before the names of parameters and buffers in the state


@dataclass(frozen=True, kw_only=True)
class BestEpoch(Wrapper):
    """Trains as `defence` does, and deploys the network of the epoch after which it held best on validation images.

    After each epoch `attack` goes at what would be deployed, on `examples` of the validation split, drawn by the
    recipe's seed; of equal epochs the first is kept. With `patience` above 0, training ends when so many epochs in a
    row brought no better.
    """

    name = "best_epoch"
    source = "arXiv:2002.11569"
    defence: Defence
    threat: ThreatModel
    attack: Attack = PGD(steps=10, rel_step_size=0.25)
    patience: int = 0
    examples: int = 1000

    def __post_init__(self) -> None:
        if any(isinstance(each, BestEpoch) for each in self.inside()):
            raise InputError("best_epoch: goes around no other best_epoch")
        check_norm(self.attack, self.threat)
        if isinstance(self.attack, LearnedAttack) and not self.attack.fitted:
            raise InputError(f"best_epoch: {self.attack.name} must be fitted anew after each epoch; take another")
        if self.patience < 0 or self.examples < 1:
            raise InputError("best_epoch: patience must be at least 0, and examples at least 1")

    def init(self, setup: Setup) -> State:
        state = self.defence.init(setup)
        state.data["validation.x"], state.data["validation.y"] = setup.validation(self.examples)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return self.defence.step(state, x, y, progress=progress, generator=generator)

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        self.defence.epoch_end(state, metrics)
        net, extra = self.defence.deploy(state), state.extra
        found = run(self.attack, net, state.data["validation.x"], state.data["validation.y"], self.threat)
        clean, robust = ((~wrong).float().mean() for wrong in (found.skipped, found.success))
        metrics.update(validation_clean_accuracy=float(clean), validation_robust_accuracy=float(robust))
        if "best_robust_accuracy" in extra and robust <= extra["best_robust_accuracy"]:
            extra["epochs_since_best"] += 1
            return
        extra.update(best_robust_accuracy=robust, epochs_since_best=torch.zeros_like(robust))
        extra.update({KEPT + name: value.clone() for name, value in net.state_dict().items()})

    def finished(self, state: State) -> bool:
        waited = state.extra.get("epochs_since_best")
        out_of_patience = self.patience > 0 and waited is not None and int(waited) >= self.patience
        return out_of_patience or self.defence.finished(state)

    def deploy(self, state: State) -> nn.Module:
        """Return the best epoch's network; before the first epoch's end, the network as it is."""
        return with_values(self.defence.deploy(state), state.extra, KEPT)
