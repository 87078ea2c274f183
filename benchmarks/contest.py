"""A problem that attacks contend on, the passes they spend on it, and the one judge of what they achieve."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.threat import ThreatModel

TOLERANCE = 1e-6  # of the distance, for float32's rounding
JUDGED_AT_ONCE = 250


class TimeUp(Exception):  # noqa: N818  # no error: the limit's end, which `measure` expects
    """A contestant is past its limit."""


@dataclass(frozen=True)
class Problem:
    """Images `x` (N, C, H, W) with labels to attack within `threat`; `fit_x`, `fit_y`: what may be learnt from."""

    model: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    fit_x: Tensor
    fit_y: Tensor

    def first(self, count: int) -> "Problem":
        """Return the problem on its first `count` images."""
        return replace(self, x=self.x[:count], y=self.y[:count])


@dataclass(frozen=True)
class Found:
    """What an attack hands over; `forwards` and `backwards`, summed over examples, where it keeps such a ledger."""

    x: Tensor
    forwards: int | None = None
    backwards: int | None = None


Contender = Callable[[Problem, int], Found]


@dataclass(frozen=True)
class Entry:
    """A contender with the problem that it is given, its batch size (0: its own choice) and its limit in seconds."""

    contender: Contender
    problem: Problem
    batch: int
    limit: float


class _Backwards(torch.autograd.Function):
    """The identity; its backward tells the counter."""

    @staticmethod
    def forward(ctx, x: Tensor, counter: "Counted") -> Tensor:  # type: ignore[no-untyped-def]  # torch gives ctx no type
        ctx.counter = counter
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]  # torch gives ctx no type
        ctx.counter.backwards += len(grad)
        return grad, None


class Counted(nn.Module):
    """The model, with the examples counted that pass through it; it stops who is past `deadline`."""

    def __init__(self, model: nn.Module, deadline: float = math.inf) -> None:
        super().__init__()
        self.model, self.deadline = model, deadline
        self.forwards, self.backwards = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits."""
        if time.perf_counter() > self.deadline:
            raise TimeUp
        self.forwards += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            x = _Backwards.apply(x, self)
        logits: Tensor = self.model(x)
        return logits


def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """Return the classes (N,) that the model sees, in float32."""
    with torch.no_grad():
        return torch.cat([model(part.float()).argmax(1) for part in x.split(JUDGED_AT_ONCE)])


def judge(problem: Problem, x_adv: Tensor, kind: str) -> dict[str, float | None]:
    """Return what images achieve, whatever their maker says.

    Cut to [0, 1]; an image farther off than eps (and rounding) counts as no success. `accuracy`: robust accuracy.
    `median`: of the distance over the examples first classified right, those not fooled at infinity; None for infinity.
    `fooling`: share of predictions that changed, for a universal perturbation.
    """
    clean, now, distance = seen(problem, x_adv)
    inside = distance <= problem.threat.eps + TOLERANCE
    right = clean == problem.y
    stood = right & ((now == problem.y) | ~inside)
    result: dict[str, float | None] = {"clean": share(right), "accuracy": share(stood), "outside": share(~inside)}
    if kind == "minimal":
        median = float(torch.where(stood, math.inf, distance)[right].median())
        result["median"] = median if math.isfinite(median) else None
    if kind == "universal":
        result["fooling"] = share((now != clean) & inside)
    return result


def stands(problem: Problem, x_adv: Tensor) -> Tensor:
    """Return which examples (N,) are right, and still are on `x_adv`, or it is out of bounds."""
    clean, now, distance = seen(problem, x_adv)
    return (clean == problem.y) & ((now == problem.y) | ~(distance <= problem.threat.eps + TOLERANCE))


def seen(problem: Problem, x_adv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the classes (N,) seen on the clean images and on the perturbed ones, cut to [0, 1]; and the distances."""
    x_adv = x_adv.detach().float().clamp(0, 1)
    clean, now = predictions(problem.model, problem.x), predictions(problem.model, x_adv)
    return clean, now, problem.threat.distance(x_adv, problem.x)


def share(mask: Tensor) -> float:
    """Return the share of true values."""
    return float(mask.double().mean())


def measure(
    contender: Contender, problem: Problem, batch: int, kind: str, limit: float
) -> tuple[dict[str, Any], Tensor | None]:
    """Let one contender run once; return its seconds, passes and what the judge finds, and its images.

    One that is stopped at `limit` seconds, and has nothing to show by then, has no findings and no images.
    """
    model = Counted(problem.model)
    torch.manual_seed(0)
    begin = now(problem)
    model.deadline = begin + limit
    try:
        found = contender(replace(problem, model=model), batch)
    except TimeUp:
        return {"seconds": now(problem) - begin, "forwards": model.forwards, "backwards": model.backwards}, None
    seconds = now(problem) - begin
    spent = {"forwards": model.forwards, "backwards": model.backwards}
    if found.forwards is not None and found.backwards is not None:
        spent |= {"needed_forwards": found.forwards, "needed_backwards": found.backwards}
    return {"seconds": seconds, **spent, **judge(problem, found.x, kind)}, found.x


def now(problem: Problem) -> float:
    """Return the clock's seconds when the device has done what it was told."""
    if problem.x.device.type == "cuda":
        torch.cuda.synchronize(problem.x.device)
    return time.perf_counter()


def bare(problem: Problem, batch: int, rounds: int = 3) -> dict[str, float]:
    """Return the least seconds an example of a bare forward pass, and of one with the input's gradient."""
    forward, both = [], []
    for _ in range(rounds):
        begin = now(problem)
        with torch.no_grad():
            for part in problem.x.split(batch):
                problem.model(part)
        middle = now(problem)
        for part in problem.x.split(batch):
            leaf = part.clone().requires_grad_(True)
            torch.autograd.grad(problem.model(leaf).sum(), leaf)
        forward.append(middle - begin)
        both.append(now(problem) - middle)
    return {"forward": min(forward) / len(problem.x), "both": min(both) / len(problem.x)}
