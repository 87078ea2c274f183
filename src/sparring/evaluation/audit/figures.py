"""Checks of what the attacks brought: figures that contradict one another, or the threat."""

import torch
from torch import Tensor

from sparring.attacks import FGSM, PGD, HopSkipJump, Learned, Square, Transfer, UniformNoise, Universal, craft
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import succeeded
from sparring.core.randomness import seeded
from sparring.core.results import Outcome
from sparring.core.statistics import clopper_pearson, mcnemar_p
from sparring.evaluation.audit.base import FAIL, SIGNIFICANT, Finding, Subject
from sparring.evaluation.bout import SLACK
from sparring.evaluation.certify import SELECT, votes
from sparring.evaluation.curve import predictions

ASKED = 500  # examples of which label leaking is asked
LEVELS = 255
WITHOUT_STEPS = (UniformNoise, Universal, Learned, Transfer, Square, HopSkipJump)  # along each image's own gradient
FLATTERS = 0.25  # more that one step leaves than many: a figure that should not be quoted


def guessing(subject: Subject) -> Finding:
    """Compare the clean accuracy with that of who always names the most frequent class."""
    y = subject.bout.y
    right, named = len(subject.right) / len(y), int(y.bincount().max()) / len(y)
    if named == 1:
        return Finding("not run", "all examples are of one class")
    evidence = f"{right:.1%} of the clean examples are right, {named:.1%} are of the most frequent class"
    if right <= named:
        told, most = subject.bout.worst.shape[1], int(y.max()) + 1
        fewer = f" (the model has {told} classes, the labels {most}: are they in its order?)" if told > most else ""
        return Finding("warn", f"{evidence}: no better than guessing{fewer}, so robustness says nothing")
    return Finding("passed", evidence)


def many_steps(subject: Subject) -> Finding:
    """Compare one step with many, example by example: many must break what one does."""
    single = [repr(attack) for attack in subject.attacks if isinstance(attack, FGSM)]
    others = [repr(attack) for attack in subject.attacks if not isinstance(attack, (FGSM, *WITHOUT_STEPS))]
    if not single or not others:
        return Finding("not run", "it takes a one-step attack and one of many steps")
    one = torch.stack([subject.bout.fallen[name] for name in single]).any(0)
    many = torch.stack([subject.bout.fallen[name] for name in others]).any(0)
    only_one, only_many = one & ~many, int((many & ~one).sum())
    alone = int(only_one.sum())
    evidence = f"{alone} examples fall to one step alone, {only_many} to many alone"
    if alone > only_many and mcnemar_p(alone, only_many) < SIGNIFICANT:
        text = f"{evidence}: the attacks of many steps fail{_short_of_the_ball(subject)}"
        return Finding("fail", text, subject.named(only_one.nonzero().squeeze(1)), "apgd(loss='dlr')")
    left, rest = (float((subject.bout.right & ~fallen).float().mean()) for fallen in (one, many))
    if left - rest > FLATTERS and mcnemar_p(alone, only_many) < SIGNIFICANT:
        return Finding("note", f"FGSM leaves {left:.1%} but many steps {rest:.1%}: FGSM's figure is no robustness")
    return Finding("passed", evidence)


def _short_of_the_ball(subject: Subject) -> str:
    """Say which attacks cannot reach eps by all of their steps."""
    for each in subject.attacks:
        if isinstance(each, PGD) and (reach := each.steps * each.rel_step_size) < 1:
            return f"; the {each.steps} steps of {each.name} reach {reach:.2g} eps in all: set rel_step_size"
    return ""


def label_leaking(subject: Subject) -> Finding:
    """Attack right and wrong examples alike by FGSM: a model that does better then has been told the label."""
    most = max(subject.probes, ASKED // subject.conditions.draws(subject.model))
    places = subject.some(torch.arange(len(subject.bout.y)), most)
    wrong = torch.cat([_wrong_under_fgsm(subject, rows) for rows in subject.batches(places)])
    before = ~subject.bout.right[places]
    gained, lost = before & ~wrong, int((wrong & ~before).sum())
    count = int(gained.sum())
    evidence = f"FGSM turns {count} of {len(places)} examples right and {lost} wrong"
    if count > lost and mcnemar_p(count, lost) < SIGNIFICANT:
        text = f"{evidence}: the attack tells the model the label"
        return Finding("fail", text, subject.named(places[gained]), 'pgd(steps=40, loss="margin")')
    return Finding("passed", evidence)


def _wrong_under_fgsm(subject: Subject, places: Tensor) -> Tensor:
    """Return which of these examples are wrong once FGSM has moved them, (n,), those that were wrong before, too."""
    model, conditions, (x, y) = subject.model, subject.conditions, subject.on_device(places)
    with seeded(conditions.seed):  # a random model's own noise
        moved = craft(
            FGSM(), model, x, y, subject.threat, seed=conditions.seed, crafting=conditions.crafting_for(model)
        )
    return succeeded(predictions(model, moved, len(x), draws=conditions.draws(model)), y).cpu()


def threat_kept(subject: Subject) -> Finding:
    """Measure the images that the attacks handed over, and save them in 8 bits."""
    bout, threat = subject.bout, subject.threat
    beyond = (threat.distance(bout.worst_x, bout.x) > threat.eps + SLACK * max(1.0, threat.eps)).nonzero().squeeze(1)
    outside = ((bout.worst_x < 0) | (bout.worst_x > 1)).flatten(1).any(1).nonzero().squeeze(1)
    if len(beyond) or len(outside):
        text = f"{len(beyond)} images lie beyond eps, {len(outside)} outside [0, 1]"
        return Finding("fail", text, subject.named(torch.cat([beyond, outside])))
    fallen = subject.some((bout.right & ~bout.standing).nonzero().squeeze(1), ASKED)
    if not len(fallen):
        return Finding("passed", "every image lies within eps and [0, 1]")
    undone = _undone(subject, fallen)
    text = f"every image lies within eps and [0, 1]; {undone:.1%} of the successes are gone when saved in 8 bits"
    return Finding("passed", text)


def sound_images(subject: Subject) -> Finding:
    """Count the examples in whose images attacks left NaN or inf: there a model stands because the attack failed."""
    spoilt = subject.bout.spoilt
    of = {name: int(images.sum()) for name, images in spoilt.items() if images.any()}
    if not of:
        return Finding("passed", "no attack leaves NaN or inf in an image")
    alone = (subject.bout.standing & torch.stack([*spoilt.values()]).all(0)).nonzero().squeeze(1)
    counted = ", ".join(f"{name} in {count} of its images" for name, count in of.items())
    text = f"NaN or inf: {counted}; {len(alone)} examples stand of which no attack has left a sound one"
    outcome: Outcome = "fail" if len(alone) > FAIL * len(subject.bout.y) else "warn"
    return Finding(outcome, text, subject.named(alone), "pgd()")


def _undone(subject: Subject, places: Tensor) -> float:
    """Return the share of these fallen examples that are right again in whole levels of 255."""
    saved = (subject.bout.worst_x[places] * LEVELS).round() / LEVELS
    logits = predictions(subject.model, saved, draws=subject.conditions.draws(subject.model))
    return float((~succeeded(logits, subject.bout.y[places])).float().mean())


def sandwich(subject: Subject) -> Finding:
    """Compare what is proven with what attacks have left."""
    certified = subject.certified
    if certified is None:
        return Finding("not run", "nothing is certified")
    if certified.accuracy.low > subject.robust.high:
        text = f"{certified.accuracy.value:.1%} are certified, but attacks leave {subject.robust.value:.1%}"
        if certified.accuracy.low > subject.robust.high + _outvoted(subject):
            return Finding("fail", f"{text}: one is wrong")
        return Finding("warn", f"{text}: the vote of the draws stands, as certified, and their mean, as judged, falls")
    return Finding("passed", f"certified {certified.accuracy.value:.1%}, attacked {subject.robust.value:.1%}")


def _outvoted(subject: Subject) -> float:
    """Return at most which share of all examples does not stand, and is right by the vote that is certified."""
    bout = subject.bout
    every = (~(bout.right & bout.standing)).nonzero().squeeze(1)
    places = subject.some(every, ASKED)
    with frozen(subject.bare), seeded(0):
        said = [votes(subject.bare, bout.worst_x[place], SELECT).argmax() for place in places]
    right = sum(int(label) == int(bout.y[place]) for label, place in zip(said, places, strict=True))
    return clopper_pearson(right, len(places)).high * len(every) / len(bout.y)
