"""Attacks that learn from examples before they perturb others, and what makes any attack ready."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeVar

from torch import Tensor, nn

from sparring.attacks.base import Attack
from sparring.attacks.learned import Learned
from sparring.attacks.transfer import Transfer
from sparring.core.errors import InputError, naming
from sparring.core.spec import Component
from sparring.core.threat import ThreatModel
from sparring.models.perturber import PerturberNetwork

Part = TypeVar("Part", bound=Component)
Inner = TypeVar("Inner", bound=Component)


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
    raise InputError(f"no model is at hand for {name!r}; use Transfer.of(model, attack=..., name={name!r})")


def no_perturber(name: str) -> PerturberNetwork:
    """Refuse, as `no_surrogate` does; from a network, use `Learned.with_network`."""
    raise InputError(f"no perturber is at hand for {name!r}; use Learned(run={name!r}).with_network(network)")


def opened(
    part: Part,
    *,
    load: Callable[[str], nn.Module] = no_surrogate,
    load_perturber: Callable[[str], PerturberNetwork] = no_perturber,
) -> Part:
    """Return an attack, or a component that holds some, with the runs opened that its attacks name, however deep.

    `load` gives the model that a surrogate's name stands for, `load_perturber` the perturber of a run; none is called
    for what is open.
    """
    found: Component = part
    if isinstance(found, Learned) and found.network is None:
        with naming("learned: run"):
            found = found.with_network(load_perturber(found.run))
    if isinstance(found, Transfer) and found.model is None:
        with naming("transfer: surrogate"):
            found = found.with_model(load(found.surrogate))
    found = _with_inner(found, Component, lambda inner: opened(inner, load=load, load_perturber=load_perturber))
    assert isinstance(found, type(part))
    return found


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

    `examples` gives the images and labels to learn from; it is not called unless it is needed, nor what is ready
    changed. An attack inside a transfer learns from the surrogate. `load` and `load_perturber`: see `opened`.
    """
    return _fitted(opened(attack, load=load, load_perturber=load_perturber), model, threat, examples, seed)


def _fitted(
    attack: Attack,
    model: nn.Module,
    threat: ThreatModel | str,
    examples: Callable[[], tuple[Tensor, Tensor]],
    seed: int,
) -> Attack:
    if isinstance(attack, Transfer):
        assert attack.model is not None
        model = attack.model

    attack = _with_inner(attack, Attack, lambda inner: _fitted(inner, model, threat, examples, seed))
    if isinstance(attack, LearnedAttack) and not attack.fitted:
        return attack.fit(model, *examples(), threat, seed=seed)
    return attack


def _with_inner(part: Part, kind: type[Inner], change: Callable[[Inner], Inner]) -> Part:
    """Return a component with all of this kind among its arguments changed; itself where they stay what they were."""

    def within(value: object) -> object:
        if isinstance(value, tuple):
            inner = tuple(map(within, value))
            return value if all(new is old for new, old in zip(inner, value, strict=True)) else inner
        return change(value) if isinstance(value, kind) else value

    given = {f.name: getattr(part, f.name) for f in fields(part) if f.init}  # type: ignore[arg-type]  # as below
    changed = {name: new for name, old in given.items() if (new := within(old)) is not old}
    return replace(part, **changed) if changed else part  # type: ignore[type-var]  # every component is a dataclass
