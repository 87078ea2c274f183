"""What a check is, what it may look at, and how much more than was found a check must find before it says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.attacks import Adversarial, Attack
from sparring.attacks.base import device_of
from sparring.attacks.crafting import Crafting, suitable_batch
from sparring.core.results import Certified, Estimate, NormStatistics, Outcome
from sparring.core.statistics import clopper_pearson
from sparring.core.threat import ThreatModel
from sparring.evaluation.bout import Bout, Found
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.curve import predictions
from sparring.evaluation.detection import differ

Level = Literal["off", "standard", "full"]

FAIL, WARN = 0.02, 0.005  # points of accuracy that a result must be off by, at the low end of the interval
SIGNIFICANT = 0.01  # p-value of a paired test below which a difference is no chance
SHOWN = 10  # examples' ids a finding names


@dataclass(frozen=True)
class Finding:
    """What a check came to: its outcome, the figures it rests on, examples' ids, and the attack to try next."""

    outcome: Outcome
    evidence: str
    examples: tuple[int, ...] = ()
    attack: str = ""


@dataclass(frozen=True)
class Subject:
    """An evaluation as the checks see it.

    `model` as it was attacked, `bare` as it was handed in, `detected` the difference; `bout`: images, labels, clean
    logits and what the `attacks` did. `probes`: how many examples a check may attack. `twins`: networks like the bare
    one, trained anew, by name (none unless the audit is full). `found`: whom the checks' own attacks fooled.
    """

    model: nn.Module
    bare: nn.Module
    bout: Bout
    ids: Tensor
    threat: ThreatModel
    attacks: Sequence[Attack]
    conditions: Conditions
    robust: Estimate
    probes: int
    detected: tuple[str, ...] = ()
    statistics: NormStatistics = "running"
    certified: Certified | None = None
    full: bool = False
    twins: Callable[[], Mapping[str, nn.Module]] = dict
    found: list[Found] = field(default_factory=list)

    @cached_property
    def right(self) -> Tensor:
        """Places of the examples that are right on the clean image."""
        return self.bout.right.nonzero().squeeze(1)

    @cached_property
    def standing(self) -> Tensor:
        """Places of the examples that are right under every attack, too."""
        return self.bout.standing.nonzero().squeeze(1)

    def some(self, places: Tensor, most: int | None = None) -> Tensor:
        """Return at most so many of these places (by default `probes`), the same for the same seed."""
        most = self.probes if most is None else most
        if len(places) <= most:
            return places
        generator = torch.Generator().manual_seed(self.conditions.seed)
        return places[torch.randperm(len(places), generator=generator)[:most]].sort().values

    def batches(self, places: Tensor) -> tuple[Tensor, ...]:
        """Return these places in as many at once as are attacked elsewhere: large images do not all fit in memory."""
        size = self.conditions.batch_size or suitable_batch(self.bout.x, device_of(self.model, self.bout.x))
        return torch.split(places, size) if len(places) else ()

    def on_device(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels at these places, where the model is."""
        where = device_of(self.model, self.bout.x)
        return self.bout.x[places].to(where), self.bout.y[places].to(where)

    def attacked(
        self, attack: Attack, places: Tensor, *, threat: ThreatModel | None = None, naive: bool = False
    ) -> Adversarial:
        """Return what `attack` does to the examples at these places; `naive`: to a model that it does not know."""
        x, y = self.bout.x[places], self.bout.y[places]
        crafting = replace(self.conditions.crafting or Crafting(), max_forwards=None)  # whom the audit attacks, it does
        conditions = replace(self.conditions, folder=None, seed=self.conditions.seed + 1, crafting=crafting)
        if naive:
            conditions = conditions.naive()
        found, _ = conditions.run(attack, self.model, x, y, threat or self.threat, ids=self.ids[places])
        self.found.append(Found.of(places, found, self.threat.eps))
        return found

    def moves(self, places: Tensor) -> bool:
        """Say whether random changes within the threat move the logits: if not, there is nothing to find."""
        x = self.bout.x[places[:SHOWN]]
        signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        moved = self.threat.project(x + signs * self.threat.reach(x), x)
        return len(x) > 0 and differ(predictions(self.model, x), predictions(self.model, moved))

    def named(self, places: Tensor) -> tuple[int, ...]:
        """Return the ids of the first few of these places."""
        return tuple(self.ids[places[:SHOWN]].tolist())


@dataclass(frozen=True)
class Check:
    """One question of the audit: its `name`, the `rule` by which it answers, and what it costs.

    `passes` through the model that it spends on each example that it probes (0: on a fixed few); `full`: it runs only
    in a full audit.
    """

    name: str
    rule: str
    look: Callable[[Subject], Finding]
    passes: int = 0
    full: bool = False


def broken_anyway(subject: Subject, broken: Tensor, places: Tensor, of: Tensor, by: str, attack: str = "") -> Finding:
    """Judge by what broke (flags) of the examples at `places`, a sample of those at `of` that stood until then.

    The share of all examples that would fall is estimated with its exact interval; its low end decides.
    """
    if not len(places):
        return Finding("passed", "nothing stands that could still be broken")
    share = clopper_pearson(int(broken.sum()), len(places))
    weight = len(of) / len(subject.bout.y)
    off = share.low * weight
    outcome: Outcome = "fail" if off > FAIL else "warn" if off > WARN else "passed"
    count = f"{by} breaks {int(broken.sum())} of {len(places)} examples that all attacks had left standing"
    if outcome == "passed":
        return Finding(outcome, count)
    most = weight * (1 - share.low)
    return Finding(outcome, f"{count}: at most {most:.1%} can be robust", subject.named(places[broken]), attack)
