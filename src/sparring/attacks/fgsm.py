"""The fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572)."""

from dataclasses import dataclass

from torch import Tensor

from sparring.attacks.base import Attack
from sparring.attacks.losses import cross_entropy
from sparring.attacks.oracle import Oracle
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step of size eps along the steepest direction of the cross-entropy (in Linf: the gradient's sign)."""

    name = "fgsm"
    source = "arXiv:1412.6572"
    kind = "budget"

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
        _, grad, _ = oracle.value_and_gradient(x, lambda logits: cross_entropy(logits, y, target))
        return threat.project(x + threat.ascent(x, grad, threat.reach(x)), x)
