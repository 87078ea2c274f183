"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.base import Attack
from sparring.attacks.losses import Loss, objective
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steps up the loss, each projected back; the worst image of all steps and restarts is kept.

    With the margin loss, which has a maximum for each other class, the first restart climbs towards whichever class is
    nearest and the later ones towards the runners-up in turn (Gowal et al. 2019, arXiv:1910.09338).
    """

    name = "pgd"
    source = "arXiv:1706.06083"
    kind = "budget"
    steps: int = 40
    rel_step_size: float = 0.1
    restarts: int = 1
    loss: Loss = "cross_entropy"
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
        active = Worst(oracle, x, y, target, stop=stop)
        for restart in range(self.restarts):
            active.purge()
            if not len(active):
                break
            x_adv = self._ascend(oracle, active, threat, self._rival(oracle, active, restart))
            if not stop and self.restarts == 1:
                return x_adv
            if len(active):
                logits = oracle.logits(x_adv)
                active.record(x_adv, objective(self.loss, logits, active.y, active.target), logits)
        return active.worst

    def _ascend(self, oracle: Oracle, active: Worst, threat: ThreatModel, rival: Tensor | None) -> Tensor:
        """Climb once from a fresh start; return the last images of the rows that are still active."""
        x_adv, step_size = self._start(oracle, active.x, threat), self.rel_step_size * threat.reach(active.x)
        velocity = torch.zeros_like(x_adv)
        for _ in range(self.steps):
            value, grad, logits = oracle.value_and_gradient(x_adv, lambda z: self._climbed(z, active, rival))  # noqa: B023
            if rival is not None:
                value = objective(self.loss, logits, active.y, active.target)
            kept = active.record(x_adv, value, logits)
            if kept is not None:
                x_adv, grad, velocity = x_adv[kept], grad[kept], velocity[kept]
                rival = rival if rival is None else rival[kept]
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

    def _rival(self, oracle: Oracle, active: Worst, restart: int) -> Tensor | None:
        """Return the class that this restart climbs towards, (B,); None for whichever is nearest at each step."""
        if self.loss != "margin" or active.target is not None or restart == 0:
            return None
        others = oracle.logits(active.x).scatter(1, active.y[:, None], -math.inf)
        order = others.argsort(dim=1, descending=True)
        return order[:, (restart - 1) % (order.shape[1] - 1)]

    def _climbed(self, logits: Tensor, active: Worst, rival: Tensor | None) -> Tensor:
        if rival is None:
            return objective(self.loss, logits, active.y, active.target)
        return (logits.gather(1, rival[:, None]) - logits.gather(1, active.y[:, None])).squeeze(1)

    def _accelerate(self, velocity: Tensor, grad: Tensor) -> Tensor:
        """Momentum on gradients scaled to L1 norm 1 (Dong et al. 2018, arXiv:1710.06081, eq. 6)."""
        if not self.momentum:
            return grad
        scale = grad.flatten(1).abs().sum(1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
        return self.momentum * velocity + grad / scale
