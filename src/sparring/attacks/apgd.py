"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690), and its form for L1 (Croce & Hein 2021, arXiv:2103.01208)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.base import Attack
from sparring.attacks.losses import dlr, likeliest, objective
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import TINY, ThreatModel

MOMENTUM = 0.75  # the weight of the new step; the rest goes on in the old direction
FIRST_CHECK, SOONER, SOONEST = 0.22, 0.03, 0.06  # of all steps: to the first check; so much less each time; the least
WIDE, WIDE_SHARE = (3, 2), 0.3  # in L1: first in balls of so many eps, each for this share of the steps
CHECK_L1, SPARSER, SLOWER, SLOWEST, STEADY = 0.04, 1.5, 1.5, 0.1, 0.95  # of arXiv:2103.01208


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Climbs with momentum and halves its steps, going back to the best image, where they no longer pay.

    That is where no more than the share `rho` of the steps since the last check raised the loss, or none found a new
    best. In L1 the climb begins in a ball of 3 eps, and steps are sparser than the best image so far. The loss
    "targeted_dlr" makes for the `targets` likeliest other classes, one climb each.
    """

    name = "apgd"
    source = "arXiv:2003.01690"
    kind = "budget"
    steps: int = 100
    restarts: int = 1
    loss: Literal["cross_entropy", "margin", "dlr", "targeted_dlr"] = "cross_entropy"
    rho: float = 0.75
    targets: int = 9

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.targets) < 1:
            found = f"{self.steps}, {self.restarts} and {self.targets}"
            raise InputError(f"apgd: steps, restarts and targets must be at least 1, not {found}")
        if not 0 <= self.rho <= 1:
            raise InputError(f"apgd: rho is a share of the steps, 0 to 1, not {self.rho}")

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
        in_turn = self.loss == "targeted_dlr" and target is None
        for rank in range(self.targets if in_turn else 1):
            for _ in range(self.restarts):
                active.purge()
                others = likeliest(oracle.logits(active.x), active.y) if in_turn and len(active) else None
                if not len(active) or (others is not None and rank >= others.shape[1]):
                    return active.worst
                self._climb(oracle, active, threat, None if others is None else others[:, rank], stop=stop)
        return active.worst

    def _climb(self, oracle: Oracle, active: Worst, threat: ThreatModel, rival: Tensor | None, *, stop: bool) -> None:
        """Climb once from a fresh start, in L1 through ever smaller balls, and record the best image."""
        x_adv = None
        for within, steps in self._balls(threat):
            x_adv = _start(oracle, active.x, within) if x_adv is None else within.project(x_adv, active.x)
            catch = stop and within == threat  # images in a wider ball do not count
            climb = self._ascend(oracle, active, within, x_adv, rival, steps, catch=catch)
            x_adv = climb.best
        if len(active):
            active.record(climb.best, self._worth(climb.best_logits, active), climb.best_logits)

    def _balls(self, threat: ThreatModel) -> list[tuple[ThreatModel, int]]:
        """Return the balls to climb in, the last that of the threat, and the steps in each."""
        wider = threat.name == "l1" and 0 < threat.eps < math.inf
        wide = min(math.ceil(WIDE_SHARE * self.steps), (self.steps - 1) // 2) if wider else 0
        balls = [(replace(threat, eps=factor * threat.eps), wide) for factor in WIDE if wide]
        return [*balls, (threat, self.steps - wide * len(balls))]

    def _ascend(
        self,
        oracle: Oracle,
        active: Worst,
        threat: ThreatModel,
        x_adv: Tensor,
        rival: Tensor | None,
        steps: int,
        *,
        catch: bool,
    ) -> "Climb":
        """Climb in one ball (algorithm 1 of the paper); rows whose image fools leave on the way."""
        climb = CLIMBS[threat.name](active.x, x_adv, threat, steps, rival)
        for step in range(steps + 1):
            if step:
                climb.move(step, threat)
            logits = self._look(oracle, active, climb, last=step == steps)
            climb = self._caught(active, climb, logits) if catch else climb
            if not len(active):
                break
            climb.check(step, self.rho)
        return climb

    def _look(self, oracle: Oracle, active: Worst, climb: "Climb", *, last: bool) -> Tensor:
        """Ask for the loss of the current images, and unless they are the last, its gradient; return the logits."""

        def climbed(logits: Tensor) -> Tensor:
            if climb.rival is not None:
                return dlr(logits, active.y, climb.rival)
            return objective("dlr" if self.loss == "targeted_dlr" else self.loss, logits, active.y, active.target)

        if last:
            logits = oracle.logits(climb.x_adv)
            climb.note(climbed(logits), climb.grad, logits)
        else:
            value, grad, logits = oracle.value_and_gradient(climb.x_adv, climbed)
            climb.note(value, grad, logits)
        return logits

    def _worth(self, logits: Tensor, active: Worst) -> Tensor:
        """Return what the worst image is chosen by, which is the same for all targets."""
        return objective("margin" if self.loss == "targeted_dlr" else self.loss, logits, active.y, active.target)

    def _caught(self, active: Worst, climb: "Climb", logits: Tensor) -> "Climb":
        if not bool(active.fooled(climb.x_adv, logits).any()):
            return climb
        kept = active.record(climb.x_adv, self._worth(logits, active), logits)
        return climb if kept is None else climb.rows(kept)


class Climb(ABC):
    """A climb in progress; every tensor has one row an active example."""

    def __init__(self, x: Tensor, x_adv: Tensor, threat: ThreatModel, steps: int, rival: Tensor | None) -> None:
        self.x, self.x_adv, self.rival, self.steps = x, x_adv, rival, steps
        self.best, self.grad, self.best_grad = x_adv.clone(), x_adv, torch.zeros_like(x_adv)
        self.best_logits = x.new_zeros(len(x), 1)
        self.value = self.best_value = x.new_full((len(x),), -math.inf)
        self.rises = torch.zeros_like(self.value)  # since the last check
        self.step_size = x.new_full((len(x), 1, 1, 1), self.pace * threat.reach(x))

    pace: ClassVar[float]  # the first steps, in eps

    @abstractmethod
    def move(self, step: int, threat: ThreatModel) -> None:
        """Take a step, of which the first is number 1."""

    @abstractmethod
    def check(self, step: int, rho: float) -> None:
        """After this step, if it is time: make step sizes fit what was found."""

    def note(self, value: Tensor, grad: Tensor, logits: Tensor) -> None:
        """Take in what the model says of the current images."""
        better = value > self.best_value
        self.rises = self.rises + (value > self.value)
        self.value, self.grad = value, grad
        self.best_value = torch.where(better, value, self.best_value)
        self.best_logits = torch.where(better[:, None], logits, self.best_logits)
        rows = better.nonzero().squeeze(1)  # seldom many, so a copy of these is quicker than a choice among all
        self.best.index_copy_(0, rows, self.x_adv.index_select(0, rows))
        self.best_grad.index_copy_(0, rows, grad.index_select(0, rows))

    def rows(self, kept: Tensor) -> Self:
        """Go on with these rows (flags)."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[kept])
        return self

    def _go_back(self, back: Tensor) -> None:
        """Go on from the best images of these rows (flags)."""
        rows = back.nonzero().squeeze(1)
        self.x_adv.index_copy_(0, rows, self.best.index_select(0, rows))
        self.grad.index_copy_(0, rows, self.best_grad.index_select(0, rows))


class Halving(Climb):
    """Steps with momentum, halved where they no longer pay."""

    pace = 2

    def __init__(self, x: Tensor, x_adv: Tensor, threat: ThreatModel, steps: int, rival: Tensor | None) -> None:
        super().__init__(x, x_adv, threat, steps, rival)
        self.before = x_adv
        self.halved, self.checked_value = torch.ones_like(self.value, dtype=torch.bool), self.value
        self.window = max(int(FIRST_CHECK * steps), 1)
        self.next_check = self.window

    def move(self, step: int, threat: ThreatModel) -> None:
        """Step, and go on a little in the old direction (eq. 2)."""
        moved = self._into_ball(threat.steepest(self.grad).mul_(self.step_size).add_(self.x_adv), threat)
        if step > 1:
            onward = self.before.lerp(self.x_adv, 2)
            moved = self._into_ball(moved.lerp_(onward, 1 - MOMENTUM), threat)
        self.before, self.x_adv = self.x_adv, moved

    def check(self, step: int, rho: float) -> None:
        """Halve by condition 1, too few steps paid, or 2, nothing better since a check that did not halve."""
        if step == 0:
            self.rises, self.checked_value = torch.zeros_like(self.rises), self.best_value
        if step != self.next_check:
            return
        stuck = ~self.halved & (self.checked_value >= self.best_value)
        self.halved, self.checked_value = (self.rises <= rho * self.window) | stuck, self.best_value
        self.step_size = torch.where(self.halved.view(-1, 1, 1, 1), self.step_size / 2, self.step_size)
        self._go_back(self.halved)
        self.rises = torch.zeros_like(self.rises)
        self.window = max(self.window - max(int(SOONER * self.steps), 1), max(int(SOONEST * self.steps), 1))
        self.next_check += self.window

    def _into_ball(self, x_adv: Tensor, threat: ThreatModel) -> Tensor:
        return threat.project(x_adv, self.x)


class Boxed(Halving):
    """The same in Linf, where ball and image range are one box, made once."""

    def __init__(self, x: Tensor, x_adv: Tensor, threat: ThreatModel, steps: int, rival: Tensor | None) -> None:
        super().__init__(x, x_adv, threat, steps, rival)
        self.lower, self.upper = (x - threat.eps).clamp_(min=0), (x + threat.eps).clamp_(max=1)

    def _into_ball(self, x_adv: Tensor, threat: ThreatModel) -> Tensor:
        return x_adv.clamp_(self.lower, self.upper)


class Sparse(Climb):
    """In L1: steps on few pixels at a time, ever fewer as the best image's perturbation gets sparser."""

    pace = 1

    def __init__(self, x: Tensor, x_adv: Tensor, threat: ThreatModel, steps: int, rival: Tensor | None) -> None:
        super().__init__(x, x_adv, threat, steps, rival)
        self.changed = self._changed()
        self.longest, self.every = self.pace * threat.reach(x), max(int(CHECK_L1 * steps), 1)

    def move(self, step: int, threat: ThreatModel) -> None:
        """Step along the signs of the largest gradients, SPARSER times fewer than pixels that the best one changes."""
        size = self.grad.abs()
        ordered, pixels = size.flatten(1).sort(dim=1).values, self.x[0].numel()
        place = (pixels - self.changed / SPARSER).clamp(0, pixels - 1).long()
        least = ordered.gather(1, place[:, None])[:, :, None, None]
        signs = self.grad.sign().mul_(size >= least)
        count = signs.flatten(1).abs().sum(1).clamp(min=1).view(-1, 1, 1, 1)
        self.x_adv = threat.project(torch.addcmul(self.x_adv, signs, self.step_size / count), self.x)

    def check(self, step: int, rho: float) -> None:
        """Where the best image got much sparser, step far again from there; elsewhere less far."""
        if step == 0 or step % self.every:
            return
        changed = self._changed()
        sparser = changed < STEADY * self.changed
        shorter = (self.step_size / SLOWER).clamp(min=SLOWEST * self.longest)
        self.step_size = torch.where(sparser.view(-1, 1, 1, 1), self.longest, shorter)
        self.changed = changed
        self._go_back(sparser)

    def _changed(self) -> Tensor:
        """Count the pixels that the best image changes, (B,)."""
        return (self.best != self.x).flatten(1).sum(1).to(self.x.dtype)


CLIMBS: dict[str, type[Climb]] = {"linf": Boxed, "l2": Halving, "l1": Sparse}


def _start(oracle: Oracle, x: Tensor, threat: ThreatModel) -> Tensor:
    """Return the warm start if there is one, else a random point on the ball's surface, cut to [0, 1]."""
    warm = oracle.warm_start()
    if warm is not None:
        return threat.project(warm, x)
    delta = noise(oracle, x, threat)
    if threat.name != "l1":  # where the projection makes it sparse
        delta *= (threat.reach(x) / length(delta, threat)).view(-1, 1, 1, 1)
    return threat.project(x + delta, x)


def noise(oracle: Oracle, x: Tensor, threat: ThreatModel) -> Tensor:
    """Return noise like `x` in shape: uniform in [-1, 1) in Linf, else Gaussian."""
    uniform = oracle.uniform(x[0].numel()).to(x.dtype).view_as(x)
    return uniform * 2 - 1 if threat.name == "linf" else torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))


def length(delta: Tensor, threat: ThreatModel) -> Tensor:
    """Return how long each perturbation is in the threat's norm, (B,), never 0."""
    return threat.distance(delta, torch.zeros_like(delta)).clamp(min=TINY)
