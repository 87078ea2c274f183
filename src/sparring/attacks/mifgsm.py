"""The momentum iterative fast gradient sign method (Dong et al. 2018, arXiv:1710.06081)."""

import math
from dataclasses import dataclass

from torch import Tensor

from sparring.attacks.base import Attack
from sparring.attacks.oracle import Oracle
from sparring.attacks.pgd import PGD
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class MIFGSM(Attack):
    """Steps of eps / `steps` along a running sum of gradients, each scaled to L1 norm 1: made to transfer.

    `decay` is what is left of the sum from one step to the next; with 0 this is the iterative FGSM. It is PGD without a
    random start, whose steps together just reach eps.
    """

    name = "mifgsm"
    source = "arXiv:1710.06081"
    kind = "budget"
    steps: int = 10
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"mifgsm: steps must be at least 1, not {self.steps}")
        if not 0 <= self.decay < math.inf:
            raise InputError(f"mifgsm: decay must be at least 0, not {self.decay}")

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
        pgd = PGD(steps=self.steps, rel_step_size=1 / self.steps, momentum=self.decay, random_start=False)
        return pgd.perturb(oracle, x, y, threat, target=target, stop=stop)
