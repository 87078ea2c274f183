"""The audit: what can be known of an evaluation beyond its figures, each check one small function with its rule.

Adding one is a function in a file here and a line in `CHECKS`. A check fails a result only where the low end of an
interval, or a paired test, says that it is off: one image in 500 proves nothing.
"""

import time

from sparring.core.errors import InputError
from sparring.core.results import Checked, Flag
from sparring.evaluation.audit import behaviour, course, figures, stronger
from sparring.evaluation.audit.base import Check, Finding, Level, Subject
from sparring.evaluation.detection import SMALL

SHARE = 0.2  # of the passes that the attacks have spent, for the checks that attack
LEAST, MOST, FULL = 20, 200, 500  # examples that such a check attacks
LEAST_DEAR = 5  # of a random model, or of large images

CHECKS = (
    Check("guessing", "more is right than by naming one class always", figures.guessing),
    Check("randomness", "the same image gets the same logits twice", behaviour.randomness),
    Check("batch-mates", "an image gets the same logits alone and in any batch", behaviour.batch_mates),
    Check("probabilities", "the model gives logits, not probabilities", behaviour.probabilities),
    Check("zero gradients", "no example is without a gradient", behaviour.zero_gradients, passes=4),
    Check("broken graph", "a gradient reaches the image", behaviour.broken_graph),
    Check("test-time optimisation", "no backward pass inside a prediction", behaviour.optimises_itself),
    Check("noisy landscape", "tiny changes move the loss little, gradients lead somewhere", behaviour.noisy_landscape),
    Check("gradients agree", "the gradient says how the model changes nearby", behaviour.gradients_agree),
    Check("silent success", "no attack loses what it has found", course.silent_success, passes=100),
    Check("unfinished optimisation", "the last steps bring nothing more", course.unfinished, passes=100),
    Check("unbounded attack", "without a bound every example falls", stronger.unbounded, passes=40),
    Check("large eps", "at eps 0.5 no more than chance is left", stronger.large_eps, passes=40),
    Check("monotone curve", "accuracy falls as eps grows", stronger.monotone, passes=60),
    Check("many steps beat one", "PGD breaks what FGSM breaks", figures.many_steps),
    Check("label leaking", "no more is right under FGSM than without", figures.label_leaking, passes=3),
    Check("converged", "twice the steps and another start break nothing more", stronger.converged, passes=200),
    Check("black box", "search without gradients breaks nothing more", stronger.black_box, passes=140),
    Check("transfer", "images made on twins break nothing more", stronger.transfer, full=True),
    Check("noise", "random noise breaks nothing that gradients could not", stronger.noise, passes=30),
    Check(
        "losses disagree", "cross-entropy, margin and targeted attacks leave much the same", stronger.losses, passes=140
    ),
    Check("sound images", "no attack leaves NaN or inf in an image", figures.sound_images),
    Check("threat kept", "every image lies within eps and [0, 1]", figures.threat_kept),
    Check("adaptive attack", "who knows the defence breaks more than who does not", stronger.adaptive, passes=40),
    Check("sandwich", "no more is certified than attacks leave", figures.sandwich),
)


def audit(subject: Subject) -> tuple[tuple[Checked, ...], tuple[Flag, ...]]:
    """Run every check; return what came of each, and as flags what a reader must know, the gravest first."""
    done, flags, tried = [], [], {f"{attack.name}()" for attack in subject.attacks}
    for check in CHECKS:
        begun = time.monotonic()
        found = _look(check, subject)
        seconds = round(time.monotonic() - begun, 3)
        done.append(Checked(check.name, found.outcome, found.evidence, seconds))
        if found.outcome in ("fail", "warn", "note"):
            further = "" if found.attack in tried else found.attack
            flags.append(Flag(check.name, found.outcome, found.evidence, found.examples, further))
    return tuple(done), tuple(sorted(flags, key=lambda flag: ("fail", "warn", "note").index(flag.severity)))


def _look(check: Check, subject: Subject) -> Finding:
    if check.full and not subject.full:
        return Finding("not run", "only in a full audit")
    try:
        return check.look(subject)
    except InputError as error:
        return Finding("not run", str(error))


def affordable(passes: int, draws: int, values: int) -> int:
    """Return how many examples each check may attack, beside attacks that have spent so many passes in all.

    `draws`: of a random model, passes that each question to it takes; `values`: pixels times channels of an image.
    """
    least = LEAST if draws == 1 and values <= SMALL else LEAST_DEAR
    each = draws * sum(check.passes for check in CHECKS)
    return int(min(MOST, max(least, SHARE * passes / each)))


__all__ = ["CHECKS", "FULL", "Check", "Finding", "Level", "Subject", "affordable", "audit"]
