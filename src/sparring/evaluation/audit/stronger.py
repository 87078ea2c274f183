"""Checks by attack: nothing else may break what the listed attacks had left standing."""

import math
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from sparring.attacks import APGD, MIFGSM, PGD, Attack, AutoAttack, Square, Transfer, UniformNoise
from sparring.core.errors import InputError
from sparring.core.results import GRAVITY
from sparring.core.statistics import clopper_pearson, mcnemar_p
from sparring.core.threat import ThreatModel
from sparring.evaluation.audit.base import FAIL, SIGNIFICANT, Finding, Subject, broken_anyway
from sparring.evaluation.curve import predictions
from sparring.models.adaptive import adaptation

QUERIES, DRAWS, MANY_DRAWS = 100, 30, 10_000
HORIZON = 10_000  # so few changes find more with large squares
MOST_STEPS = 100  # of the doubled attack
DISAGREE = 0.02
UNBOUNDED, AT_HALF = 0.05, 0.2  # share that a short attack may miss of what it could have found
FEW = 50
MARGIN = PGD(steps=20, loss="margin", rel_step_size=0.2)


def unbounded(subject: Subject) -> Finding:
    """Attack without a bound, where any image is in reach, such as those that the model takes for another class."""
    said = subject.bout.clean.argmax(1)
    everything = replace(subject.threat, eps=math.inf).reach(subject.bout.x)
    known = (said != said[0]).any() | (subject.bout.y != said[0])  # of two classes that it gives, one is another
    return _reachable(subject, replace(subject.threat, eps=everything), known, "without a bound", UNBOUNDED)


def large_eps(subject: Subject) -> Finding:
    """Attack at half of the pixel range, where plain grey is in reach of every image, and hides every class."""
    if subject.threat.name != "linf":
        return Finding("not run", "in Linf alone")
    half = replace(subject.threat, eps=max(0.5, subject.threat.eps))
    grey = torch.full_like(subject.bout.x[:1], 0.5)
    said = predictions(subject.model, grey, draws=subject.conditions.draws(subject.model)).argmax(1)
    return _reachable(subject, half, said != subject.bout.y, f"at eps {half.eps:g}", AT_HALF)


def _reachable(subject: Subject, threat: ThreatModel, known: Tensor, where: str, most: float) -> Finding:
    """Attack by gradients examples for which an image that fools is known to be in reach (flags): they must."""
    places = subject.some((subject.bout.right & known).nonzero().squeeze(1))
    if not len(places):
        return Finding("not run", f"{where}: no example is right for which an image that fools is known")
    fell = subject.attacked(MARGIN, places, threat=threat).success
    missed = clopper_pearson(int((~fell).sum()), len(places))
    evidence = f"{where} gradients fool {int(fell.sum())} of {len(places)} examples, all of which can be"
    if missed.low > most:
        return Finding("fail", f"{evidence}: they do not lead there", subject.named(places[~fell]), "square()")
    return Finding("passed" if missed.value <= most else "note", evidence)


def monotone(subject: Subject) -> Finding:
    """Attack at growing eps, each on its own: who falls at one must fall at the next."""
    places = subject.some(subject.right)
    if not len(places) or subject.threat.eps == 0:
        return Finding("not run", "no example is classified right, or eps is 0")
    grid = [subject.threat.eps * part for part in (0.5, 1.0, 1.5)]
    most = replace(subject.threat, eps=math.inf).reach(subject.bout.x)
    attack = PGD(steps=10, rel_step_size=0.25)
    fell = [
        subject.attacked(attack, places, threat=replace(subject.threat, eps=eps)).success for eps in grid if eps <= most
    ]
    shares = ", ".join(f"{float((~each).float().mean()):.0%}" for each in fell)
    evidence = f"{attack} at half, whole and one and a half eps leaves {shares}"
    for before, after in pairwise(fell):
        back, on = int((before & ~after).sum()), int((after & ~before).sum())
        if back > on and mcnemar_p(back, on) < SIGNIFICANT:
            again = subject.named(places[before & ~after])
            return Finding(
                "warn", f"{evidence}: accuracy rises with eps, so gradients are masked", again, "autoattack()"
            )
    return Finding("passed", evidence)


def converged(subject: Subject) -> Finding:
    """Give the attacks twice the steps and another start: nothing more may fall."""
    steps = max((getattr(attack, "steps", 1) for attack in subject.attacks), default=1)
    attack = PGD(steps=2 * min(max(steps, 10), MOST_STEPS // 2), loss="margin", rel_step_size=0.1)
    return _anyway(subject, attack, f"{attack} from another start")


def black_box(subject: Subject) -> Finding:
    """Search without gradients: it must not break what they could not."""
    attack = Square(queries=QUERIES, horizon=HORIZON)
    stands = _anyway(subject, attack, f"Square, with {QUERIES} queries,", attack_next="square()")
    hidden = _missed(subject)
    return stands if hidden is None or _grave(stands) >= _grave(hidden) else hidden


def _missed(subject: Subject) -> Finding | None:
    """Look whether gradients find what an ensemble broke, or only its search without gradients did."""
    fallen = (subject.bout.right & ~subject.bout.standing).nonzero().squeeze(1)
    places = subject.some(fallen)
    if not len(places) or not any(isinstance(attack, AutoAttack | Square) for attack in subject.attacks):
        return None
    missed = ~subject.attacked(MARGIN, places).success
    off = clopper_pearson(int(missed.sum()), len(places)).low * len(fallen) / len(subject.bout.y)
    if off <= 5 * FAIL:
        return None
    text = f"gradients miss {int(missed.sum())} of {len(places)} examples that fell to the search without gradients"
    return Finding("fail", f"{text}: they are masked", subject.named(places[missed]), "hopskipjump()")


def noise(subject: Subject) -> Finding:
    """Draw random perturbations: they must not break what gradients could not."""
    if not subject.full:
        return _anyway(subject, UniformNoise(draws=DRAWS), f"random noise, {DRAWS} draws,")
    return _anyway(subject, UniformNoise(draws=MANY_DRAWS), f"random noise, {MANY_DRAWS:,} draws,", most=FEW)


def losses(subject: Subject) -> Finding:
    """Climb three losses: they must leave much the same, or whoever climbed one alone has missed some.

    AutoAttack climbs more than one: of its figures the difference is to be known, and no reason to doubt them.
    """
    places = subject.some(subject.right)
    if not len(places):
        return Finding("not run", "no example is classified right")
    towards: tuple[tuple[str, Attack], ...] = (
        ("cross-entropy", replace(MARGIN, loss="cross_entropy")),
        ("margin", MARGIN),
        ("targeted", APGD(steps=10, loss="targeted_dlr", targets=3)),
    )
    fell = {name: subject.attacked(attack, places).success for name, attack in towards}
    evidence = ", ".join(f"{name} {float((~each).float().mean()):.1%}" for name, each in fell.items())
    weakest = min(fell, key=lambda name: int(fell[name].sum()))
    strongest = max(fell, key=lambda name: int(fell[name].sum()))
    more, less = int((fell[strongest] & ~fell[weakest]).sum()), int((fell[weakest] & ~fell[strongest]).sum())
    if (more - less) / len(places) > DISAGREE and mcnemar_p(more, less) < SIGNIFICANT:
        every = any(isinstance(attack, AutoAttack) for attack in subject.attacks)
        return Finding("note" if every else "warn", f"losses disagree; left right: {evidence}", attack="autoattack()")
    return Finding("passed", f"left right: {evidence}")


def adaptive(subject: Subject) -> Finding:
    """Attack as one who does not know the defence: that must not do better than one who does, from the same start.

    What both break from there says that the listed attacks had not converged, which is another check's to say.
    """
    needs = adaptation(subject.bare)
    if not needs and not subject.detected:
        return Finding("not run", "the model is attacked as it is")
    known = f"declared: {', '.join(sorted(needs)) or 'nothing'}; found out: {', '.join(subject.detected) or 'nothing'}"
    places = subject.some(subject.standing)
    if not len(places):
        return Finding("passed", known)
    try:
        broken = subject.attacked(MARGIN, places, naive=True).success
    except InputError:
        return Finding("passed", f"{known}; without that no gradient reaches the image")
    if bool(broken.any()):
        broken[broken.clone()] = ~subject.attacked(MARGIN, places[broken]).success
    found = broken_anyway(subject, broken, places, subject.standing, "a naive attack alone", repr(MARGIN))
    return replace(found, evidence=f"{found.evidence} ({known})")


def transfer(subject: Subject) -> Finding:
    """Show images made on twins, of the same architecture and trained anew: they must not break more than gradients."""
    twins = subject.twins()
    if not twins:
        return Finding("not run", "no twins were trained: a full audit does, with examples to train on")
    places = subject.some(subject.standing)
    broken = torch.zeros(len(places), dtype=torch.bool)
    for name, twin in twins.items():
        for attack in (MIFGSM(steps=20), APGD(steps=30)):
            broken |= subject.attacked(Transfer.of(twin, attack=attack, name=name), places).success
    names = "; ".join(twins)
    return broken_anyway(subject, broken, places, subject.standing, f"transfer (from {names})", "mifgsm()")


def _anyway(subject: Subject, attack: Attack, by: str, *, attack_next: str = "", most: int | None = None) -> Finding:
    places = subject.some(subject.standing, most)
    broken = torch.zeros(len(places), dtype=torch.bool)
    if len(places):
        broken = subject.attacked(attack, places).success
    return broken_anyway(subject, broken, places, subject.standing, by, attack_next or repr(attack))


def _grave(finding: Finding) -> int:
    return GRAVITY.index(finding.outcome)
