"""All attacks on one set of examples: each attack's figures, and every example's worst and nearest image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparring.attacks import Adversarial, Attack
from sparring.attacks.given import check_labels
from sparring.attacks.losses import margin, succeeded
from sparring.core.fingerprint import fingerprints
from sparring.core.results import Arrays, Attacked
from sparring.core.statistics import share
from sparring.core.threat import ThreatModel
from sparring.data.given import Examples
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import Nearest, predictions

SLACK = 1e-6  # by which rounding may leave the ball, in units of its size


class Found(NamedTuple):
    """Examples that fell: their places, and what fools of each, with its logits and its distance."""

    places: Tensor
    x: Tensor
    logits: Tensor
    distance: Tensor

    @staticmethod
    def of(places: Tensor, outcome: Adversarial, eps: float) -> "Found":
        """Return those of the examples at `places` whom an attack fooled within `eps`; no others are kept in memory."""
        fell = outcome.success & (outcome.distance <= eps + SLACK * max(1.0, eps))
        return Found(places[fell], outcome.x[fell], outcome.logits[fell], outcome.distance[fell].clamp(max=eps))


@dataclass(frozen=True)
class Bout:
    """Logits (N, K) on the clean images and on each example's worst one; who fell to which attack; the nearest.

    `spent`: the passes, forward and backward, that each attack has spent on each example; `spoilt`: in whose images it
    left NaN or inf. `otherwise`: who fell to none of the attacks, but to what the curve or the audit tried besides.
    """

    x: Tensor
    y: Tensor
    clean: Tensor
    fallen: dict[str, Tensor]
    distances: dict[str, Tensor]  # of the minimal attacks' images: inf where they fool nobody
    attacked: dict[str, Attacked]
    spent: dict[str, Tensor]
    spoilt: dict[str, Tensor]
    worst: Tensor
    worst_x: Tensor
    nearest: Nearest
    otherwise: Tensor

    @staticmethod
    def fight(
        model: nn.Module, given: Examples, threat: ThreatModel, attacks: Sequence[Attack], conditions: Conditions
    ) -> "Bout":
        """Run every attack on every example; an example's worst image has the largest margin for the attacker.

        Minimal attacks run once, without a bound: their distances are the curve, and who falls within eps falls.
        """
        x, y = given.images(), given.y
        clean = predictions(model, x, draws=conditions.draws(model))
        check_labels(y, clean.shape[1], "y")
        worst, worst_x, worst_margin = clean.clone(), x.clone(), torch.full((len(y),), -math.inf)
        fallen, distances, attacked, spent, spoilt, nearest = {}, {}, {}, {}, {}, Nearest.unknown(clean)
        for attack in attacks:
            outcome, seconds = _outcome(attack, model, x, y, threat, given.ids, conditions)
            found_at = Nearest.of(outcome)
            nearest = nearest.nearer(found_at)
            if attack.kind == "minimal":
                distances[repr(attack)] = found_at.distance
            inside = outcome.distance <= threat.eps
            fell = outcome.success & inside
            fallen[repr(attack)], spent[repr(attack)] = fell, outcome.forwards + outcome.backwards
            spoilt[repr(attack)] = outcome.spoilt
            attacked[repr(attack)] = _attacked(attack, threat, outcome, fell, y, clean, seconds)
            found = margin(outcome.logits, y).nan_to_num(math.inf)
            broken = succeeded(worst, y)
            worse = inside & ((fell & ~broken) | ((fell == broken) & (found > worst_margin)))
            worst[worse], worst_x[worse], worst_margin[worse] = outcome.logits[worse], outcome.x[worse], found[worse]
        otherwise = torch.zeros(len(y), dtype=torch.bool)
        return Bout(x, y, clean, fallen, distances, attacked, spent, spoilt, worst, worst_x, nearest, otherwise)

    def also(self, found: Sequence[Found]) -> "Bout":
        """Return the bout with what else was found: whoever broke it, an example does not stand."""
        worst, worst_x, otherwise = self.worst.clone(), self.worst_x.clone(), self.otherwise.clone()
        distance, logits = self.nearest.distance.clone(), self.nearest.logits.clone()
        for each in found:
            first = (self.standing & ~otherwise)[each.places]
            new = each.places[first]
            worst[new], worst_x[new], otherwise[new] = each.logits[first], each.x[first], True
            distance[new], logits[new] = each.distance[first], each.logits[first]
        return replace(self, worst=worst, worst_x=worst_x, otherwise=otherwise, nearest=Nearest(distance, logits))

    @property
    def right(self) -> Tensor:
        """Which examples are right on the clean image, (N,)."""
        return ~succeeded(self.clean, self.y)

    @property
    def standing(self) -> Tensor:
        """Which examples are right on the clean image and under all that was tried, (N,)."""
        return self.right & ~torch.stack([self.otherwise, *self.fallen.values()]).any(0)

    def flags(self, ids: Tensor) -> Arrays:
        """Return per-example truth: which it is, right when clean and under attack, how near what fools it lies."""
        under = {f"correct/{name}": (~fell).numpy() for name, fell in self.fallen.items()}
        distance = {f"distance/{name}": found.numpy() for name, found in self.distances.items()}
        distance["distance/nearest"] = self.nearest.distance.numpy()
        clean, standing = self.right.numpy(), self.standing.numpy()
        named = {"ids": ids.numpy(), "fingerprints": fingerprints(self.x, self.y)}
        return {**named, "correct/clean": clean, **under, "standing": standing, **distance}


def _outcome(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, ids: Tensor, conditions: Conditions
) -> tuple[Adversarial, float]:
    """Return what an attack achieves: within eps, or for a minimal attack at whatever distance; and its seconds."""
    if attack.kind == "minimal":
        return conditions.run(attack, model, x, y, replace(threat, eps=math.inf), ids=ids)
    outcome, seconds = conditions.run(attack, model, x, y, threat, ids=ids)
    return replace(outcome, distance=outcome.distance.clamp(max=threat.eps)), seconds  # beyond it is rounding


def _attacked(
    attack: Attack,
    threat: ThreatModel,
    outcome: Adversarial,
    fell: Tensor,
    y: Tensor,
    clean: Tensor,
    seconds: float,
) -> Attacked:
    """Return the figures; the median distance is over all that fell at whatever distance, the rest as infinite."""
    tried = ~outcome.skipped
    reached = torch.where(outcome.success, outcome.distance, math.inf)[tried]
    count = int(tried.sum())
    within = (outcome.distance <= threat.eps)[:, None]
    return Attacked(
        attack=repr(attack),
        threat=repr(threat),
        accuracy=share(int((~fell).sum()), len(y)),
        success_rate=share(int((fell & tried).sum()), count),
        median_distance=float(reached.quantile(0.5, interpolation="higher")) if count else math.nan,
        confidence=confidence(torch.where(within, outcome.logits, clean), y),
        forwards=float(outcome.forwards.sum()) / max(count, 1),
        backwards=float(outcome.backwards.sum()) / max(count, 1),
        seconds=seconds,
    )
