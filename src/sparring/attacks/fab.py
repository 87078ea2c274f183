"""The fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.apgd import length, noise
from sparring.attacks.base import Attack
from sparring.attacks.hyperplane import landing
from sparring.attacks.losses import likeliest, margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel

DUAL: dict[str, Callable[[Tensor], Tensor]] = {  # of gradients (..., d)
    "linf": lambda flat: flat.abs().sum(-1),
    "l2": lambda flat: torch.linalg.vector_norm(flat, dim=-1),
    "l1": lambda flat: flat.abs().amax(-1),
}
NEARBY = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # where a later restart begins when eps is no bound


@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """Steps onto the linearised boundary, drawn towards the original, and back inward from each success.

    `targets` 0: the boundary to whichever class is nearest at each step, at a backward pass for every class; otherwise
    the boundaries to so many of the likeliest other classes, one course each. `alpha_max`, `eta` and `beta` are the
    paper's: most weight of the original's projection, overshoot, and how much of a success is kept. The first course
    begins at the image itself, later ones (`restarts`) near it.
    """

    name = "fab"
    source = "arXiv:1907.02044"
    kind = "minimal"
    steps: int = 100
    restarts: int = 1
    targets: int = 0
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"fab: steps and restarts must be at least 1, not {self.steps} and {self.restarts}")
        if self.targets < 0:
            raise InputError(f"fab: targets must be at least 0, not {self.targets}")
        if not 0 <= self.alpha_max <= 1 or not 0 <= self.beta <= 1:
            raise InputError(f"fab: alpha_max and beta are shares, 0 to 1, not {self.alpha_max} and {self.beta}")
        if not 1 <= self.eta < math.inf:
            raise InputError(f"fab: eta must be at least 1, not {self.eta}")

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
        for rank in range(1 if target is not None else max(self.targets, 1)):
            for restart in range(self.restarts):
                active.purge()
                rivals = self._rivals(oracle, active, rank) if len(active) else None
                if rivals is None:
                    return active.best
                x_adv = self._start(oracle, active, threat) if restart else active.x
                self._follow(oracle, active, threat.name, x_adv, rivals)
        return active.best

    def _rivals(self, oracle: Oracle, active: Closest, rank: int) -> Tensor | None:
        """Return the classes that a course makes for, (B, n), by how likely they are; None if there are not so many."""
        if active.target is not None:
            return active.target[:, None]
        others = likeliest(oracle.logits(active.x), active.y)
        if not self.targets:
            return others
        return others[:, rank : rank + 1] if rank < others.shape[1] else None

    def _start(self, oracle: Oracle, active: Closest, threat: ThreatModel) -> Tensor:
        """Return images within half of what is reached so far, and of eps."""
        delta = noise(oracle, active.x, threat)
        bound = threat.eps if math.isfinite(threat.eps) else NEARBY[threat.name]
        scale = active.reached.clamp(max=bound) / 2 / length(delta, threat)
        return torch.addcmul(active.x, delta, scale.view(-1, 1, 1, 1)).clamp_(0, 1)

    def _follow(self, oracle: Oracle, active: Closest, norm: str, x_adv: Tensor, rivals: Tensor) -> None:
        """Take the steps of one course (algorithm 1 of the paper)."""
        for _ in range(self.steps):
            lead, w = _boundary(oracle, x_adv, active, norm, rivals)
            x_adv = self._step(x_adv, active.x, w, lead, norm)
            fooled, kept = active.record(x_adv, oracle.logits(x_adv))
            if kept is not None:
                x_adv, fooled, rivals = x_adv[kept], fooled[kept], rivals[kept]
            if not len(active):
                break
            share = 1 - fooled.to(x_adv.dtype) * (1 - self.beta)
            x_adv = active.x.lerp(x_adv, share.view(-1, 1, 1, 1))

    def _step(self, x_adv: Tensor, x: Tensor, w: Tensor, lead: Tensor, norm: str) -> Tensor:
        """Return the biased mean of both projections on the boundary, each overshot by eta (eq. 8 and 9)."""
        w = w.flatten(1)
        points = torch.stack([x_adv.flatten(1), x.flatten(1)])
        covered = (points[0] - points[1]).mul_(w).sum(1)
        steps = landing(norm, points, w, torch.stack([lead, lead + covered])[:, :, None]).sub_(points)
        near, far = _length(steps, norm).clamp_(min=1e-8)
        alpha = (near / (near + far)).clamp_(max=self.alpha_max)
        ends = points.add_(steps, alpha=self.eta)
        return ends[0].lerp(ends[1], alpha[:, None]).clamp_(0, 1).view_as(x)


def _boundary(oracle: Oracle, x_adv: Tensor, active: Closest, norm: str, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lead of the right class over the nearest rival, (B,), and the gradient along which it shrinks.

    For a target, the lead of the best class over it.
    """
    y, target = active.y, active.target
    if rivals.shape[1] > 1:
        return _nearest_boundary(oracle, x_adv, y, norm, rivals)

    def behind(logits: Tensor) -> Tensor:
        if target is not None:
            return margin(logits, y, target)
        return (logits.gather(1, rivals) - logits.gather(1, y[:, None])).squeeze(1)

    value, grad, _ = oracle.value_and_gradient(x_adv, behind)
    return -value, grad


def _nearest_boundary(oracle: Oracle, x_adv: Tensor, y: Tensor, norm: str, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Return lead and gradient for the rival whose linearised boundary is nearest (eq. 6)."""
    logits, grads = oracle.jacobian(x_adv, torch.cat([y[:, None], rivals], dim=1))
    lead, grads = logits.gather(1, y[:, None]) - logits.gather(1, rivals), grads[:, 1:] - grads[:, :1]
    nearest = (lead.abs() / (DUAL[norm](grads.flatten(2)) + 1e-12)).argmin(1)
    rows = torch.arange(len(y), device=y.device)
    return lead[rows, nearest], grads[rows, nearest]


def _length(steps: Tensor, norm: str) -> Tensor:
    """Return the norm of each of the steps (n, B, d), (n, B)."""
    if norm == "linf":
        return steps.abs().amax(2)
    return steps.abs().sum(2) if norm == "l1" else torch.linalg.vector_norm(steps, dim=2)
