"""HopSkipJump, which sees predicted classes only (Chen, Jordan & Wainwright 2020, arXiv:1904.02144)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.active import Closest
from sparring.attacks.base import Attack
from sparring.attacks.losses import succeeded
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel

TRIALS = 100  # random images tried for one that fools
HALVINGS = 12  # of a step that leads back across the boundary, before it is given up
FIRST_RADIUS = 0.1  # of the first estimate, when the distance says nothing yet
LEAST_WIDTH = 1e-3  # of the later ones, of the distance: in large images less is lost in float32
LEAST_BISECTIONS, MOST_BISECTIONS = 8, 25
TINY = 1e-6
ROWS, VALUES = 1000, 2**21  # images, and pixels, asked about at once where fewer examples than that are left


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Attack):
    """Walks along the decision boundary towards the example, by the boundary's normal as predictions nearby give it.

    Each of `steps` asks about `evaluations` * sqrt(step) random images around the nearest one that fools, at most
    `max_evaluations`; goes along their estimate of the normal by the distance / sqrt(step), or as much less as it takes
    to fool; and then straight towards the example until just before the boundary. By default this costs about 5,000
    forward passes an example; the paper spends 25,000 (`steps=50, evaluations=100`).

    It begins with noise, coarse or fine, that fools. Towards a target noise seldom does: hand over images of that class
    as `start`. An example for which nothing fools is given up.
    """

    name = "hopskipjump"
    source = "arXiv:1904.02144"
    kind = "minimal"
    norms = ("linf", "l2")
    steps: int = 25
    evaluations: int = 50
    max_evaluations: int = 10_000

    def __post_init__(self) -> None:
        for name in ("steps", "evaluations", "max_evaluations"):
            if getattr(self, name) < 1:
                raise InputError(f"hopskipjump: {name} must be at least 1, not {getattr(self, name)}")

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
        active = Closest(oracle, x, y, threat, target, stop=stop, clear=0)  # sees no lead
        walk = _Walk(oracle, active, threat)
        walk.begin()
        for step in range(1, self.steps + 1):
            if not len(active):
                break
            evaluations = min(int(self.evaluations * math.sqrt(step)), self.max_evaluations)
            walk.advance(walk.normal(evaluations, first=step == 1), step)
        return active.best


class _Walk:
    """The moves, each for all active examples at once; these stand at `active.nearest`."""

    def __init__(self, oracle: Oracle, active: Closest, threat: ThreatModel) -> None:
        self._oracle, self._active, self._threat = oracle, active, threat
        self._linf, self._pixels = threat.name == "linf", active.x[0].numel()
        self._width = max(1 / self._pixels, LEAST_WIDTH)  # delta, as a share of the distance
        precision = self._width / (self._pixels if self._linf else math.sqrt(self._pixels))  # theta, likewise
        self._bisections = min(max(math.ceil(-math.log2(precision)), LEAST_BISECTIONS), MOST_BISECTIONS)

    def begin(self) -> None:
        """Stand every example at the boundary; let go of those for which no image that fools is found."""
        warm, oracle = self._oracle.warm_start(), self._oracle.branch()

        def noise(rows: Tensor, trial: int) -> Tensor:
            return warm[rows] if warm is not None and trial == 0 else self._noise(oracle, trial)

        far, found = self._first_that_fools(oracle, noise, TRIALS)
        self._active.leave(~found)
        self._active.purge()
        if len(self._active):
            self._approach(far[found])

    def normal(self, evaluations: int, *, first: bool) -> Tensor:
        """Estimate the boundary's normal, of norm 1, by votes of images around, less the mean vote."""
        here, radius = self._active.nearest, _wide(self._radius(first=first))
        votes = torch.zeros_like(here[:, :1, :1, :1])
        summed, weighted = torch.zeros_like(here), torch.zeros_like(here)
        at_once = max(1, min(ROWS, VALUES // self._pixels) // len(here))
        for begun in range(0, evaluations, at_once):
            ways = torch.stack([self._way() for _ in range(min(at_once, evaluations - begun))])
            around = (here + radius * ways).clamp_(0, 1)
            ways = (around - here) / radius
            vote = self._vote(around)
            votes += vote.sum(0)
            summed += ways.sum(0)
            weighted += (vote * ways).sum(0)
        mean = votes / evaluations
        unanimous = mean.abs() == 1
        return self._threat.steepest(torch.where(unanimous, mean * summed, weighted - mean * summed))

    def advance(self, direction: Tensor, step: int) -> None:
        """Go along `direction` by as much of the distance / sqrt(step) as fools, then back to the boundary."""
        here, size = self._active.nearest, _wide(self._active.reached) / math.sqrt(step)

        def shorter(rows: Tensor, trial: int) -> Tensor:
            return (here[rows] + direction[rows] * size[rows] * 0.5**trial).clamp_(0, 1)

        far, found = self._first_that_fools(self._oracle.branch(), shorter, HALVINGS)
        self._approach(torch.where(_wide(found), far, here))

    def _approach(self, far: Tensor) -> None:
        """Bisect between each example and an image that fools, and record every image that does.

        All of them: of a random model, the last one may have fooled by chance, and would not be borne out again.
        """
        low, high = torch.zeros_like(far[:, :1, :1, :1]), torch.ones_like(far[:, :1, :1, :1])
        middle = high
        for _ in range(self._bisections + 1):
            image = self._between(far, middle)
            found, kept = self._active.record(image, self._oracle.logits(image))
            fooled = _wide(found)
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
            if kept is not None:
                far, low, high = far[kept], low[kept], high[kept]
            middle = (low + high) / 2

    def _between(self, far: Tensor, share: Tensor) -> Tensor:
        """Return the image at this share of the way to `far`; in Linf `far` cut to this share of its distance."""
        x = self._active.x
        if not self._linf:
            return torch.lerp(x, far, share)
        reach = _wide(self._threat.distance(far, x)) * share
        return torch.minimum(torch.maximum(far, x - reach), x + reach).clamp_(0, 1)

    def _first_that_fools(
        self, oracle: Oracle, propose: Callable[[Tensor, int], Tensor], trials: int
    ) -> tuple[Tensor, Tensor]:
        """Return for each active row the first image of `propose(rows, trial)` that fools, and which rows have one.

        `oracle`: a branch, so that each row pays for its own trials only.
        """
        y, target = self._active.y, self._active.target
        rows, images = torch.arange(len(y), device=y.device), self._active.x.clone()
        found = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        for trial in range(trials):
            image = propose(rows, trial)
            fools = succeeded(oracle.logits(image), y[rows], None if target is None else target[rows])
            images[rows[fools]], found[rows[fools]] = image[fools], True
            oracle.keep(~fools)
            rows = rows[~fools]
            if not len(rows):
                break
        return images, found

    def _vote(self, around: Tensor) -> Tensor:
        """Return 1 for every image (n, B, C, H, W) that fools and -1 for every other, (n, B, 1, 1, 1)."""
        count, target = len(around), self._active.target
        logits = self._oracle.logits(around.flatten(0, 1))
        fools = succeeded(logits, self._active.y.repeat(count), None if target is None else target.repeat(count))
        return fools.view(count, -1, 1, 1, 1).to(around.dtype) * 2 - 1

    def _way(self) -> Tensor:
        """Return a random direction for each example, of length 1; for Linf from a cube, as in the authors' code."""
        noise = self._oracle.uniform(self._pixels).to(self._active.x.dtype)
        way: Tensor = noise * 2 - 1 if self._linf else torch.special.ndtri(noise.clamp_(1e-6, 1 - 1e-6))
        way /= torch.linalg.vector_norm(way, dim=1, keepdim=True).clamp(min=TINY)
        return way.view_as(self._active.x)

    def _radius(self, *, first: bool) -> Tensor:
        """Return how far from the boundary to ask, (B,)."""
        reached = self._active.reached
        return torch.full_like(reached, FIRST_RADIUS) if first else (reached * self._width).clamp(min=TINY)

    def _noise(self, oracle: Oracle, trial: int) -> Tensor:
        """Return images of random squares, 1, 2, 4 … pixels wide, grey or black and white: not all noise is alike."""
        channels, height, width = self._active.x.shape[1:]
        scale = 2 ** (trial // 2 % max(min(height, width).bit_length() - 1, 1))
        tall, wide = -(-height // scale), -(-width // scale)
        squares = oracle.uniform(channels, tall, wide).to(self._active.x.dtype)
        squares = squares.round() if trial % 2 else squares
        return squares.repeat_interleave(scale, 2).repeat_interleave(scale, 3)[:, :, :height, :width]


def _wide(values: Tensor) -> Tensor:
    """Return values (B,) as (B, 1, 1, 1), to go with images."""
    return values.view(-1, 1, 1, 1)
