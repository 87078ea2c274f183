"""The attack of Carlini & Wagner (2017, arXiv:1608.04644), in L2."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.base import Attack
from sparring.attacks.losses import margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel

INSIDE = 1 - 1e-4  # pixels at exactly 0 or 1 have no finite tanh coordinate, and from too far out they never come back
LARGEST = 1e10  # const, as in the authors' code
SURE = 30.0  # a margin that few networks reach: beyond it const begins smaller by as much
SHRINK = 0.7  # the step, whenever the bracket of const is halved
FIRST_MOMENT, SECOND_MOMENT, TINY = 0.9, 0.999, 1e-8  # Adam's
CHECKS, PROGRESS = 10, 0.9999  # a tenth of the steps must bring the loss below this share of itself


@dataclass(frozen=True, kw_only=True)
class CW(Attack):
    """Minimises ||x_adv - x||^2 + const * max(confidence - margin, 0) over tanh coordinates, by Adam.

    `const` is found for each example by bisection over `search_steps` descents of at most `steps` steps; until one
    succeeds it grows tenfold. `confidence`: the margin that counts as success.

    It differs from the authors' code in four ways, by which fewer passes come as near. A descent goes on from where
    the last one ended, not from the image again. When the bracket of const is halved, steps become smaller. Each
    example goes at its own pace: one that makes no more progress turns to its next const, and whoever has been through
    all leaves. And where the model is all too sure, the first const is smaller, so that the scale of its logits, which
    is what hides gradients in a distilled network, hides nothing.
    """

    name = "cw"
    source = "arXiv:1608.04644"
    kind = "minimal"
    norms = ("l2",)
    steps: int = 50
    search_steps: int = 9
    step_size: float = 0.1
    initial_const: float = 0.1
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.search_steps < 1:
            raise InputError(f"cw: steps and search_steps must be at least 1, not {self.steps} and {self.search_steps}")
        if not 0 < self.step_size < math.inf:
            raise InputError(f"cw: step_size must be above 0, not {self.step_size}")
        if not 0 < self.initial_const <= LARGEST:
            raise InputError(f"cw: initial_const must be above 0 and at most {LARGEST:g}, not {self.initial_const}")
        if not 0 <= self.confidence < math.inf:
            raise InputError(f"cw: confidence is a margin of at least 0, not {self.confidence}")

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
        sure = -margin(oracle.logits(x), active.y, active.target)
        search = _Search(x, self, self.initial_const * SURE / sure.clamp(min=SURE))
        while len(active):
            x_adv = search.image()
            missing, grad, logits = oracle.value_and_gradient(
                x_adv, lambda z: (self.confidence - margin(z, active.y, active.target)).clamp(min=0)
            )
            fooled, kept = active.record(x_adv, self._handicapped(logits, active))
            if kept is not None:
                x_adv, missing, grad, fooled = (tensor[kept] for tensor in (x_adv, missing, grad, fooled))
                search.keep(kept)
            delta = x_adv - active.x
            loss = delta.flatten(1).square().sum(1) + search.const * missing
            search.step(grad.mul_(search.const.view(-1, 1, 1, 1)).add_(delta, alpha=2), x_adv)
            kept = active.leave(search.check(loss, fooled))
            if kept is not None:
                search.keep(kept)
        return active.best

    def _handicapped(self, logits: Tensor, active: Closest) -> Tensor:
        """Return logits that fool only by a margin of `confidence`."""
        if not self.confidence:
            return logits
        wanted, by = (active.y, self.confidence) if active.target is None else (active.target, -self.confidence)
        return logits.scatter_add(1, wanted[:, None], logits.new_full((len(logits), 1), by))


class _Search:
    """Where each row stands: its coordinates, Adam's moments and step, its const and what brackets it."""

    def __init__(self, x: Tensor, settings: CW, const: Tensor) -> None:
        self._settings = settings
        self._w, self._mean, self._square = ((2 * x - 1) * INSIDE).atanh(), torch.zeros_like(x), torch.zeros_like(x)
        rows = torch.zeros_like(const)
        self.const, self._low, self._high = const, rows.clone(), rows + math.inf
        self._steps, self._searches, self._found = rows.long(), rows.long(), rows.bool()
        self._last_loss, self._step_size = rows + math.inf, rows + settings.step_size

    def image(self) -> Tensor:
        """Return the images at the coordinates, (B, C, H, W)."""
        return self._w.tanh().add_(1).mul_(0.5)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (flags)."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])

    def step(self, grad: Tensor, x_adv: Tensor) -> None:
        """Take one step of Adam, given the gradient in the image."""
        grad = grad.mul_(x_adv).mul_(1 - x_adv).mul_(2)  # dx/dw = (1 - tanh(w)^2) / 2
        self._steps += 1
        self._mean.lerp_(grad, 1 - FIRST_MOMENT)
        self._square.lerp_(grad.square_(), 1 - SECOND_MOMENT)
        steps = self._steps.view(-1, 1, 1, 1)
        size = self._step_size.view(-1, 1, 1, 1) / (1 - FIRST_MOMENT**steps)
        self._w.addcdiv_(self._mean * size, (self._square / (1 - SECOND_MOMENT**steps)).sqrt_().add_(TINY), value=-1)

    def check(self, loss: Tensor, fooled: Tensor) -> Tensor:
        """Begin the next descent of each row that has ended one; return which have been through all, (B,)."""
        self._found |= fooled
        due = self._steps % math.ceil(self._settings.steps / CHECKS) == 0
        ended = (self._steps >= self._settings.steps) | (due & ~(loss <= PROGRESS * self._last_loss))
        self._last_loss = torch.where(due, loss, self._last_loss)
        if bool(ended.any()):
            self._begin(ended)
        return self._searches >= self._settings.search_steps

    def _begin(self, rows: Tensor) -> None:
        self._high = torch.where(rows & self._found, self.const, self._high)
        self._low = torch.where(rows & ~self._found, self.const, self._low)
        bracketed = rows & self._high.isfinite()
        tenfold = (self.const * 10).clamp(max=LARGEST)
        self.const = torch.where(bracketed, (self._low + self._high) / 2, torch.where(rows, tenfold, self.const))
        self._step_size[bracketed] *= SHRINK
        self._searches += rows
        self._steps[rows], self._found[rows], self._last_loss[rows] = 0, False, math.inf
        self._mean[rows], self._square[rows] = 0, 0
