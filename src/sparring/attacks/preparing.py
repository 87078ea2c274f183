"""Attacks that learn from examples before they perturb others, and `prepared`, which makes any attack ready to run."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace

from torch import Tensor, nn

from sparring.attacks.base import Attack
from sparring.attacks.learned import Learned
from sparring.attacks.transfer import Transfer
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.models.perturber import PerturberNetwork


class LearnedAttack(Attack, ABC):
    """An attack that must be fitted to a model, on a split of its own, before it can perturb anything."""

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether it has been."""

    @abstractmethod
    def fit(self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel | str, *, seed: int = 0) -> Attack:
        """Return an ordinary attack, of the same call string, fitted to `model` on these examples within `threat`.

        `x` (N, C, H, W): float images in [0, 1], or uint8; `y` (N,): their labels. They must not be the examples that
        the attack is judged on. Nothing is left behind on the model or in the global random state.
        """


def no_surrogate(name: str) -> nn.Module:
    """Refuse: nothing here can open a run folder; from a module, make `Transfer.of(module, attack=...)`."""
    raise InputError(f"transfer: no model is at hand for {name!r}; use Transfer.of(model, attack=..., name={name!r})")


def no_perturber(name: str) -> PerturberNetwork:
    """Refuse, as `no_surrogate` does; from a network, use `Learned.with_network`."""
    raise InputError(f"learned: no perturber is at hand for {name!r}; use Learned(run={name!r}).with_network(network)")


def prepared(
    attack: Attack,
    model: nn.Module,
    threat: ThreatModel | str,
    *,
    examples: Callable[[], tuple[Tensor, Tensor]],
    load: Callable[[str], nn.Module] = no_surrogate,
    load_perturber: Callable[[str], PerturberNetwork] = no_perturber,
    seed: int = 0,
) -> Attack:
    """Return `attack` ready to run on `model`: what it names opened and what learns fitted, however deep inside.

    `examples` gives the images and labels to learn from, `load` the model that a surrogate's name stands for,
    `load_perturber` the perturber of a run; none is called unless it is needed, nor what is ready changed. An attack
    inside a transfer learns from the surrogate.
    """
    if isinstance(attack, Learned):
        return attack if attack.network is not None else attack.with_network(load_perturber(attack.run))
    if isinstance(attack, Transfer):
        model = load(attack.surrogate) if attack.model is None else attack.model
        attack = attack.with_model(model)

    def ready(part: object) -> object:
        if isinstance(part, tuple):
            return tuple(map(ready, part))
        if not isinstance(part, Attack):
            return part
        return prepared(part, model, threat, examples=examples, load=load, load_perturber=load_perturber, seed=seed)

    inner = {f.name: ready(getattr(attack, f.name)) for f in fields(attack) if f.init}  # type: ignore[arg-type]  # as below
    attack = replace(attack, **inner)  # type: ignore[type-var]  # every attack is a dataclass
    if isinstance(attack, LearnedAttack) and not attack.fitted:
        return attack.fit(model, *examples(), threat, seed=seed)
    return attack
