"""Accuracy against eps: the worst case so far (monotone), and the single attack at each eps that papers print."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparring.attacks import Attack, craft, run
from sparring.attacks.base import device_of, predict
from sparring.attacks.crafting import suitable_batch
from sparring.attacks.losses import succeeded
from sparring.attacks.oracle import frozen
from sparring.core.progress import track
from sparring.core.randomness import seeded
from sparring.core.results import Curve, CurvePoint
from sparring.core.threat import ThreatModel
from sparring.evaluation.confidence import confidence


def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """Return the logits (N, K) of images (N, C, H, W), with nothing left behind on the model."""
    device = device_of(model, x)
    batches = torch.split(x, suitable_batch(x, device, 1))
    with frozen(model), seeded(0):
        return torch.cat([predict(model, batch.to(device)).to(x.device) for batch in batches])


def worst_case_curve(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    eps: Sequence[float],
    *,
    clean: Tensor,
    worst: Tensor,
    ids: Tensor,
    seed: int = 0,
) -> Curve:
    """Attack at each eps what no smaller eps broke, so no work is done twice and accuracy never rises.

    `clean` and `worst` (N, K) are the logits on the original images and on the worst images found at `threat.eps`: what
    was broken there counts as broken from there on.
    """
    logits = clean.clone()
    points = [_point(0.0, logits, y)]
    for value in sorted(set(eps) - {0.0}):
        if value >= threat.eps:
            logits = torch.where((succeeded(worst, y) & ~succeeded(logits, y))[:, None], worst, logits)
        left = (~succeeded(logits, y)).nonzero().squeeze(1)
        if len(left):
            found = run(attack, model, x[left], y[left], replace(threat, eps=value), seed=seed, ids=ids[left])
            logits[left] = found.logits
        points.append(_point(value, logits, y))
    return Curve(repr(attack), threat.name, worst_case=True, points=tuple(points))


def single_attack_curve(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, eps: Sequence[float], *, seed: int = 0
) -> Curve:
    """Attack every example at each eps on its own, right or wrong, at full strength: the protocol of the papers."""
    at = {value: single_attack(attack, model, x, y, replace(threat, eps=value), seed=seed) for value in sorted(eps)}
    points = tuple(_point(value, logits, y) for value, logits in at.items())
    return Curve(repr(attack), threat.name, worst_case=False, points=points)


def single_attack(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, *, seed: int = 0
) -> Tensor:
    """Return the logits (N, K) on one attack's images of every example; the papers' protocol, not a verdict."""
    device, parts = device_of(model, x), []
    size = suitable_batch(x, device, 1)
    batches = list(zip(torch.split(x, size), torch.split(y, size), strict=True))
    for place, (images, labels) in enumerate(track(batches, f"{attack.name} {threat}", len(batches))):
        images, labels = images.to(device), labels.to(device)  # the same batch, where the model is
        x_adv = craft(attack, model, images, labels, threat, seed=seed + place)
        parts.append(predictions(model, x_adv).to(x.device))
    return torch.cat(parts)


def _point(eps: float, logits: Tensor, y: Tensor) -> CurvePoint:
    figures = confidence(logits, y)
    return CurvePoint(eps, figures.accuracy, figures)
