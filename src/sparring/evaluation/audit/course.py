"""Checks of how an attack went, question by question: nothing found may be lost, and nothing left unfinished."""

import math

import torch
from torch import Tensor, nn

from sparring.attacks import APGD, Attack, AutoAttack, Transfer
from sparring.attacks.base import adapted
from sparring.attacks.crafting import Crafting
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import margin, succeeded
from sparring.attacks.oracle import Oracle
from sparring.core.randomness import seeded
from sparring.core.threat import ThreatModel
from sparring.evaluation.audit.base import Finding, Subject
from sparring.models.adaptive import adaptation

LAST = 10  # questions in which a finished attack gains nothing more
UNFINISHED = 0.05  # of all that it gained
ROUNDING = 1e-5  # by which a question may leave the ball
CLEARLY = 1e-4  # more than rounding, in logits
CHEAP = 200  # passes an example
WATCHED, ENOUGH = 0.02, 20  # share of a dearer attack's courses that are run again, if they are so many


class Watched(Oracle):
    """An oracle that writes down, for every question, how far each example's image was from being misclassified."""

    def __init__(
        self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor, threat: ThreatModel, *, seed: int
    ) -> None:
        super().__init__(model, examples, seed=seed, crafting=adapted(Crafting(), model))
        self._x, self._y, self._threat = x, y, threat
        self.best: list[Tensor] = [torch.full((len(x),), -math.inf, device=x.device)]  # margin so far, inside the ball

    def _asked(self, x: Tensor) -> Tensor:
        logits = super()._asked(x)
        blocks = len(x) // max(len(self._rows), 1)
        rows = self._rows.repeat(blocks)
        inside = self._threat.distance(x.detach(), self._x[rows]) <= self._threat.eps + ROUNDING
        found = margin(logits.detach(), self._y[rows]).masked_fill(~inside, -math.inf)
        self.best.append(self.best[-1].scatter_reduce(0, rows, found, "amax"))
        return logits


def silent_success(subject: Subject) -> Finding:
    """Watch the attacks once more: none may leave standing what it had itself already broken."""
    if "eot" in adaptation(subject.model):
        return Finding("not run", "the model is random: one look tells little")
    watched, lost = 0, []
    for attack in subject.attacks:
        if attack.kind == "minimal" or isinstance(attack, Transfer):
            continue
        for places in subject.batches(_affordable(subject, attack)):
            oracle, fooled = _watch(subject, attack, places)
            watched += len(places)
            lost += places[(oracle.best[-1] > CLEARLY).cpu() & ~fooled].tolist()
    if not watched:
        return Finding("not run", "nothing stands, or no attack is worth a second look")
    if lost:
        text = f"of {watched} courses watched, {len(lost)} ended on an image that holds after one that did not"
        return Finding("fail", f"{text}: the attack loses what it finds", subject.named(torch.tensor(lost)))
    return Finding("passed", f"{watched} courses watched: no attack loses what it finds")


def unfinished(subject: Subject) -> Finding:
    """Look whether the climb of the first attack that climbs still rises in its last steps."""
    attack = next((found for found in map(_climber, subject.attacks) if found is not None), None)
    places = subject.some(subject.standing)
    if attack is None or not len(places):
        return Finding("not run", "nothing stands" if attack else "no attack of many steps was listed")
    gains = [_gained(*_watch(subject, attack, rows)) for rows in subject.batches(places)]
    gained, late = (torch.cat(parts) for parts in zip(*gains, strict=True))
    if not len(gained):
        return Finding("not run", f"{attack.name} asks too little to tell, or nothing withstood it")
    told = gained > 0
    share = float((late[told] / gained[told]).mean()) if bool(told.any()) else 0.0
    evidence = f"the last {LAST} steps of {attack} brought {share:.1%} of all that it gained"
    return Finding(
        "warn" if share > UNFINISHED else "passed", evidence, attack="" if share <= UNFINISHED else "autoattack()"
    )


def _gained(oracle: Watched, fooled: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the course gained on each example that withstood it, in all and in its last questions, (n,) each."""
    course = torch.stack(oracle.best[1:])[:, ~fooled.to(oracle.best[0].device)]
    if len(course) <= LAST:
        return course.new_empty(0), course.new_empty(0)
    return course[-1] - course[0], course[-1] - course[-1 - LAST]


def _climber(attack: Attack) -> Attack | None:
    """Return the attack that climbs by steps, in an ensemble its first."""
    if isinstance(attack, AutoAttack):
        return APGD(steps=attack.steps)
    return attack if attack.kind == "budget" and getattr(attack, "steps", 0) > 1 else None


def _affordable(subject: Subject, attack: Attack) -> Tensor:
    """Return places of standing examples: of a dear attack few, beside what it has cost already."""
    spent = subject.bout.spent[repr(attack)][subject.standing]
    if not len(spent) or float(spent.float().mean()) <= CHEAP:
        return subject.some(subject.standing)
    count = int(WATCHED * len(spent))
    return subject.some(subject.standing, min(count, subject.probes) if count >= ENOUGH or subject.full else 0)


def _watch(subject: Subject, attack: Attack, places: Tensor) -> tuple[Watched, Tensor]:
    """Run the attack once on these examples; return its oracle, and which of its images fool, (n,)."""
    x, y = subject.on_device(places)
    with frozen(subject.model), seeded(subject.conditions.seed):
        oracle = Watched(
            subject.model, subject.ids[places].to(x.device), x, y, subject.threat, seed=subject.conditions.seed
        )
        x_adv = subject.threat.project(attack.perturb(oracle, x, y, subject.threat).detach(), x)
        judged = Oracle(subject.model, subject.ids[places].to(x.device), crafting=adapted(Crafting(), subject.model))
        fooled = succeeded(judged.logits(x_adv), y)
    return oracle, fooled.cpu()
