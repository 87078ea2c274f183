"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.base import Attack
from sparring.attacks.losses import Loss, divergence, likeliest, objective
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel

Climbed = Literal["cross_entropy", "margin", "dlr", "kl"]


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steps up the loss, each projected back; the worst image of all steps and restarts is kept.

    With the margin loss, which has a maximum for each other class, the first restart climbs towards whichever class is
    nearest and the later ones towards the runners-up in turn (Gowal et al. 2019, arXiv:1910.09338). "kl" climbs away
    from the prediction on the image itself, whatever the label (Zhang et al. 2019, arXiv:1901.08573); towards a target
    that is the cross-entropy.
    """

    name = "pgd"
    source = "arXiv:1706.06083"
    kind = "budget"
    steps: int = 40
    rel_step_size: float = 0.1
    restarts: int = 1
    loss: Climbed = "cross_entropy"
    random_start: bool = True
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"pgd: steps and restarts must be at least 1, not {self.steps} and {self.restarts}")
        if not 0 < self.rel_step_size < math.inf:
            raise InputError(f"pgd: rel_step_size is a share of eps above 0, not {self.rel_step_size}")
        if not 0 <= self.momentum < math.inf:
            raise InputError(f"pgd: momentum must be at least 0, not {self.momentum}")

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
        active = _Climb(oracle, x, y, target, stop=stop, loss=self.loss)
        for restart in range(self.restarts):
            active.purge()
            if not len(active):
                break
            active.choose_rivals(oracle, restart)
            x_adv = self._ascend(oracle, active, threat)
            if not stop and self.restarts == 1:
                return x_adv
            if len(active):
                logits = oracle.logits(x_adv)
                active.record(x_adv, active.merit(logits), logits)
        return active.worst

    def _ascend(self, oracle: Oracle, active: "_Climb", threat: ThreatModel) -> Tensor:
        """Climb once from a fresh start; return the last images of the rows that are still active."""
        x_adv, step_size = self._start(oracle, active.x, threat), self.rel_step_size * threat.reach(active.x)
        velocity = torch.zeros_like(x_adv)
        for _ in range(self.steps):
            value, grad, logits = oracle.value_and_gradient(x_adv, active.climbed)
            kept = active.record(x_adv, value if active.rival is None else active.merit(logits), logits)
            if kept is not None:
                x_adv, grad, velocity = x_adv[kept], grad[kept], velocity[kept]
            if not len(active):
                break
            velocity = self._accelerate(velocity, grad)
            x_adv = threat.project(x_adv + threat.ascent(x_adv, velocity, step_size), active.x)
        return x_adv

    def _start(self, oracle: Oracle, x: Tensor, threat: ThreatModel) -> Tensor:
        warm = oracle.warm_start()
        if warm is not None:
            return threat.project(warm, x)
        return threat.random_start(x, oracle.uniform(x[0].numel() + 1)) if self.random_start else x

    def _accelerate(self, velocity: Tensor, grad: Tensor) -> Tensor:
        """Momentum on gradients scaled to L1 norm 1 (Dong et al. 2018, arXiv:1710.06081, eq. 6)."""
        if not self.momentum:
            return grad
        scale = grad.flatten(1).abs().sum(1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
        return self.momentum * velocity + grad / scale


class _Climb(Worst):
    """What each row climbs: to its `rival` of this restart (None: whichever is nearest), or from its `clean` logits."""

    def __init__(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        target: Tensor | None,
        *,
        stop: bool,
        loss: Climbed,
    ) -> None:
        super().__init__(oracle, x, y, target, stop=stop)
        self._climbs: Loss = "cross_entropy" if loss == "kl" else loss
        self.clean = oracle.logits(x) if loss == "kl" and target is None else None
        self.rival: Tensor | None = None

    def choose_rivals(self, oracle: Oracle, restart: int) -> None:
        """Set the class that each row climbs towards in this restart, (B,)."""
        if self._climbs != "margin" or self.target is not None or restart == 0:
            return
        others = likeliest(oracle.logits(self.x), self.y)
        self.rival = others[:, (restart - 1) % others.shape[1]]

    def climbed(self, logits: Tensor) -> Tensor:
        """Return what a step climbs, (B,)."""
        if self.rival is None:
            return self.merit(logits)
        return (logits.gather(1, self.rival[:, None]) - logits.gather(1, self.y[:, None])).squeeze(1)

    def merit(self, logits: Tensor) -> Tensor:
        """Return what the worst image has most of, (B,)."""
        if self.clean is not None:
            return divergence(logits, self.clean)
        return objective(self._climbs, logits, self.y, self.target)

    def _leave(self, kept: Tensor) -> Tensor:
        self.clean, self.rival = (None if rows is None else rows[kept] for rows in (self.clean, self.rival))
        return super()._leave(kept)
