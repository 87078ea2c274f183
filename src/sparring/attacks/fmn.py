"""The fast minimum-norm attack (Pintor et al. 2021, arXiv:2102.12827)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.base import Attack
from sparring.attacks.ddn import cosine
from sparring.attacks.losses import margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import TINY, ThreatModel

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
ORDER = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
FIRST_STEP = {"linf": 30.0, "l2": 1.0, "l1": 1.0}
LAST_GAMMA = 0.001


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Steps up the margin inside a ball that shrinks after each success and grows after each failure.

    Until the first success it goes out to just beyond where the boundary would lie if the model were linear. There the
    paper's goes up to the boundary, not beyond, so that a tie holds it for good; its radius need not grow, and its
    image may stay inside. `step_size` is the first step's length in L2, whatever the norm, and falls to a hundredth of
    it; `gamma` is the share by which the ball changes at first.
    """

    name = "fmn"
    source = "arXiv:2102.12827"
    kind = "minimal"
    steps: int = 100
    step_size: float | None = None
    gamma: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"fmn: steps must be at least 1, not {self.steps}")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise InputError(f"fmn: step_size must be above 0, not {self.step_size}")
        if not LAST_GAMMA <= self.gamma < 1:
            raise InputError(f"fmn: gamma is a share from {LAST_GAMMA} to 1, not {self.gamma}")

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
        first = self.step_size or FIRST_STEP[threat.name]
        x_adv, radius = x, torch.zeros_like(active.distance)
        farthest = threat.distance((x < 0.5).to(x.dtype), x)  # no image is farther than the box's opposite corner
        for step in range(self.steps):
            loss, grad, logits = oracle.value_and_gradient(x_adv, lambda z: margin(z, active.y, active.target))
            fooled, kept = active.record(x_adv, logits)
            if kept is not None:
                state = (x_adv, radius, farthest, loss, grad, fooled)
                x_adv, radius, farthest, loss, grad, fooled = (t[kept] for t in state)
            if not len(active):
                return active.best
            grad.masked_fill_(((x_adv <= 0) & (grad < 0)) | ((x_adv >= 1) & (grad > 0)), 0)
            delta, gamma = x_adv - active.x, cosine(self.gamma, LAST_GAMMA, step / self.steps)
            boundary = _length(delta, threat.name) + loss.abs() / _length(grad, DUAL[threat.name])
            never, grown = active.reached.isinf(), radius * (1 + gamma)
            missed = torch.where(never, torch.maximum(boundary * (1 + LAST_GAMMA), grown), grown)
            radius = torch.where(fooled, torch.minimum(radius * (1 - gamma), active.reached), missed)
            radius = torch.minimum(radius, farthest)
            step_size = cosine(first, first / 100, step / self.steps)
            delta.addcdiv_(grad, _length(grad, "l2").view(-1, 1, 1, 1), value=step_size)
            delta = _into_ball(delta, radius.view(-1, 1, 1, 1), threat.name)
            out = torch.where(never, (radius / _length(delta, threat.name)).clamp_(min=1), 1)
            x_adv = delta.mul_(out.view(-1, 1, 1, 1)).add_(active.x).clamp_(0, 1)
        active.record(x_adv, oracle.logits(x_adv))
        return active.best


def _length(delta: Tensor, norm: str) -> Tensor:
    """Return each row's norm, (B,), never 0."""
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), ORDER[norm], dim=1)
    return size.clamp_(min=TINY)


def _into_ball(delta: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Project onto the balls of radii (B, 1, 1, 1), in place."""
    if norm == "linf":
        return delta.clamp_(-radius, radius)
    if norm == "l2":
        return delta.mul_((radius / _length(delta, norm).view_as(radius)).clamp_(max=1))
    ordered = delta.flatten(1).abs().sort(dim=1, descending=True).values
    count = torch.arange(1, ordered.shape[1] + 1, device=delta.device)
    tau = ((ordered.cumsum(1) - radius.view(-1, 1)) / count).amax(1).clamp(min=0).view_as(radius)
    return torch.copysign((delta.abs() - tau).clamp_(min=0), delta)  # Duchi et al. 2008, fig. 1
