"""The decoupled direction and norm attack (Rony et al. 2019, arXiv:1811.09600)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.base import Attack
from sparring.attacks.losses import log_odds
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import TINY, ThreatModel

FIRST_STEP, LAST_STEP = 1.0, 0.01  # of the cosine schedule, section 3


@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    """Steps up the cross-entropy on a sphere that shrinks after each success and grows after each failure.

    Steps have a length of their own, so the logarithm of the odds serves for the cross-entropy: it rises along the same
    direction, and of a model that is all too sure it has a gradient where the cross-entropy's is 0 in float32.
    `init_norm` is the sphere's first radius; `gamma` the share by which it changes. Images are not quantised.
    """

    name = "ddn"
    source = "arXiv:1811.09600"
    kind = "minimal"
    norms = ("l2",)
    steps: int = 100
    init_norm: float = 1.0
    gamma: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"ddn: steps must be at least 1, not {self.steps}")
        if not 0 < self.init_norm < math.inf:
            raise InputError(f"ddn: init_norm must be above 0, not {self.init_norm}")
        if not 0 < self.gamma < 1:
            raise InputError(f"ddn: gamma is a share between 0 and 1, not {self.gamma}")

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
        active = Closest(oracle, x, y, threat, target, stop=stop)
        x_adv, radius = x, torch.full_like(active.distance, self.init_norm)
        farthest = threat.distance((x < 0.5).to(x.dtype), x)  # no image is farther than the box's opposite corner
        for step in range(self.steps):
            _, grad, logits = oracle.value_and_gradient(x_adv, lambda z: log_odds(z, active.y, active.target))
            fooled, kept = active.record(x_adv, logits)
            radius = torch.minimum(radius * torch.where(fooled, 1 - self.gamma, 1 + self.gamma), farthest)
            if kept is not None:
                x_adv, grad, radius, farthest = (t[kept] for t in (x_adv, grad, radius, farthest))
            if not len(active):
                return active.best
            step_size = cosine(FIRST_STEP, LAST_STEP, step / self.steps)
            delta = (x_adv - active.x).add_(threat.steepest(grad), alpha=step_size)
            scale = radius / delta.flatten(1).norm(dim=1).clamp_(min=TINY)
            x_adv = delta.mul_(scale.view(-1, 1, 1, 1)).add_(active.x).clamp_(0, 1)
        active.record(x_adv, oracle.logits(x_adv))
        return active.best


def cosine(first: float, last: float, progress: float) -> float:
    """Return what falls from `first` to `last` along half a cosine, at `progress` from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
