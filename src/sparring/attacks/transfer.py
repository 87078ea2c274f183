"""Transfer: images made on one model, judged on another (Papernot et al. 2016, arXiv:1605.07277)."""

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from sparring.attacks.base import Attack, adapted, check_norm, device_of, predict
from sparring.attacks.crafting import Crafting
from sparring.attacks.freezing import frozen
from sparring.attacks.given import check_labels
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Images that `attack` makes on a surrogate, for whose making nothing is asked of the model under attack.

    The attack, a budget one, runs its full course on the surrogate, on every example, right or wrong: what has only
    just crossed one model's boundary seldom crosses another's. `surrogate` names the model in records, as a rule by its
    run folder; whoever can open it hands it over by `with_model`. In Python: `Transfer.of(net, attack=MIFGSM())`.
    """

    name = "transfer"
    source = "arXiv:1605.07277"
    kind = "budget"
    surrogate: str
    attack: Attack
    model: nn.Module | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.attack.kind == "minimal":
            raise InputError(f"transfer: takes an attack that goes as far as eps lets it, not {self.attack.name}")

    @staticmethod
    def of(model: nn.Module, *, attack: Attack, name: str = "surrogate") -> "Transfer":
        """Return the attack with its surrogate at hand; `name` stands for it in records."""
        return Transfer(surrogate=name, attack=attack, model=model)

    def with_model(self, model: nn.Module) -> "Transfer":
        """Return the same attack with its surrogate, already opened: images (B, C, H, W) in [0, 1] to logits (B, K)."""
        return replace(self, model=model)

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
        """Return the images; raises InputError without a surrogate, or if it does not fit the images or labels."""
        surrogate = self._opened(x, threat)
        with frozen(surrogate):
            classes = predict(surrogate, x[:1]).shape[1]
            for what, labels in (("y", y), ("target", target)):
                check_labels(labels, classes, f"transfer: on the surrogate, {what}")
            draws = adapted(Crafting(), surrogate).draws or 1
            return self.attack.perturb(oracle.on(surrogate, draws), x, y, threat, target=target, stop=False)

    def _opened(self, x: Tensor, threat: ThreatModel) -> nn.Module:
        if self.model is None:
            raise InputError(
                f"transfer: the surrogate {self.surrogate!r} is not opened; use transfer.with_model(model)"
            )
        check_norm(self.attack, threat)
        if device_of(self.model, x) != x.device:
            raise InputError(f"transfer: the surrogate is on {device_of(self.model, x)}, the images on {x.device}")
        return self.model
