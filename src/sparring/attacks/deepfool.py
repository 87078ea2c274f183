"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.base import Attack
from sparring.attacks.losses import likeliest, margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import FAR, TINY, ThreatModel

SHARES = (0.6, 0.8, 1.0)  # of the way to the boundary that the first steps go, and all later ones
SHORTEST = 0.005  # a step's least length, as a share of the way so far: none stays before a boundary that bends away
LEAST = 1e-6  # and in all, for images whose classes tie
DUAL = {"linf": 1, "l2": 2}


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Steps to the nearest boundary of the linearised model, again and again until the image fools.

    `overshoot` is a share of the whole perturbation. `candidates` counts the classes that are looked at, the right one
    and those which the clean image looks most like. With a target only the boundary to it counts.

    Where the model is linear this is the paper's algorithm. Elsewhere it differs in three ways that make it cheaper and
    the perturbation smaller. A pixel at the border of [0, 1] that a step would push out is not counted on. The first
    steps go part of the way, for they are drawn farthest from the boundary. And the gradients of the classes are taken
    anew only when another class's boundary, as it was last seen, has come to be nearer.
    """

    name = "deepfool"
    source = "arXiv:1511.04599"
    kind = "minimal"
    norms = ("linf", "l2")
    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"deepfool: steps must be at least 1, not {self.steps}")
        if not 0 <= self.overshoot < math.inf:
            raise InputError(f"deepfool: overshoot must be at least 0, not {self.overshoot}")
        if self.candidates < 2:
            raise InputError(f"deepfool: candidates must be at least 2, the right class and another: {self.candidates}")

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
        active = Closest(oracle, x, y, threat, target, stop=False)  # an example ends at its first success anyway
        boundaries, x_adv = _Boundaries(oracle, active, threat.name), x
        for step in range(self.steps):
            logits, w = boundaries.look(x_adv) if step else boundaries.look_at_all(x_adv, self.candidates - 1)
            fooled, _ = active.record(x_adv, logits)
            kept = active.leave(fooled)
            if kept is not None:
                x_adv, w = x_adv[kept], w[kept]
                boundaries.keep(kept)
            if not len(active):
                return active.best
            if step:
                boundaries.look_again(x_adv, w)
            # x_adv - x is 1 + overshoot times the sum of all steps, as in the authors' code
            share = SHARES[min(step, len(SHARES) - 1)]
            shortest = SHORTEST * threat.distance(x_adv, active.x)
            size = torch.maximum(share * boundaries.distance, shortest).clamp_(LEAST, FAR).mul_(1 + self.overshoot)
            x_adv = threat.steepest(w).mul_(size.view(-1, 1, 1, 1)).add_(x_adv).clamp_(0, 1)
        active.record(x_adv, oracle.logits(x_adv))
        return active.best


class _Boundaries:
    """The linearised boundaries between each active example's right class and its rivals.

    `leads` (B, n): how far the right class is ahead of each rival. `slopes` (B, n): how much of that a step of length 1
    takes away, when last looked at. Their ratio is the distance to each boundary, and `nearest` (B, 1) the least.
    """

    rivals: Tensor
    leads: Tensor
    slopes: Tensor
    nearest: Tensor

    def __init__(self, oracle: Oracle, active: Closest, norm: str) -> None:
        self.oracle, self.active, self.norm = oracle, active, norm

    @property
    def distance(self) -> Tensor:
        """To the nearest boundary, (B,)."""
        return (self.leads.gather(1, self.nearest) / self.slopes.gather(1, self.nearest)).squeeze(1)

    def look_at_all(self, x_adv: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Choose the rivals; return the logits and the direction to the nearest boundary, as `look` does."""
        y, target, random = self.active.y, self.active.target, self.oracle.draws > 1
        if random:  # or each draw had rivals of its own, and a mean over draws would be of several classes
            self.rivals = likeliest(self.oracle.logits(x_adv), y)[:, :count]

        def leads(logits: Tensor) -> Tensor:
            if not random:
                self.rivals = likeliest(logits.detach(), y)[:, :count]
            return _leads(logits, y, target, self.rivals)

        logits, grads = self.oracle.jacobian(x_adv, leads)
        self.leads = _leads(logits, y, target, self.rivals)
        directions, self.slopes = self._inward(grads.neg_(), x_adv)
        self.nearest = (self.leads / self.slopes).argmin(1, keepdim=True)
        return logits, _pick(directions, self.nearest)

    def look(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the direction (B, C, H, W) to the boundary that is nearest if no slope has changed."""
        y, target, chosen = self.active.y, self.active.target, None
        if self.oracle.draws > 1:
            leads = _leads(self.oracle.logits(x_adv), y, target, self.rivals)
            chosen = (leads / self.slopes).argmin(1, keepdim=True)

        def nearest(logits: Tensor) -> Tensor:
            leads = _leads(logits, y, target, self.rivals)
            place = (leads / self.slopes).argmin(1, keepdim=True) if chosen is None else chosen
            return leads.gather(1, place).squeeze(1)

        _, grad, logits = self.oracle.value_and_gradient(x_adv, nearest)
        self.leads = _leads(logits, y, target, self.rivals)
        self.nearest = (self.leads / self.slopes).argmin(1, keepdim=True) if chosen is None else chosen
        direction, slope = self._inward(grad.neg_()[:, None], x_adv)
        self.slopes.scatter_(1, self.nearest, slope)
        return logits, direction[:, 0]

    def look_again(self, x_adv: Tensor, w: Tensor) -> None:
        """Look at all boundaries where another could be nearer, and set the directions `w` there."""
        others = (self.leads / self.slopes).scatter(1, self.nearest, math.inf).amin(1)
        rows = others < self.distance
        if not bool(rows.any()):
            return
        y, target, rivals = self.active.y[rows], self.active.target, self.rivals[rows]
        part = self.oracle.branch()
        part.keep(rows)
        _, grads = part.jacobian(x_adv[rows], lambda logits: _leads(logits, y, target, rivals))
        directions, self.slopes[rows] = self._inward(grads.neg_(), x_adv[rows])
        self.nearest[rows] = (self.leads[rows] / self.slopes[rows]).argmin(1, keepdim=True)
        w[rows] = _pick(directions, self.nearest[rows])

    def keep(self, kept: Tensor) -> None:
        """Go on with these of the active examples."""
        state = (self.rivals, self.leads, self.slopes, self.nearest)
        self.rivals, self.leads, self.slopes, self.nearest = (tensor[kept] for tensor in state)

    def _inward(self, grads: Tensor, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradients (B, n, C, H, W) without what would leave [0, 1], in place, and their dual norms (B, n)."""
        least = torch.where(x_adv > 0, -math.inf, 0.0)[:, None]
        most = torch.where(x_adv < 1, math.inf, 0.0)[:, None]
        grads = grads.clamp_(least, most)
        slopes: Tensor = torch.linalg.vector_norm(grads.flatten(2), DUAL[self.norm], dim=2)
        return grads, slopes.clamp_(min=TINY)


def _leads(logits: Tensor, y: Tensor, target: Tensor | None, rivals: Tensor) -> Tensor:
    """Return how far `y` is ahead of each rival, (B, n); for a target how far the best other class is ahead, (B, 1)."""
    if target is not None:
        return -margin(logits, y, target)[:, None]
    return logits.gather(1, y[:, None]) - logits.gather(1, rivals)


def _pick(directions: Tensor, nearest: Tensor) -> Tensor:
    return directions[torch.arange(len(nearest), device=nearest.device), nearest.squeeze(1)]
