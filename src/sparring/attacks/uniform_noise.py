"""Random noise: the control that every attack must beat, and the perturbation of noise training."""

from dataclasses import dataclass

from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.base import Attack
from sparring.attacks.losses import margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class UniformNoise(Attack):
    """Points spread evenly over the ball; of `draws` the worst, which needs no gradient."""

    name = "uniform_noise"
    source = "folklore"
    kind = "budget"
    draws: int = 1

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"uniform_noise: draws must be at least 1, not {self.draws}")

    def perturb(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        target: Tensor | None = None,
        stop: bool = True,
    ) -> Tensor:
        pixels = x[0].numel()
        if self.draws == 1:
            return threat.random_start(x, oracle.uniform(pixels + 1))
        active = Worst(oracle, x, y, target, stop=stop)
        for _ in range(self.draws):
            if not len(active):
                break
            x_adv = threat.random_start(active.x, oracle.uniform(pixels + 1))
            logits = oracle.logits(x_adv)
            active.record(x_adv, margin(logits, active.y, active.target), logits)
        return active.worst
