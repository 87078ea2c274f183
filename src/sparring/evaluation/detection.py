"""How a model must be attacked where no module of it says so: what an attacker who knows it would find out.

`detect` asks a few examples; `as_attacked` returns the model in the form that attacks should be let at. Whatever that
does to gradients, predictions stay the model's own.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparring.attacks import Crafting
from sparring.attacks.base import adapted, device_of
from sparring.attacks.freezing import frozen
from sparring.attacks.given import check_labels
from sparring.attacks.losses import margin
from sparring.attacks.oracle import Oracle, finite
from sparring.attacks.straight_through import StraightThrough
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.threat import ThreatModel
from sparring.evaluation.curve import predictions
from sparring.models.adaptive import adaptation

PROBABILITIES = "outputs are probabilities"
RANDOM = "random"
STEPS = "steps without a gradient"
CUT = "gradients cut off"
ESTIMATED = "shattered gradients"
OPAQUE = "no gradient at all"

LOOKED_AT = 32  # examples
SAME = 1e-4  # of the largest logit: smaller differences are rounding
USEFUL = 0.75  # of comparisons in which a step along the gradient must beat a random one; chance is a half
REACHES = (1 / 16, 1 / 4, 1.0)  # of eps: how far the steps go
DIRECTIONS = 4  # random ones an example
STRAIGHT, EXPLAINED = 0.9, 0.7  # of an honest network both shares are above 0.95
SMALL_MOVES = (1e-3, 1e-2)  # in pixels
FEW, SMALL = 8, 4096  # examples asked of images with more values than that
PAIRS = 8  # of points on either side of an image, from which a gradient is estimated


def detect(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> tuple[str, ...]:
    """Return what attacks on `model` must mind that its modules do not declare, as a rule nothing.

    `x` (N, C, H, W) in [0, 1] and `y` (N,): examples that it will be judged on, of which the first few are asked.
    Nothing is left behind. Raises InputError for a model that gives no logits (N, K), and for labels beyond K.
    """
    where = device_of(model, x)
    x, y = x[:LOOKED_AT].to(where), y[:LOOKED_AT].to(where)
    logits = predictions(model, x)
    check_labels(y, logits.shape[1], "y")
    found: tuple[str, ...] = (PROBABILITIES,) if are_probabilities(logits) else ()
    if "eot" not in adaptation(model) and differ(logits, predictions(model, x, seed=1)):
        found += (RANDOM,)
    return (*found, *_passage(model, found, x, y, threat)) if threat.eps > 0 else found


def are_probabilities(logits: Tensor) -> bool:
    """Say whether all rows (N, K) are shares of 1."""
    return bool(((logits >= 0) & (logits <= 1)).all() and ((logits.sum(1) - 1).abs() <= 1e-5).all())


def differ(one: Tensor, other: Tensor) -> bool:
    """Say whether logits (N, K) of the same images differ by more than rounding."""
    apart, scale = (one - other).abs().nan_to_num(0), one.abs().nan_to_num(0)
    return float(apart.max()) > SAME * max(float(scale.max()), torch.finfo(torch.float32).tiny)


def usefulness(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, *, draws: int | None = None
) -> float | None:
    """Return how often a step along the margin's gradient beats a random step of the same size, 0 to 1.

    Of the step's sizes the best counts. A half is chance, as for a model that does not move at all; None: the model has
    no gradient. A network in which nothing is hidden is near 1.
    """
    with frozen(model), seeded(0):
        try:
            oracle = Oracle(
                model, torch.arange(len(x), device=x.device), crafting=adapted(Crafting(draws=draws), model)
            )
            value, grad, _ = oracle.value_and_gradient(x, lambda logits: margin(logits, y))
        except (InputError, RuntimeError):  # torch's: the graph ends before x, or gradients passed on broke it
            return None
        shares = [_beaten(oracle, x, y, grad, threat, threat.reach(x) * part) for part in REACHES]
    return max(shares) if bool(value.isfinite().all()) else 0.5


def _beaten(oracle: Oracle, x: Tensor, y: Tensor, grad: Tensor, threat: ThreatModel, size: float) -> float:
    """Return the share of random steps that the one along `grad` beats; a draw counts half."""
    reached = margin(oracle.logits((x + threat.ascent(x, grad, size)).clamp(0, 1)), y)
    beaten = []
    for _ in range(DIRECTIONS):
        anyhow = oracle.uniform(x[0].numel()).view_as(x) - 0.5
        other = margin(oracle.logits((x + threat.ascent(x, anyhow, size)).clamp(0, 1)), y)
        beaten.append((reached > other).float() + 0.5 * (reached == other).float())
    return float(torch.cat(beaten).mean())


@dataclass(frozen=True)
class Agreement:
    """Of the margin's changes under small random moves, which share the gradient explains, a straight line, and a sum.

    1: all of it; below 0: it would be better not to look. A line is drawn through two moves, one twice the other:
    where even that explains little, the model is not smooth, or too coarse to tell. A sum, of the changes under two
    moves, explains that under both together, but where the model has a corner: there no gradient can tell all.
    `infinite`: how many of the `examples` have a gradient that is not finite.
    """

    gradient: float
    line: float
    sum: float
    infinite: int
    examples: int

    @property
    def partial(self) -> bool:
        """Whether the model changes smoothly, but not as its gradient says: a part of that is cut off, or bent."""
        return self.line >= STRAIGHT and self.sum >= STRAIGHT and self.gradient < EXPLAINED

    @property
    def cornered(self) -> bool:
        """Whether the images lie where the model has corners, of which its gradients tell little."""
        return self.line >= STRAIGHT > self.sum and self.gradient < EXPLAINED


def agreement(model: nn.Module, x: Tensor, y: Tensor) -> Agreement | None:
    """Return how well the margin's gradient at `x` tells what small moves do; None where there is no gradient.

    Of two sizes of moves that counts at which the model is the smoother: small ones may drown in rounding. Means
    nothing for a model that is random, or attacked by gradients that are not its own.
    """
    few = LOOKED_AT if x[0].numel() <= SMALL else FEW
    x, y = x[:few], y[:few]
    with frozen(model), seeded(0):
        leaf = x.detach().requires_grad_(True)
        with torch.enable_grad():
            value = margin(model(leaf).float(), y).sum()
            try:
                (grad,) = torch.autograd.grad(value, leaf)
            except RuntimeError:  # the graph ends before x
                return None
        infinite = int((~grad.isfinite()).flatten(1).any(1).sum())
        oracle = Oracle(model, torch.arange(len(x), device=x.device))
        shares = _explained(oracle, x, y, finite(grad), SMALL_MOVES[0])
        if shares[1] < STRAIGHT:
            shares = max(shares, _explained(oracle, x, y, finite(grad), SMALL_MOVES[1]), key=lambda of: of[1])
    return Agreement(*shares, infinite, len(x))


def _explained(oracle: Oracle, x: Tensor, y: Tensor, grad: Tensor, size: float) -> tuple[float, float, float]:
    """Return the shares of changes between opposite moves of this size that gradient, line and sum explain."""

    def change(move: Tensor) -> Tensor:
        return margin(oracle.logits((x + move).clamp(0, 1)), y) - margin(oracle.logits((x - move).clamp(0, 1)), y)

    uniform = (oracle.uniform(x[0].numel()).view_as(x) for _ in range(DIRECTIONS))
    moves = [torch.where(each < 0.5, size, -size) for each in uniform]
    near = [change(move) for move in moves]
    told = [(grad * ((x + move).clamp(0, 1) - (x - move).clamp(0, 1))).flatten(1).sum(1) for move in moves]
    changes, twice = torch.cat(near), torch.cat([change(2 * move) for move in moves])
    both = torch.cat([change(one + other) for one, other in pairwise(moves)])
    sums = torch.cat([one + other for one, other in pairwise(near)])
    return _share(changes - torch.cat(told), changes), _share(twice - 2 * changes, twice), _share(both - sums, both)


def _share(unexplained: Tensor, changes: Tensor) -> float:
    """Return the share of the changes' squares that is not left unexplained; of none at all, all."""
    known = changes.isfinite() & unexplained.isfinite()
    total = float(changes[known].square().sum())
    return 1 - float(unexplained[known].square().sum()) / total if total > 0 else 1.0


def _passage(model: nn.Module, found: tuple[str, ...], x: Tensor, y: Tensor, threat: ThreatModel) -> Iterator[str]:
    """Yield what lets gradients through that lead somewhere, if those that are there do not."""
    attacked = as_attacked(model, found, threat)
    plain = usefulness(attacked, x, y, threat)
    leads = plain is not None and plain >= USEFUL
    partial = leads and not (adaptation(attacked) or found) and is_partial(attacked, x, y)
    if leads and not partial:
        return
    for way in (STEPS, CUT) if partial else (STEPS, CUT, ESTIMATED):
        passed = as_attacked(model, (*found, way), threat)
        reached = usefulness(passed, x, y, threat)
        if reached is not None and reached >= USEFUL and not (partial and is_partial(passed, x, y)):
            yield way
            return
    if plain is None:
        yield OPAQUE


def is_partial(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Say whether gradients lead somewhere, but are not all of what the model does: see `Agreement`."""
    found = agreement(model, x, y)
    return found is not None and found.partial


class AsAttacked(nn.Module):
    """A model as attacks should be let at it: the same predictions, other gradients, logits for probabilities."""

    def __init__(self, model: nn.Module, found: tuple[str, ...], threat: ThreatModel) -> None:
        super().__init__()
        self.model, self._found = model, found
        self._noise, self._radius = threat, min(threat.eps, 1.0) / 4
        self.adaptive = frozenset({"eot"} if RANDOM in found else ())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        followed = StraightThrough(cuts=CUT in self._found) if {STEPS, CUT} & {*self._found} else nullcontext()
        with followed if torch.is_grad_enabled() else nullcontext():
            logits: Tensor = self.model(x)
        logits = logits if logits.is_floating_point() else logits.float()
        if ESTIMATED in self._found and torch.is_grad_enabled():
            logits = self._estimated(x, logits)
        if PROBABILITIES in self._found:
            logits = logits.clamp(min=torch.finfo(logits.dtype).tiny).log()
        return logits + (0 * x).flatten(1).sum(1, keepdim=True) if OPAQUE in self._found else logits

    def _estimated(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return `logits` with a gradient made of values alone, at points on either side (Ilyas et al. 2018)."""
        size = len(x), x[0].numel() + 1
        with torch.no_grad():
            noise = [self._noise.noise(x, torch.rand(size, device=x.device), self._radius) for _ in range(PAIRS)]
            apart = [self.model((x + u).clamp(0, 1)) - self.model((x - u).clamp(0, 1)) for u in noise]
        estimated: Tensor = _Estimated.apply(x, logits.detach(), torch.stack(noise), torch.stack(apart))  # type: ignore[no-untyped-call]  # torch's own
        return estimated


class _Estimated(torch.autograd.Function):
    """Logits (B, K) whose gradient in x is read off differences (n, B, K) along directions (n, B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor, noise: Tensor, apart: Tensor) -> Tensor:  # noqa: ARG004  # x: whose gradient it is
        ctx.save_for_backward(noise, apart)
        return logits.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        noise, apart = ctx.saved_tensors
        return torch.einsum("nb,nbchw->bchw", (apart * grad).sum(2), noise), None, None, None


def as_attacked(model: nn.Module, found: tuple[str, ...], threat: ThreatModel) -> nn.Module:
    """Return `model` as what was found about it asks for; itself where that is nothing."""
    return AsAttacked(model, found, threat).train(model.training) if found else model
