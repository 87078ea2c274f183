"""One model's verdict under one threat: clean, under each attack, worst case per example, and the curve over eps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from sparring.attacks import ATTACKS, Attack, Crafting
from sparring.attacks.base import check_norm, device_of
from sparring.attacks.given import check_model
from sparring.attacks.preparing import no_perturber, no_surrogate, prepared
from sparring.core.errors import InputError
from sparring.core.results import Certified, Curve, Evaluation, NormStatistics, Provenance
from sparring.core.spec import convert
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset, Source
from sparring.data.dataset import to_float
from sparring.data.given import Data, Examples, examples_of
from sparring.evaluation.audit import FULL, Level, Subject, affordable
from sparring.evaluation.audit import audit as audited
from sparring.evaluation.audit.twins import train_twins
from sparring.evaluation.bout import Bout, Found
from sparring.evaluation.calibration import calibration
from sparring.evaluation.certify import certified, noise_of
from sparring.evaluation.certify import certify as certify_examples
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import worst_case_curve
from sparring.evaluation.detection import LOOKED_AT, as_attacked, detect
from sparring.evaluation.gallery import at_every_eps, behind_masks, gallery
from sparring.evaluation.provenance import Stopwatch
from sparring.models.adaptive import adaptation
from sparring.models.batch_statistics import depends_on_batch_mates, with_batch_statistics
from sparring.models.perturber import PerturberNetwork

DEFAULT_ATTACKS = ("fgsm()", "autoattack()")
CERTIFY_DRAWS = 1000
CURVE_ATTACK = 'pgd(steps=40, loss="margin")'
NOWHERE = Provenance("", 0.0, 0, "", 0, {}, "")  # until the whole is known
CURVE_GRID = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of the threat's eps


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
    crafting: Crafting | None = None,
    statistics: NormStatistics = "running",
    certify: int = CERTIFY_DRAWS,
    audit: Level = "standard",
    folder: Path | None = None,
    fit_on: Data | None = None,
    load: Callable[[str], nn.Module] = no_surrogate,
    load_perturber: Callable[[str], PerturberNetwork] = no_perturber,
    name: str = "",
) -> Evaluation:
    """Say how robust `model` is: right on the clean example and under every attack, per example, with 95 % intervals.

    `model` takes float images (B, C, H, W) in [0, 1] to logits (B, K). `data` is a dataset, its call string, a pair (x,
    y) of tensors or arrays, a dataset of PyTorch's or a DataLoader. `examples` takes a seeded subset of that many; a
    DataLoader, and an iterable dataset, is read whole all the same.
    `curve` lists the eps of the accuracy-eps curve (default: from a quarter to one and a half of the threat's eps;
    empty: none). `crafting` says in which precision attacks work and what they may cost. `statistics`: those that batch
    norm uses; "batch" is for comparison with papers that left it in training mode: predictions then depend on
    batch-mates, and a check fails.
    `certify`: draws of noise an example for a certificate, where the model's first mask is `smooth`; 0: none is made.
    `audit`: "standard" asks whether the result can be trusted, at about a fifth of the attacks' own work on a
    thousand examples; "full" asks more, and trains networks like this one on `fit_on`; "off" leaves the record without.
    What no module of the model declares is found out, and the attacks mind it (`detected` in the record).
    In `folder`, what attacks find is kept batch by batch: an evaluation that was stopped, started again with the same
    arguments, goes on from there to the same result.
    `fit_on`: what learned attacks (universal perturbations) are fitted on; by default the dataset's training split, and
    never the examples they are judged on. `load` opens the surrogate that a transfer attack names, `load_perturber` the
    perturber of the run that a learned one names.
    Raises InputError for anything that cannot be evaluated.
    """
    watch, threat, audit = Stopwatch(), THREATS.parse(threat), convert(audit, Level, "audit")
    armoury = [ATTACKS.parse(attack) for attack in ([attacks] if isinstance(attacks, str | Attack | type) else attacks)]
    for each in armoury:
        check_norm(each, threat)
    check_model(model)
    given = examples_of(data, split, examples, seed)
    name = name or type(model).__name__
    if statistics == "batch":
        model = with_batch_statistics(model)

    def to_learn_from() -> tuple[Tensor, Tensor]:
        return _to_learn_from(data, split, fit_on)

    few = slice(LOOKED_AT)
    found = detect(model, to_float(given.x[few]), given.y[few], threat)
    attacked = as_attacked(model, found, threat)
    opening = partial(prepared, load=load, load_perturber=load_perturber, seed=seed)
    armoury = [opening(each, attacked, threat, examples=to_learn_from) for each in armoury]
    conditions = Conditions(seed=seed, batch_size=batch_size, crafting=crafting, folder=folder)
    subject = _fought(attacked, given, threat, armoury, conditions)
    proven = _certified(model, subject.bout, given, threat, certify, seed)
    subject = replace(subject, bare=model, detected=found, statistics=statistics, certified=proven)
    if audit == "full":
        subject = replace(subject, probes=FULL, full=True, twins=lambda: _twins(subject, to_learn_from))
    checked, flags = ((), ()) if audit == "off" else audited(subject)
    subject = replace(subject, bout=subject.bout.also(subject.found))
    record = _record(subject, given, _grid(threat, subject.bout.x) if curve is None else curve)
    provenance = watch.provenance(seed=seed, device=str(device_of(model, given.x)))
    return replace(record, model=name, audit=checked, flags=flags, provenance=provenance)


def _fought(
    model: nn.Module, given: Examples, threat: ThreatModel, armoury: Sequence[Attack], conditions: Conditions
) -> Subject:
    """Run the attacks; return all that the record and the audit need."""
    bout = Bout.fight(model, given, threat, armoury, conditions)
    spent = sum(int(each.sum()) for each in bout.spent.values())
    return Subject(
        model=model,
        bare=model,
        bout=bout,
        ids=given.ids,
        threat=threat,
        attacks=armoury,
        conditions=conditions,
        robust=confidence(bout.worst, bout.y).accuracy,
        probes=affordable(spent, conditions.draws(model), bout.x[0].numel()),
    )


def _record(subject: Subject, given: Examples, eps: Sequence[float]) -> Evaluation:
    """Return the record, but for its name, its audit and its provenance."""
    threat, conditions, climb = subject.threat, subject.conditions, ATTACKS.parse(CURVE_ATTACK)
    curves, bout = _curves(climb, subject, given, eps)
    clean, worst = confidence(bout.clean, bout.y), confidence(bout.worst, bout.y)
    shown = gallery(bout, given.ids)
    shown |= at_every_eps(climb, subject.model, bout, given.ids, threat, eps, conditions)
    return Evaluation(
        model="",
        data=given.source,
        split=given.split,
        note=given.note,
        classes=given.classes or tuple(map(str, range(bout.clean.shape[1]))),
        threat=repr(threat),
        adaptation=tuple(sorted(adaptation(subject.bare))),
        detected=subject.detected,
        calibration=calibration(bout.clean, bout.y),
        robust_calibration=calibration(bout.worst, bout.y),
        examples=len(bout.y),
        statistics=subject.statistics,
        means=conditions.means,
        clean=clean.accuracy,
        clean_confidence=clean,
        robust=worst.accuracy,
        robust_confidence=worst,
        attacked=bout.attacked,
        otherwise=int(bout.otherwise.sum()),
        most_frequent=float(bout.y.bincount().max()) / len(bout.y),
        curves=curves,
        flags=(),
        provenance=NOWHERE,
        certified=subject.certified,
        arrays=bout.flags(given.ids) | shown | behind_masks(subject.bare, shown),
    )


def _to_learn_from(data: Data, split: str, fit_on: Data | None) -> tuple[Tensor, Tensor]:
    """Return images and labels for learned attacks, none of them judged."""
    if fit_on is not None:
        given = examples_of(fit_on, "train")
    elif isinstance(data, str | Source | Dataset):
        given = examples_of(data, "validation" if split == "train" else "train")
    else:
        raise InputError("a learned attack needs examples other than those it is judged on: evaluate(..., fit_on=...)")
    return given.x, given.y


def _twins(subject: Subject, learn_from: Callable[[], tuple[Tensor, Tensor]]) -> dict[str, nn.Module]:
    """Return networks like the model, trained anew; none where there is nothing to train them on."""
    try:
        x, y = learn_from()
    except InputError:
        return {}
    classes = subject.bout.clean.shape[1]
    return train_twins(subject.bare, x, y, classes, subject.threat, subject.conditions.seed)


def _certified(
    model: nn.Module, bout: Bout, given: Examples, threat: ThreatModel, draws: int, seed: int
) -> Certified | None:
    sigma = noise_of(model)
    if not (sigma and draws) or depends_on_batch_mates(model):
        return None
    found = certify_examples(model, bout.x, draws=draws, seed=seed, ids=given.ids)
    return certified(found, bout.y, sigma, draws, threat, bout.x[0].numel())


def _grid(threat: ThreatModel, x: Tensor) -> tuple[float, ...]:
    """Return the eps of the default curve, none beyond the whole pixel range."""
    if not 0 < threat.eps < math.inf:
        return ()
    most = replace(threat, eps=math.inf).reach(x)
    return tuple(sorted({min(threat.eps * part, most) for part in CURVE_GRID}))


def _curves(climb: Attack, subject: Subject, given: Examples, eps: Sequence[float]) -> tuple[tuple[Curve, ...], Bout]:
    """Return the curve, if one is asked for, and the bout with what it broke within the threat's own eps."""
    bout = subject.bout
    if not eps:
        return (), bout
    curve, found = worst_case_curve(
        climb,
        subject.model,
        bout.x,
        bout.y,
        subject.threat,
        eps,
        clean=bout.clean,
        nearest=bout.nearest,
        ids=given.ids,
        conditions=subject.conditions,
    )
    fallen = [Found.of(places, outcome, subject.threat.eps) for places, outcome in found]
    return (curve,), bout.also(fallen)
