"""AutoAttack: four attacks that need no tuning, one after another (Croce & Hein 2020, arXiv:2003.01690)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.adaptation import EOT_DRAWS
from sparring.attacks.apgd import APGD
from sparring.attacks.base import Attack
from sparring.attacks.fab import FAB
from sparring.attacks.losses import margin
from sparring.attacks.oracle import Oracle, OutOfPasses
from sparring.attacks.square import Square
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel

L1_RESTARTS, L1_TARGETS = 5, 5  # of arXiv:2103.01208
HORIZON = 10_000  # its Square's squares shrink as if it had so many queries, however few it has


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """Each attack takes on what those before it left standing, of several batches together.

    `version` "standard": APGD on the cross-entropy and on the targeted DLR loss, targeted FAB, Square. "plus": five
    restarts of APGD on both losses and of FAB, then Square and the targeted ones. "rand", for models that are random:
    APGD on both losses, its gradients averaged over at least 20 draws. Other numbers of `steps` (APGD, FAB) and
    `queries` (Square) than AutoAttack's own are no longer AutoAttack: do not publish results of them under its name.
    """

    name = "autoattack"
    source = "arXiv:2003.01690"
    kind = "budget"
    gathers = 4
    version: Literal["standard", "plus", "rand"] = "standard"
    steps: int = 100
    queries: int = 5000

    def __post_init__(self) -> None:
        if self.steps < 1 or self.queries < 1:
            raise InputError(f"autoattack: steps and queries must be at least 1, not {self.steps} and {self.queries}")

    def perturb(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        target: Tensor | None = None,
        stop: bool = True,
    ) -> Tensor:
        active = Worst(oracle, x, y, target, stop=stop)
        draws = max(oracle.draws, EOT_DRAWS) if self.version == "rand" else None
        for attack in self.attacks(threat.name):
            active.purge()
            if not len(active):
                break
            x_adv = self._portioned(attack, oracle.branch(draws), active, threat, stop=stop)
            logits = torch.cat([part.logits(x_adv[rows]) for rows, part in oracle.portions()])
            active.record(x_adv, margin(logits, active.y, active.target), logits)
        return active.worst

    def _portioned(self, attack: Attack, oracle: Oracle, active: Worst, threat: ThreatModel, *, stop: bool) -> Tensor:
        """Return the images of one attack, which is let at one portion after another."""
        x_adv, spent = active.x.clone(), False
        for rows, part in oracle.portions():
            x, y, target = active.x[rows], active.y[rows], None if active.target is None else active.target[rows]
            try:
                x_adv[rows] = threat.project(attack.perturb(part, x, y, threat, target=target, stop=stop), x)
            except OutOfPasses:
                spent = True  # the other portions have as many passes as this one had
        if spent:
            raise OutOfPasses
        return x_adv

    def attacks(self, norm: str) -> tuple[Attack, ...]:
        """Return the attacks in their order."""
        steps = self.steps
        dlr, targeted = APGD(steps=steps, loss="dlr"), APGD(steps=steps, loss="targeted_dlr")
        fab, square = FAB(steps=steps, targets=9), Square(queries=self.queries, horizon=HORIZON)
        if self.version == "rand":
            return APGD(steps=steps), dlr
        if self.version == "plus":
            often = APGD(steps=steps, restarts=5), replace(dlr, restarts=5), FAB(steps=steps, restarts=5)
            return *often, square, targeted, fab
        if norm == "l1":
            return APGD(steps=steps, restarts=L1_RESTARTS), replace(targeted, targets=L1_TARGETS), fab, square
        return APGD(steps=steps), targeted, fab, square
