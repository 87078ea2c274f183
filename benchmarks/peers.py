"""The other libraries' attacks, each called as its documentation says; none is imported before it is called.

A setting `Eps(0.1)` stands for a tenth of the problem's eps.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from contest import Found, Problem, TimeUp

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


class Eps(float):
    """So many times the problem's eps."""


@dataclass(frozen=True)
class Peer(ABC):
    """One attack of one library, by its own name, with its own settings."""

    library: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]  # of the library, that its attacks need
    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, problem: Problem, batch: int) -> Found:
        """Attack the problem's images, `batch` at a time."""
        filled = {k: v * problem.threat.eps if isinstance(v, Eps) else v for k, v in self.settings.items()}
        return Found(self.perturb(problem, batch, filled))

    def load(self) -> ModuleType:
        """Import the library, so that no contest's time is spent on it; raises ImportError if it is not there."""
        imported = [import_module(name) for name in self.modules]
        return imported[0]

    def having(self, changes: Mapping[str, Any]) -> "Peer":
        """Return the same with some settings changed."""
        return replace(self, settings={**self.settings, **changes})

    @abstractmethod
    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        """Return the perturbed images."""


def in_batches(work: Callable[[Tensor, Tensor], Tensor], problem: Problem, batch: int) -> Tensor:
    """Return what `work` makes of each batch."""
    pairs = zip(problem.x.split(batch), problem.y.split(batch), strict=True)
    return torch.cat([work(x, y).detach() for x, y in pairs])


class Foolbox(Peer):
    """`run` and not the call: it spares Foolbox its own last check."""

    library = "Foolbox"
    modules = ("foolbox",)

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        foolbox = self.load()
        attack = getattr(foolbox.attacks, self.attack)(**settings)
        model = foolbox.PyTorchModel(problem.model.eval(), bounds=(0, 1), device=problem.x.device)
        bound = {"epsilon": problem.threat.eps} if isinstance(attack, foolbox.attacks.base.FixedEpsilonAttack) else {}

        def work(x: Tensor, y: Tensor) -> Tensor:
            perturbed: Tensor = attack.run(model, x, foolbox.criteria.Misclassification(y), **bound)
            return perturbed

        return in_batches(work, problem, batch)


class Torchattacks(Peer):
    """Takes the device from the model's parameters."""

    library = "torchattacks"
    modules = ("torchattacks",)

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        return in_batches(getattr(self.load(), self.attack)(problem.model.eval(), **settings), problem, batch)


class ART(Peer):
    """Works on NumPy arrays and cuts them into batches itself."""

    library = "ART"
    modules = ("art.attacks.evasion", "art.estimators.classification")

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        attack = getattr(self.load(), self.attack)(art_classifier(problem), batch_size=batch, verbose=False, **settings)
        return torch.from_numpy(attack.generate(problem.x.cpu().numpy(), problem.y.cpu().numpy())).to(problem.x)


class ARTUniversal(Peer):
    """Fitted on the problem's `fit` images; when its time is up, the perturbation that it has by then."""

    library = "ART"
    modules = ("art.attacks.evasion.universal_perturbation", "art.estimators.classification")

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        module: Any = self.load()
        attack = module.UniversalPerturbation(
            art_classifier(problem), attacker=self.attack, batch_size=batch, verbose=False, **settings
        )
        noise = [np.zeros_like(problem.x[:1].cpu().numpy())]

        def recording(*arguments: Any) -> Any:
            noise[0] = projection(*arguments)
            return noise[0]

        projection = module.projection
        try:
            with patch.object(module, "projection", recording):
                attack.generate(problem.fit_x.cpu().numpy(), problem.fit_y.cpu().numpy())
        except TimeUp:
            pass
        return (problem.x + torch.from_numpy(noise[0]).to(problem.x)).clamp(0, 1)


def art_classifier(problem: Problem) -> Any:
    """Return the model as ART wants it."""
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = problem.model(problem.x[:1]).shape[1]
    return PyTorchClassifier(
        problem.model.eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(problem.x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if problem.x.device.type == "cuda" else "cpu",
    )


class AdvLib(Peer):
    """Plain functions. It imports torchvision (for LPIPS) and visdom (for plots), which no attack here needs."""

    library = "adv-lib"
    modules = ("adv_lib.attacks",)

    def load(self) -> ModuleType:
        for name, members in (("torchvision", {"models": None}), ("visdom", {})):
            if name not in sys.modules and find_spec(name) is None:
                sys.modules[name] = ModuleType(name)
                vars(sys.modules[name]).update(members)
        return super().load()

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        attack = getattr(self.load(), self.attack)
        return in_batches(lambda x, y: attack(problem.model.eval(), x, y, **settings), problem, batch)


class Original(Peer):
    """The original AutoAttack and its members; `attack` is "module.Class"."""

    library = "AutoAttack"
    modules = ("autoattack.autoattack", "autoattack.fab_pt", "autoattack.square")

    def perturb(self, problem: Problem, batch: int, settings: Mapping[str, Any]) -> Tensor:
        module, name = self.attack.split(".")
        made = getattr(import_module(f"autoattack.{module}"), name)
        place = {"norm": NORMS[problem.threat.name], "device": problem.x.device, "seed": 0, "verbose": False}
        attack = made(problem.model.eval(), **place, **{"eps": problem.threat.eps, **settings})
        if name == "AutoAttack":
            perturbed: Tensor = attack.run_standard_evaluation(problem.x, problem.y, bs=batch)
            return perturbed
        with torch.no_grad():
            return in_batches(attack.perturb, problem, batch)
