"""Run a study: train what has no finished run, evaluate, and write `results.json` and `report.html`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from sparring import report
from sparring.attacks import ATTACKS
from sparring.core.records import save
from sparring.core.results import (
    Confidence,
    Curve,
    Estimate,
    Evaluation,
    Figure,
    Row,
    Search,
    StudyResult,
    Trial,
)
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset, Split
from sparring.evaluation.checks import rising
from sparring.evaluation.confidence import confidence
from sparring.evaluation.curve import predictions, single_attack, single_attack_curve
from sparring.evaluation.provenance import Stopwatch
from sparring.recipe import RUNS, Fitted, Recipe, fit
from sparring.studies.findings import findings
from sparring.studies.judge import Judgement, judge
from sparring.studies.plan import FIGURES, RowPlan, Settings, StudyPlan, expand, fill_in, read_plan, recipe_of


def run_study(
    study: str,
    *,
    budget: str = "full",
    changes: Mapping[str, object] | None = None,
    runs: str | Path = RUNS,
    out: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> tuple[StudyResult, Path]:
    """Run a study by name or TOML path; return its result and the report, written to `out` (default `reports/<name>`).

    What has been trained and evaluated before is used again, so a stopped study goes on where it was.
    """
    watch, plan = Stopwatch(), read_plan(study, budget=budget, changes=changes)
    workshop = Workshop(plan, Path(runs), device, quiet=quiet)
    search = workshop.search()
    chosen = search.chosen if search else {}
    rows = tuple(workshop.row(row, recipe, chosen) for row, recipe in expand(plan, chosen))
    first = rows[0].evaluation.provenance
    result = StudyResult(
        name=plan.name if budget == "full" else f"{plan.name}-{budget}",
        title=plan.title,
        paper=plan.paper,
        summary=plan.summary,
        settings=", ".join(f"{name} {value:g}" for name, value in chosen.items()),
        rows=rows,
        search=search,
        findings=findings(plan, rows),
        provenance=watch.provenance(seed=first.seed, device=first.device),
    )
    folder = Path(out) if out else Path("reports") / result.name
    save(result, folder / "results.json")
    return result, report.write(result, folder, command=result.provenance.command)


class Workshop:
    """Trains and judges the rows of one study, loading each dataset once."""

    def __init__(self, plan: StudyPlan, runs: Path, device: str, *, quiet: bool) -> None:
        self._plan, self._runs, self._device, self._quiet = plan, runs, device, quiet
        self._datasets: dict[str, Dataset] = {}

    def search(self) -> Search | None:
        """Try the grid on the validation split; return all trials and the one nearest to the paper's figures."""
        plan = self._plan.search
        if plan is None:
            return None
        row = next(row for row in self._plan.rows if row.name == plan.row)
        trials = tuple(self._trial(row, settings) for settings in plan.points())
        rule = f"least summed distance to the paper's {', '.join(plan.figures)} of the row '{plan.row}'"
        return Search(plan.split, rule, trials, min(trials, key=lambda trial: trial.score).settings)

    def row(self, row: RowPlan, recipe: Recipe, chosen: Settings) -> Row:
        """Train, judge and attack one row as the paper did."""
        fitted, dataset = self._fit(recipe)
        plan = self._plan.evaluation
        threat = THREATS.parse(fill_in(plan.threat, chosen))
        settings = Judgement(repr(threat), plan.attacks, plan.split, plan.examples, plan.curve or None, recipe.seed)
        evaluation, _ = judge(fitted, dataset, settings)
        figures: tuple[Figure, ...] = ()
        sweep: tuple[Curve, ...] = ()
        if plan.protocol:
            measured = self._protocol(fitted.model, dataset, plan.split, threat)
            figures, sweep = _figures(row, measured, evaluation), self._sweep(fitted.model, dataset, threat)
        flags = tuple(flag for curve in sweep if (flag := rising(curve)))
        return Row(
            name=row.name,
            defence=str(recipe.defence),
            recipe=recipe.to_toml(),
            run=fitted.run.path.name,
            figures=figures,
            sweep=sweep,
            training=fitted.run.read_metrics(),
            evaluation=replace(evaluation, model=row.name, flags=evaluation.flags + flags),
        )

    def _fit(self, recipe: Recipe) -> tuple[Fitted, Dataset]:
        name = repr(recipe.data)
        if name not in self._datasets:
            self._datasets[name] = recipe.data.load()
        dataset = self._datasets[name]
        return fit(recipe, runs=self._runs, device=self._device, quiet=self._quiet, dataset=dataset), dataset

    def _trial(self, row: RowPlan, settings: Settings) -> Trial:
        plan = self._plan.search
        assert plan is not None
        recipe = recipe_of(self._plan, row, settings, train_on=plan.train_on)
        fitted, dataset = self._fit(recipe)
        threat = THREATS.parse(fill_in(self._plan.evaluation.threat, settings))
        measured = self._protocol(fitted.model, dataset, plan.split, threat)
        figures = {name: measured[name].value for name in plan.figures}
        return Trial(settings, figures, sum(abs(value - row.published[name]) for name, value in figures.items()))

    def _protocol(self, model: nn.Module, dataset: Dataset, split: str, threat: ThreatModel) -> dict[str, Estimate]:
        """Return the paper's figures as the paper measures them: one attack on every example."""
        given = self._examples(dataset, split)
        x, y = given.images(), given.y
        attack = ATTACKS.parse(self._plan.evaluation.protocol)
        adversarial = confidence(single_attack(attack, model, x, y, threat), y)
        return _named(confidence(predictions(model, x), y), adversarial)

    def _examples(self, dataset: Dataset, split: str) -> Split:
        count, given = self._plan.evaluation.examples, dataset.split(split)
        return given if count is None else given.sample(count, seed=0)

    def _sweep(self, model: nn.Module, dataset: Dataset, threat: ThreatModel) -> tuple[Curve, ...]:
        plan = self._plan.evaluation
        given = self._examples(dataset, plan.split)
        attack = ATTACKS.parse(plan.protocol)
        return (single_attack_curve(attack, model, given.images(), given.y, threat, plan.sweep),) if plan.sweep else ()


def _figures(row: RowPlan, measured: dict[str, Estimate], evaluation: Evaluation) -> tuple[Figure, ...]:
    honest = _named(evaluation.clean_confidence, evaluation.robust_confidence)
    return tuple(
        Figure(name, row.published.get(name), value, honest[name], row.tolerance.get(name))
        for name, value in measured.items()
    )


def _named(clean: Confidence, adversarial: Confidence) -> dict[str, Estimate]:
    return {
        f"{images} {figure}": getattr(of, figure.replace(" ", "_"))
        for images, of in (("clean", clean), ("adversarial", adversarial))
        for figure in FIGURES
    }
