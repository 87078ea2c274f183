"""A trained perturber, used as an attack on any classifier (Dhillon & Pavse 2018)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sparring.attacks.base import Attack
from sparring.attacks.losses import cross_entropy
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.models.modes import in_use
from sparring.models.perturber import PerturberNetwork, moved


@dataclass(frozen=True, kw_only=True)
class Learned(Attack):
    """The perturbation that a network gives at sight, trained in `run` (by `gan_game` or `gat`) beside a defender.

    The model under attack may be another than that defender. Nothing is asked of it, unless the network sees gradients:
    then one forward and one backward. A target changes nothing, for the network knows of none. `run` is a run folder,
    or the name of one beside those at hand.
    """

    name = "learned"
    source = "Dhillon & Pavse 2018"
    kind = "budget"
    run: str
    network: PerturberNetwork | None = field(default=None, repr=False, compare=False)

    def with_network(self, network: PerturberNetwork) -> "Learned":
        """Return the same attack with its perturber at hand."""
        return replace(self, network=network)

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
        """Return the images; raises InputError without a perturber, or if it was trained on images of another shape."""
        if self.network is None:
            raise InputError(f"learned: the perturber of {self.run!r} is not opened; use learned.with_network(network)")
        if self.network.shape != tuple(x.shape[1:]):
            raise InputError(f"learned: trained on images {self.network.shape}, not {tuple(x.shape[1:])}")
        network, seen = self.network.to(x.device), x
        if network.about.sees == "gradient":
            _, seen, _ = oracle.value_and_gradient(x, lambda logits: cross_entropy(logits, y))
        with torch.no_grad(), in_use(network):
            return moved(x, network(seen), threat)
