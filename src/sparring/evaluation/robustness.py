"""One model's verdict under one threat: clean, under each attack, worst case per example, and the curve over eps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.attacks import ATTACKS, Adversarial, Attack, run
from sparring.attacks.base import device_of
from sparring.attacks.given import check_labels, check_model
from sparring.attacks.losses import margin, succeeded
from sparring.core.results import Arrays, Attacked, Curve, Evaluation
from sparring.core.statistics import share
from sparring.core.threat import THREATS, ThreatModel
from sparring.data.given import Data, Examples, examples_of
from sparring.evaluation.checks import checks
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import predictions, worst_case_curve
from sparring.evaluation.provenance import Stopwatch

DEFAULT_ATTACKS = ("fgsm()", 'pgd(steps=100, restarts=5, loss="margin")')
CURVE_ATTACK = 'pgd(steps=40, loss="margin")'
CURVE_GRID = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the threat's eps
GALLERY = 10  # example images kept for the report, of as many classes as can be


def evaluate(
    model: nn.Module,
    data: Data,
    threat: ThreatModel | str,
    attacks: Attack | str | Sequence[Attack | str] = DEFAULT_ATTACKS,
    *,
    split: str = "test",
    examples: int | None = None,
    curve: Sequence[float] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    name: str = "",
) -> Evaluation:
    """Say how robust `model` is: right on the clean example and under every attack, per example, with 95 % intervals.

    `model` takes float images (B, C, H, W) in [0, 1] to logits (B, K). `data` is a dataset, its call string, a pair
    (x, y) of tensors, or a DataLoader. `examples` takes a seeded subset of that many. `curve` lists the eps of the
    accuracy-eps curve (default: from a quarter to one and a half of the threat's eps; empty: none).
    Raises InputError for anything that cannot be evaluated.
    """
    watch, threat = Stopwatch(), THREATS.parse(threat)
    armoury = [ATTACKS.parse(attack) for attack in ([attacks] if isinstance(attacks, str | Attack) else attacks)]
    check_model(model)
    given = examples_of(data, split)
    if examples is not None:
        given = given.sample(examples, seed)
    bout = Bout.fight(model, given, threat, armoury, seed=seed, batch_size=batch_size)
    clean = confidence(bout.clean, bout.y)
    worst = confidence(bout.worst, bout.y)
    return Evaluation(
        model=name or type(model).__name__,
        data=given.source,
        split=given.split,
        note=given.note,
        classes=given.classes or tuple(map(str, range(bout.clean.shape[1]))),
        threat=repr(threat),
        clean=clean.accuracy,
        clean_confidence=clean,
        robust=worst.accuracy,
        robust_confidence=worst,
        attacked=bout.attacked,
        curves=_curves(model, bout, given, threat, _grid(threat, bout.x) if curve is None else curve, seed),
        flags=checks(clean.accuracy, bout.attacked),
        provenance=watch.provenance(seed=seed, device=str(device_of(model, bout.x))),
        arrays=bout.flags(given.ids) | bout.gallery(given.ids),
    )


@dataclass(frozen=True)
class Bout:
    """All attacks on one set of examples: logits on the clean, and on each example's worst image."""

    x: Tensor
    y: Tensor
    clean: Tensor
    outcomes: dict[str, Adversarial]
    attacked: dict[str, Attacked]
    worst: Tensor
    worst_x: Tensor

    @staticmethod
    def fight(
        model: nn.Module,
        given: Examples,
        threat: ThreatModel,
        attacks: Sequence[Attack],
        *,
        seed: int,
        batch_size: int | None,
    ) -> "Bout":
        """Run every attack on every example; an example's worst image has the largest margin for the attacker."""
        x, y = given.images(), given.y
        clean = predictions(model, x)
        check_labels(y, clean.shape[1], "y")
        worst, worst_x, worst_margin = clean.clone(), x.clone(), torch.full((len(y),), -math.inf)
        outcomes, attacked = {}, {}
        for attack in attacks:
            watch = Stopwatch()
            outcome = run(attack, model, x, y, threat, seed=seed, batch_size=batch_size, ids=given.ids)
            outcomes[repr(attack)] = outcome
            attacked[repr(attack)] = _attacked(attack, threat, outcome, y, watch.seconds)
            found = margin(outcome.logits, y).nan_to_num(math.inf)
            fooled, broken = outcome.success, succeeded(worst, y)
            worse = (fooled & ~broken) | ((fooled == broken) & (found > worst_margin))
            worst[worse], worst_x[worse], worst_margin[worse] = outcome.logits[worse], outcome.x[worse], found[worse]
        return Bout(x, y, clean, outcomes, attacked, worst, worst_x)

    def flags(self, ids: Tensor) -> Arrays:
        """Return per-example truth: right on the clean image, and right under each attack."""
        under = {f"correct/{name}": (~outcome.success).numpy() for name, outcome in self.outcomes.items()}
        return {"ids": ids.numpy(), "correct/clean": (~succeeded(self.clean, self.y)).numpy(), **under}

    def _labels(self) -> list[int]:
        return sorted(set(self.y.tolist()))

    def gallery(self, ids: Tensor) -> Arrays:
        """Return examples with their worst images and the predictions on both: the first right one of each class."""
        right = ~succeeded(self.clean, self.y)
        first = [int(row[0]) for k in self._labels() if len(row := ((self.y == k) & right).nonzero())]
        rows = torch.tensor(first[:GALLERY] or [0])
        parts = {
            "ids": ids,
            "y": self.y,
            "x": self.x,
            "x_adv": self.worst_x,
            "p_clean": self.clean.softmax(1),
            "p_adv": self.worst.softmax(1),
        }
        return {f"gallery/{name}": part[rows].numpy() for name, part in parts.items()}


def _attacked(attack: Attack, threat: ThreatModel, outcome: Adversarial, y: Tensor, seconds: float) -> Attacked:
    tried = ~outcome.skipped
    broke = outcome.success & tried
    reached = torch.where(broke, outcome.distance, math.inf)[tried]
    count = int(tried.sum())
    return Attacked(
        attack=repr(attack),
        threat=repr(threat),
        accuracy=share(int((~outcome.success).sum()), len(y)),
        success_rate=share(int(broke.sum()), count),
        median_distance=float(reached.quantile(0.5, interpolation="higher")) if count else math.nan,
        confidence=confidence(outcome.logits, y),
        forwards=float(outcome.forwards.sum()) / max(count, 1),
        backwards=float(outcome.backwards.sum()) / max(count, 1),
        seconds=seconds,
    )


def _grid(threat: ThreatModel, x: Tensor) -> tuple[float, ...]:
    """Return the eps of the default curve, none beyond the whole pixel range."""
    if not 0 < threat.eps < math.inf:
        return ()
    most = replace(threat, eps=math.inf).reach(x)
    return tuple(sorted({min(threat.eps * part, most) for part in CURVE_GRID}))


def _curves(
    model: nn.Module, bout: Bout, given: Examples, threat: ThreatModel, eps: Sequence[float], seed: int
) -> tuple[Curve, ...]:
    if not eps:
        return ()
    attack = ATTACKS.parse(CURVE_ATTACK)
    curve = worst_case_curve(
        attack, model, bout.x, bout.y, threat, eps, clean=bout.clean, worst=bout.worst, ids=given.ids, seed=seed
    )
    return (curve,)
