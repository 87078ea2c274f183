"""Train, attack and honestly judge robust image classifiers.

    import sparring

    fitted = sparring.fit("recipe.toml")
    verdict = sparring.evaluate(fitted.model, "mnist()", "linf(0.3)")
    print(verdict)

Every place that takes a component takes its call string too. Importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparring import attacks, data, defences, models, report
    from sparring.attacks import Adversarial, Attack, run
    from sparring.core.errors import InputError, TrainingError
    from sparring.core.results import Estimate, Evaluation
    from sparring.core.threat import L1, L2, Linf, ThreatModel
    from sparring.evaluation import evaluate
    from sparring.evaluation.compare import compare
    from sparring.models.saved import load
    from sparring.recipe import Recipe, fit, harden
    from sparring.studies import run_study

_HOMES = {
    "Adversarial": "sparring.attacks",
    "Attack": "sparring.attacks",
    "run": "sparring.attacks",
    "InputError": "sparring.core.errors",
    "TrainingError": "sparring.core.errors",
    "Estimate": "sparring.core.results",
    "Evaluation": "sparring.core.results",
    "L1": "sparring.core.threat",
    "L2": "sparring.core.threat",
    "Linf": "sparring.core.threat",
    "ThreatModel": "sparring.core.threat",
    "compare": "sparring.evaluation.compare",
    "evaluate": "sparring.evaluation",
    "Recipe": "sparring.recipe",
    "fit": "sparring.recipe",
    "harden": "sparring.recipe",
    "load": "sparring.models.saved",
    "run_study": "sparring.studies",
}
_PACKAGES = ("attacks", "data", "defences", "models", "report")

__all__ = [
    "L1",
    "L2",
    "Adversarial",
    "Attack",
    "Estimate",
    "Evaluation",
    "InputError",
    "Linf",
    "Recipe",
    "ThreatModel",
    "TrainingError",
    "attacks",
    "compare",
    "data",
    "defences",
    "evaluate",
    "fit",
    "harden",
    "load",
    "models",
    "report",
    "run",
    "run_study",
]


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"sparring.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sparring' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
