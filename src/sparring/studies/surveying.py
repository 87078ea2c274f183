"""Where adversarial images lie, asked of a study's rows."""

from pathlib import Path

from sparring.attacks import ATTACKS, Crafting, run
from sparring.attacks.base import device_of
from sparring.attacks.preparing import prepared
from sparring.core.study_results import Geometry
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset
from sparring.evaluation.geometry import geometry
from sparring.models.saved import load, load_perturber
from sparring.recipe import Fitted
from sparring.studies.plan import EvaluationPlan, GeometryPlan
from sparring.training.runs import Run


def survey(
    name: str, fitted: Fitted, dataset: Dataset, plan: EvaluationPlan, asked: GeometryPlan, threat: ThreatModel
) -> Geometry:
    """Return where images lie that the plan's attacks make on one row's model."""
    within = THREATS.parse(asked.threat) if asked.threat else threat
    given, reference = dataset.split(plan.split).sample(asked.examples, seed=0), dataset.train
    reference = reference.sample(asked.reference, seed=0)
    made, where = {}, device_of(fitted.model, given.x)
    for call in asked.attacks:
        attack = prepared(
            ATTACKS.parse(call),
            fitted.model,
            within,
            examples=lambda: (dataset.train.x, dataset.train.y),
            load=lambda of: load(Run.find(of, _runs(fitted)).path).to(where),
            load_perturber=lambda of: load_perturber(Run.find(of, _runs(fitted)).path),
        )
        found = run(attack, fitted.model, given.images(), given.y, within, crafting=Crafting(draws=plan.draws))
        made[str(attack)] = found.x
    plots = geometry(fitted.model, reference, given, made, asked.layer)
    return Geometry(name, repr(within), len(given), len(reference), tuple(plots))


def _runs(fitted: Fitted) -> Path:
    return fitted.run.path.parent
