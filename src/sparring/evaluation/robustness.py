"""One model's verdict under one threat: clean, under each attack, worst case per example, and the curve over eps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring.attacks import ATTACKS, Attack, Crafting
from sparring.attacks.base import device_of
from sparring.attacks.given import check_model
from sparring.attacks.oracle import frozen
from sparring.attacks.preparing import no_perturber, no_surrogate, prepared
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.results import Arrays, Certified, Curve, Evaluation, NormStatistics
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset, Source
from sparring.data.given import Data, Examples, examples_of
from sparring.evaluation.bout import Bout
from sparring.evaluation.calibration import calibration
from sparring.evaluation.certify import certified, noise_of
from sparring.evaluation.certify import certify as certify_examples
from sparring.evaluation.checks import checks, sandwich
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import worst_case_curve
from sparring.evaluation.provenance import Stopwatch
from sparring.models.adaptive import adaptation
from sparring.models.batch_statistics import with_batch_statistics
from sparring.models.mask import Masked
from sparring.models.perturber import PerturberNetwork

DEFAULT_ATTACKS = ("fgsm()", "autoattack()")
CERTIFY_DRAWS = 1000
CURVE_ATTACK = 'pgd(steps=40, loss="margin")'
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
    folder: Path | None = None,
    fit_on: Data | None = None,
    load: Callable[[str], nn.Module] = no_surrogate,
    load_perturber: Callable[[str], PerturberNetwork] = no_perturber,
    name: str = "",
) -> Evaluation:
    """Say how robust `model` is: right on the clean example and under every attack, per example, with 95 % intervals.

    `model` takes float images (B, C, H, W) in [0, 1] to logits (B, K). `data` is a dataset, its call string, a pair
    (x, y) of tensors, or a DataLoader. `examples` takes a seeded subset of that many. `curve` lists the eps of the
    accuracy-eps curve (default: from a quarter to one and a half of the threat's eps; empty: none). `crafting` says in
    which precision attacks work and what they may cost. `statistics`: those that batch norm uses; "batch" is for
    comparison with papers that left it in training mode: predictions then depend on batch-mates, and a check fails.
    `certify`: draws of noise an example for a certificate, where the model's first mask is `smooth`; 0: none is made.
    In `folder`, what attacks find is kept batch by batch: an evaluation that was stopped, started again with the same
    arguments, goes on from there to the same result.
    `fit_on`: what learned attacks (universal perturbations) are fitted on; by default the dataset's training split, and
    never the examples they are judged on. `load` opens the surrogate that a transfer attack names, `load_perturber` the
    perturber of the run that a learned one names.
    Raises InputError for anything that cannot be evaluated.
    """
    watch, threat, called = Stopwatch(), THREATS.parse(threat), type(model).__name__
    armoury = [ATTACKS.parse(attack) for attack in ([attacks] if isinstance(attacks, str | Attack) else attacks)]
    check_model(model)
    if statistics == "batch":
        model = with_batch_statistics(model)
    given = examples_of(data, split)
    if examples is not None:
        given = given.sample(examples, seed)
    armoury = [
        prepared(
            attack,
            model,
            threat,
            examples=lambda: _to_learn_from(data, split, fit_on),
            load=load,
            load_perturber=load_perturber,
            seed=seed,
        )
        for attack in armoury
    ]
    conditions = Conditions(seed=seed, batch_size=batch_size, crafting=crafting, folder=folder)
    bout = Bout.fight(model, given, threat, armoury, conditions)
    clean = confidence(bout.clean, bout.y)
    worst = confidence(bout.worst, bout.y)
    proven = _certified(model, bout, given, threat, certify, seed)
    return Evaluation(
        model=name or called,
        data=given.source,
        split=given.split,
        note=given.note,
        classes=given.classes or tuple(map(str, range(bout.clean.shape[1]))),
        threat=repr(threat),
        adaptation=tuple(sorted(adaptation(model))),
        calibration=calibration(bout.clean, bout.y),
        robust_calibration=calibration(bout.worst, bout.y),
        examples=len(bout.y),
        statistics=statistics,
        clean=clean.accuracy,
        clean_confidence=clean,
        robust=worst.accuracy,
        robust_confidence=worst,
        attacked=bout.attacked,
        curves=_curves(model, bout, given, threat, _grid(threat, bout.x) if curve is None else curve, conditions),
        flags=(*checks(clean.accuracy, bout.attacked, statistics), *sandwich(proven, worst.accuracy)),
        provenance=watch.provenance(seed=seed, device=str(device_of(model, bout.x))),
        certified=proven,
        arrays=bout.flags(given.ids) | _behind_masks(model, bout.gallery(given.ids)),
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


def _behind_masks(model: nn.Module, gallery: Arrays) -> Arrays:
    """Return the gallery with what comes through the model's masks, where it has any."""
    if not isinstance(model, Masked):
        return gallery
    where = device_of(model, torch.empty(0))
    with frozen(model), torch.no_grad(), seeded(0):
        seen = {
            name: model.before(torch.from_numpy(gallery[f"gallery/{of}"]).to(where)).cpu().numpy()
            for name, of in (("seen", "x"), ("seen_adv", "x_adv"))
        }
    return gallery | {f"gallery/{name}": images for name, images in seen.items()}


def _certified(
    model: nn.Module, bout: Bout, given: Examples, threat: ThreatModel, draws: int, seed: int
) -> Certified | None:
    sigma = noise_of(model)
    if not (sigma and draws):
        return None
    found = certify_examples(model, bout.x, draws=draws, seed=seed, ids=given.ids)
    return certified(found, bout.y, sigma, draws, threat, bout.x[0].numel())


def _grid(threat: ThreatModel, x: Tensor) -> tuple[float, ...]:
    """Return the eps of the default curve, none beyond the whole pixel range."""
    if not 0 < threat.eps < math.inf:
        return ()
    most = replace(threat, eps=math.inf).reach(x)
    return tuple(sorted({min(threat.eps * part, most) for part in CURVE_GRID}))


def _curves(
    model: nn.Module, bout: Bout, given: Examples, threat: ThreatModel, eps: Sequence[float], conditions: Conditions
) -> tuple[Curve, ...]:
    if not eps:
        return ()
    curve = worst_case_curve(
        ATTACKS.parse(CURVE_ATTACK),
        model,
        bout.x,
        bout.y,
        threat,
        eps,
        clean=bout.clean,
        nearest=bout.nearest,
        ids=given.ids,
        conditions=conditions,
    )
    return (curve,)
