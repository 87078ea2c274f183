"""Accuracy against eps: the worst case so far (monotone), and the single attack at each eps that papers print."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.attacks import Adversarial, Attack, craft
from sparring.attacks.base import device_of, predict
from sparring.attacks.crafting import suitable_batch
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import succeeded
from sparring.core.progress import track
from sparring.core.randomness import seeded
from sparring.core.results import Curve, CurvePoint
from sparring.core.threat import ThreatModel
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.confidence import confidence


def predictions(model: nn.Module, x: Tensor, batch_size: int | None = None, *, draws: int = 1, seed: int = 0) -> Tensor:
    """Return the logits (N, K) of images (N, C, H, W), with nothing left behind on the model.

    `draws`: over how many the probabilities of a random model are averaged; `seed`: of what it draws.
    """
    device = device_of(model, x)
    batches = torch.split(x, batch_size or suitable_batch(x, device))
    with frozen(model), seeded(seed):
        return torch.cat([predict(model, batch.to(device), draws).to(x.device) for batch in batches])


@dataclass(frozen=True)
class Nearest:
    """The nearest image known to fool, of each of N examples: its `distance` (inf: none known) and its `logits`."""

    distance: Tensor
    logits: Tensor

    @staticmethod
    def unknown(clean: Tensor) -> "Nearest":
        """Return the beginning: nothing is known to fool; `clean` are the logits (N, K) on the images themselves."""
        return Nearest(torch.full((len(clean),), math.inf), clean)

    @staticmethod
    def of(outcome: Adversarial) -> "Nearest":
        """Return what one attack alone has found."""
        return Nearest(torch.where(outcome.success, outcome.distance, math.inf), outcome.logits)

    def nearer(self, other: "Nearest") -> "Nearest":
        """Return the nearer of two for each example."""
        closer = other.distance < self.distance
        return Nearest(
            torch.minimum(self.distance, other.distance), torch.where(closer[:, None], other.logits, self.logits)
        )


def worst_case_curve(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    eps: Sequence[float],
    *,
    clean: Tensor,
    nearest: Nearest,
    ids: Tensor,
    conditions: Conditions,
) -> tuple[Curve, list[tuple[Tensor, Adversarial]]]:
    """Attack at each eps only what nothing is known to break there, so no work is done twice and accuracy never rises.

    `clean` (N, K) are the logits on the original images; `nearest` is what is known from other attacks, which at every
    eps from its distance on counts as broken. Each attack begins where the one at the eps before ended, pushed out to
    the larger ball. Returns the curve, and what was done at each eps up to the threat's own: places of examples, and
    what became of them.
    """
    found: list[tuple[Tensor, Adversarial]] = []
    logits, reached = clean.clone(), x.clone()
    points, before = [_point(0.0, logits, y)], 0.0
    for value in sorted(set(eps) - {0.0}):
        known = (nearest.distance <= value) & ~succeeded(logits, y)
        logits[known] = nearest.logits[known]
        left = (~succeeded(logits, y)).nonzero().squeeze(1)
        if len(left):
            start = pushed(reached[left], x[left], value / before) if before else None
            within = replace(threat, eps=value)
            outcome, _ = conditions.run(attack, model, x[left], y[left], within, ids=ids[left], start=start)
            logits[left], reached[left] = outcome.logits, outcome.x
            if value <= threat.eps:
                found.append((left, outcome))
        before = value
        points.append(_point(value, logits, y))
    return Curve(repr(attack), threat.name, worst_case=True, points=tuple(points)), found


def pushed(x_adv: Tensor, x: Tensor, factor: float) -> Tensor:
    """Return the images with their perturbations made `factor` times as large, in [0, 1]."""
    return (x + (x_adv - x) * factor).clamp(0, 1)


def single_attack_curve(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    eps: Sequence[float],
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Curve:
    """Attack every example at each eps on its own, right or wrong, at full strength: the protocol of the papers."""
    at = {
        value: single_attack(attack, model, x, y, replace(threat, eps=value), seed=seed, batch_size=batch_size)
        for value in sorted(eps)
    }
    points = tuple(_point(value, logits, y) for value, logits in at.items())
    return Curve(repr(attack), threat.name, worst_case=False, points=points)


def single_attack(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Tensor:
    """Return the logits (N, K) on one attack's images of every example; the papers' protocol, not a verdict.

    An image is classified among the batch-mates that it was attacked with.
    """
    device, parts = device_of(model, x), []
    size = batch_size or suitable_batch(x, device)
    batches = list(zip(torch.split(x, size), torch.split(y, size), strict=True))
    for place, (images, labels) in enumerate(track(batches, f"{attack.name} {threat}", len(batches))):
        images, labels = images.to(device), labels.to(device)  # the same batch, where the model is
        with seeded(seed + place):  # a random model's own noise
            x_adv = craft(attack, model, images, labels, threat, seed=seed + place)
        parts.append(predictions(model, x_adv, size).to(x.device))
    return torch.cat(parts)


def _point(eps: float, logits: Tensor, y: Tensor) -> CurvePoint:
    figures = confidence(logits, y)
    return CurvePoint(eps, figures.accuracy, figures)
