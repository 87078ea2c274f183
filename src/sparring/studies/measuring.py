"""What is measured of one trained row: the paper's figures by the paper's protocol, and the honest verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from sparring.attacks import ATTACKS, Crafting, Learned
from sparring.attacks.losses import succeeded
from sparring.core.results import Arrays, Calibration, Confidence, Curve, Estimate, Evaluation
from sparring.core.statistics import mean
from sparring.core.study_results import Figure, Repeat, Row, Unit
from sparring.core.threat import ThreatModel
from sparring.data import Dataset, Split
from sparring.data.dataset import new_generator
from sparring.evaluation.audit import Level
from sparring.evaluation.calibration import calibration
from sparring.evaluation.checks import catastrophic_overfitting, rising
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import predictions, single_attack, single_attack_curve
from sparring.models.batch_statistics import with_batch_statistics
from sparring.models.saved import load_perturber
from sparring.recipe import Fitted, Recipe
from sparring.studies.expansion import Training
from sparring.studies.judge import Judgement, judge
from sparring.studies.plan import CURVE, DISTANCE, OVER_ALL, UNDER, EvaluationPlan, RowPlan
from sparring.studies.showing import Flags, Seen

BATCH = "batch statistics"


@dataclass(frozen=True)
class Measure:
    """How a study's rows are measured: its plan, the threat, and the runs whose learned adversaries attack them."""

    plan: EvaluationPlan
    threat: ThreatModel

    def row(
        self,
        row: RowPlan,
        training: Training,
        fitted: Fitted,
        dataset: Dataset,
        runs: dict[str, str],
        shown: tuple[Seen, ...] = (),
        audit: Level = "standard",
    ) -> Row:
        """Return all that is measured of one training; `runs`: those of the plan's adversaries, of the same seed.

        `shown`: the figures of images that were made elsewhere; see `Showing`.
        """
        evaluation = self._judged(fitted, dataset, training.seed, audit)
        nearest = self._nearest(fitted, dataset, training.seed)
        figures: tuple[Figure, ...] = ()
        counted: Arrays = {}
        sweep: tuple[Curve, ...] = ()
        calibrations: dict[str, Calibration] = {}
        adversaries: tuple[Figure, ...] = ()
        if self.plan.protocol:
            given = self.examples(dataset, self.plan.split)
            models, batch = self._models(fitted.model), self._batch(training.recipe)
            ways = {way: self._read(model, given, batch) for way, model in models.items()}
            protocol, *others = (way.named for way in ways.values())
            honest = _honest(evaluation).named
            counted |= _columns(next(iter(ways.values())), _honest(evaluation))
            figures = tuple(
                self._figure(name, row, value, honest[name], [other[name] for other in others])
                for name, value in protocol.items()
            )
            grids = [grid for grid in (self.plan.sweep, self.plan.further_sweep) if grid]
            sweep = tuple(self._sweep(way, model, given, at, batch) for way, model in models.items() for at in grids)
            calibrations = {
                _joined(images, way): read for way, of in ways.items() for images, read in of.calibrations.items()
            }
            networks = {name: load_perturber(fitted.run.path.parent / run) for name, run in runs.items()}
            adversaries = tuple(
                self._under(name, Learned(run=runs[name]).with_network(network), row, models, given, batch)
                for name, network in networks.items()
            )
        figures += (*self._seen(row, fitted.model, dataset), *(seen.figure for seen in shown))
        counted |= {f"{of}/{seen.figure.name}": each for seen in shown for of, each in seen.counted.items()}
        if nearest is not None:
            figures += tuple(self._distances(row, nearest))
        warnings = [rising(curve) for curve in sweep if not curve.conditions]
        warnings.append(catastrophic_overfitting(fitted.run.read_metrics()))
        flags = tuple(flag for flag in warnings if flag)
        return Row(
            name=row.name,
            defence=row.defence,
            recipe=training.recipe.to_toml(),
            run=fitted.run.path.name,
            figures=figures,
            sweep=sweep,
            training=fitted.run.read_metrics(),
            evaluation=replace(evaluation, model=row.name, flags=evaluation.flags + flags),
            published_sweep=tuple(sorted((float(eps), value) for eps, value in row.published_sweep.items())),
            sweep_tolerance=row.tolerance.get(CURVE),
            calibrations=calibrations,
            adversaries=adversaries,
            repeats=(_repeat(training.seed, fitted, (*figures, *adversaries)),),
            nearest=nearest,
            series=row.series,
            at=row.at,
            arrays=counted,
        )

    def examples(self, dataset: Dataset, split: str) -> Split:
        """Return the examples of a split that the paper's protocol is measured on."""
        given = dataset.split(split)
        return given if self.plan.examples is None else given.sample(self.plan.examples, seed=0)

    def protocol(self, recipe: Recipe, model: nn.Module, dataset: Dataset, split: str) -> dict[str, Estimate]:
        """Return the paper's figures as the paper measures them, by name."""
        model = next(iter(self._models(model).values()))
        return self._read(model, self.examples(dataset, split), self._batch(recipe)).named

    def _judged(self, fitted: Fitted, dataset: Dataset, seed: int, audit: Level) -> Evaluation:
        plan = self.plan
        examples = plan.attacked or plan.examples
        means = Crafting(draws=plan.draws)
        settings = Judgement(
            repr(self.threat), plan.attacks, plan.split, examples, plan.curve, seed, crafting=means, audit=audit
        )
        return judge(fitted, dataset, settings)[0]

    def _nearest(self, fitted: Fitted, dataset: Dataset, seed: int) -> Evaluation | None:
        plan = self.plan
        if not plan.distances:
            return None
        examples, threat = plan.attacked or plan.examples, f"{plan.distance_norm}(inf)"
        settings = Judgement(threat, plan.distances, plan.split, examples, (), seed, audit="off")  # beside one audited
        return judge(fitted, dataset, settings)[0]

    def _distances(self, row: RowPlan, nearest: Evaluation) -> Iterator[Figure]:
        """Yield how near images lie that fool: by the first of the attacks, and honestly by the best of all.

        Over the images that the row has right, and over all, of which the others need no change.
        """
        right = nearest.arrays["correct/clean"]
        first = repr(ATTACKS.parse(self.plan.distances[0]))
        both = [nearest.arrays[f"distance/{name}"] for name in (first, "nearest")]
        for name, found in ((DISTANCE, [each[right] for each in both]), (OVER_ALL, both)):  # the wrong lie at 0
            protocol, honest = (mean(each.tolist()) for each in found)
            yield self._figure(name, row, protocol, honest, (), unit="number")

    def _seen(self, row: RowPlan, model: nn.Module, dataset: Dataset) -> Iterator[Figure]:
        """Yield the accuracy on the clean images as each of the plan's views changes them."""
        for name, change in self.plan.views.items():
            given = self.examples(dataset, self.plan.split)
            logits = predictions(model, change(given.images(), new_generator(0)))
            yield self._figure(name, row, confidence(logits, given.y).accuracy, None, ())

    def _batch(self, recipe: Recipe) -> int | None:
        """Return the batch size of the paper's protocol, which matters only where batch-mates do."""
        return recipe.batch_size if self.plan.statistics == "batch" else None

    def _models(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the model as the paper's protocol has it, and where that is at fault, as it should be."""
        if self.plan.statistics == "batch":
            return {BATCH: with_batch_statistics(model), "": model}
        return {"": model}

    def _read(self, model: nn.Module, given: Split, batch: int | None) -> "Reading":
        x, y = given.images(), given.y
        attack = ATTACKS.parse(self.plan.protocol)
        clean = predictions(model, x, batch)
        adversarial = single_attack(attack, model, x, y, self.threat, batch_size=batch)
        return Reading.of({"clean": clean, "adversarial": adversarial}, y)

    def _sweep(self, way: str, model: nn.Module, given: Split, at: Sequence[float], batch: int | None) -> Curve:
        x, y = given.images(), given.y
        attack = ATTACKS.parse(self.plan.protocol)
        curve = single_attack_curve(attack, model, x, y, self.threat, at, batch_size=batch)
        return replace(curve, conditions=way)

    def _under(
        self,
        name: str,
        attack: Learned,
        row: RowPlan,
        models: Mapping[str, nn.Module],
        given: Split,
        batch: int | None,
    ) -> Figure:
        """Return the accuracy under the learned adversary of the row `name`."""
        x, y = given.images(), given.y
        left = [
            confidence(single_attack(attack, model, x, y, self.threat, batch_size=batch), y).accuracy
            for model in models.values()
        ]
        return self._figure(f"{UNDER}{name}", row, left[0], None, left[1:])

    def _figure(
        self,
        name: str,
        row: RowPlan,
        value: Estimate,
        honest: Estimate | None,
        mended: Sequence[Estimate],
        unit: Unit = "share",
    ) -> Figure:
        """Return a figure beside the row's published one; `mended` holds one estimate, or none without a fault."""
        measured: Literal["compatibility", "mended"] = "mended" if name in self.plan.faultless else "compatibility"
        published, tolerance = row.published.get(name), row.tolerance.get(name)
        return Figure(name, published, value, honest, tolerance, mended[0] if mended else None, measured, unit)


@dataclass(frozen=True)
class Reading:
    """Confidence and calibration on clean and on adversarial images, and which of them (N,) are classified right."""

    confidences: dict[str, Confidence]
    calibrations: dict[str, Calibration]
    right: dict[str, Flags]

    @staticmethod
    def of(logits: dict[str, Tensor], y: Tensor) -> "Reading":
        """Read the logits (N, K) on each kind of images."""
        return Reading(
            {images: confidence(found, y) for images, found in logits.items()},
            {images: calibration(found, y) for images, found in logits.items()},
            {images: (~succeeded(found, y)).numpy() for images, found in logits.items()},
        )

    @property
    def named(self) -> dict[str, Estimate]:
        """The figures by the names that a study file gives them."""
        return {
            f"{images} {figure}": value
            for images, of in self.confidences.items()
            for figure, value in {
                "accuracy": of.accuracy,
                "confidence": of.confidence,
                "confidence correct": of.confidence_correct,
                "confidence error": of.confidence_error,
                "ece": self.calibrations[images].ece,
            }.items()
        }


def _honest(evaluation: Evaluation) -> "Reading":
    """Return what the honest attacks leave, read as the protocol's figures are."""
    assert evaluation.calibration is not None
    assert evaluation.robust_calibration is not None
    return Reading(
        {"clean": evaluation.clean_confidence, "adversarial": evaluation.robust_confidence},
        {"clean": evaluation.calibration, "adversarial": evaluation.robust_calibration},
        {"clean": evaluation.arrays["correct/clean"], "adversarial": evaluation.arrays["standing"]},
    )


def _columns(protocol: "Reading", honest: "Reading") -> Arrays:
    """Return which images the accuracies of both columns count; see `Row.arrays`."""
    return {
        f"{column}/{images} accuracy": flags
        for column, reading in (("compatibility", protocol), ("honest", honest))
        for images, flags in reading.right.items()
    }


def _repeat(seed: int, fitted: Fitted, figures: Sequence[Figure]) -> Repeat:
    columns = {
        "compatibility": {figure.name: figure.compatibility.value for figure in figures},
        "mended": {figure.name: figure.mended.value for figure in figures if figure.mended is not None},
        "honest": {figure.name: figure.honest.value for figure in figures if figure.honest is not None},
    }
    return Repeat(seed, fitted.run.path.name, **columns)


def _joined(what: str, way: str) -> str:
    return f"{what}, {way}" if way else what
