"""Run a study: train what has no finished run, evaluate, and write `results.json` and `report.html`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sparring import report
from sparring.core.records import save
from sparring.core.study_results import GenerativeRow, Geometry, Row, Search, StudyResult, Trial
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset
from sparring.evaluation.audit import Level
from sparring.evaluation.provenance import Stopwatch
from sparring.recipe import RUNS, Fitted, Recipe, fit
from sparring.studies.drawing import Drawing
from sparring.studies.expansion import Training, expand, fill_in, recipe_of
from sparring.studies.findings import findings
from sparring.studies.joining import joined
from sparring.studies.kept import kept, kept_row
from sparring.studies.measuring import Measure
from sparring.studies.plan import RowPlan, Settings, StudyPlan
from sparring.studies.pooling import pooled_row
from sparring.studies.reading import read_plan
from sparring.studies.showing import Labels, Showing
from sparring.studies.surveying import survey


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
    search, chosen = workshop.search()
    geometries = workshop.geometries(chosen)  # first, for a layer that does not exist must not come out at the end
    rows = workshop.rows(chosen)
    made = [row.evaluation.provenance for row in rows]  # none where all rows are generative models
    first_seed, device_used = (made[0].seed, made[0].device) if made else (plan.seeds[0], device)
    result = StudyResult(
        name=_name(plan, budget),
        title=plan.title,
        paper=plan.paper,
        summary=plan.summary,
        settings=", ".join(f"{name} {value:g}" for name, value in search.chosen.items()) if search else "",
        rows=rows,
        generatives=workshop.generatives(chosen),
        geometries=geometries,
        search=search,
        findings=findings(plan, rows),
        provenance=watch.provenance(seed=first_seed, device=device_used),
    )
    return _written(result, out)


def join_study(
    study: str,
    places: Sequence[Path],
    *,
    budget: str = "full",
    changes: Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> tuple[StudyResult, Path]:
    """Join the results of single seeds, folders or files; return the whole and the report, as `run_study` does."""
    plan = read_plan(study, budget=budget, changes=changes)
    return _written(joined(plan, places, _name(plan, budget)), out)


def _name(plan: StudyPlan, budget: str) -> str:
    return plan.name if budget == "full" else f"{plan.name}-{budget}"


def _written(result: StudyResult, out: str | Path | None) -> tuple[StudyResult, Path]:
    folder = Path(out) if out else Path("reports") / result.name
    save(result, folder / "results.json")
    return result, report.write(result, folder, command=result.provenance.command)


class Workshop:
    """Trains and judges the rows of one study, loading each dataset once."""

    def __init__(self, plan: StudyPlan, runs: Path, device: str, *, quiet: bool) -> None:
        self._plan, self._runs, self._device, self._quiet = plan, runs, device, quiet
        self._datasets: dict[str, Dataset] = {}
        self._clean: dict[tuple[str, str, int], Labels] = {}

    def search(self) -> tuple[Search | None, Settings]:
        """Try the grid on the validation split; return all trials, and the best one's settings."""
        plan = self._plan.search
        if plan is None:
            return None, {}
        row = next(row for row in self._plan.rows if row.name == plan.row)
        points = tuple(plan.points())
        trials = tuple(self._trial(row, settings) for settings in points)
        best = min(range(len(trials)), key=lambda place: trials[place].score)
        rule = f"{plan.rule}, on {self._plan.search_data}"
        return Search(plan.split, rule, trials, trials[best].settings), points[best]

    def rows(self, chosen: Settings) -> tuple[Row, ...]:
        """Train every row with every seed, all of them before any is judged, then judge and attack the defences."""
        expanded = expand(self._plan, chosen, self._runs)
        fitted = {training.run: self._fit(training.recipe) for _, of_row in expanded for training in of_row}
        threat = self._threat(chosen)
        judged = [(row, of_row) for row, of_row in expanded if row.role == "defence" and not row.generative]
        runs = self._adversaries(expanded)
        rows = []
        for row, trainings in judged:
            measure, each = Measure(row.evaluation or self._plan.evaluation, threat), []
            for place, training in enumerate(trainings):
                beside = {other.name: fitted[t.run][0] for other, of in judged for t in of if t.seed == training.seed}
                of_seed, most = runs.get(training.seed, {}), measure.plan.audited
                audit: Level = "standard" if most is None or place < most else "off"
                each.append(self._measured(measure, row, training, *fitted[training.run], of_seed, beside, audit))
            rows.append(pooled_row(each, [training.seed for training in trainings]))
        return tuple(rows)

    def _measured(
        self,
        measure: Measure,
        row: RowPlan,
        training: Training,
        fitted: Fitted,
        dataset: Dataset,
        runs: dict[str, str],
        beside: dict[str, Fitted],
        audit: Level,
    ) -> Row:
        shown = tuple(Showing(measure.plan, measure.threat, beside, dataset, training.seed, self._clean).figures(row))
        return kept_row(
            fitted.run.path,
            row,
            measure.plan,
            repr(measure.threat),
            dataset.source,
            runs,
            shown,
            audit,
            lambda: measure.row(row, training, fitted, dataset, runs, shown, audit),
        )

    def generatives(self, chosen: Settings) -> tuple[GenerativeRow, ...]:
        """Train every generative model with each of its seeds, and measure those of the first."""
        found = []
        expanded = expand(self._plan, chosen, self._runs)
        for row, trainings in expanded:
            if row.generative:
                first = trainings[0]
                looks = self._looks(expanded, first.seed)
                drawing = Drawing(self._plan.evaluation, self._runs, looks)
                fitted, dataset = self._fit(first.recipe)
                facts = (row, self._plan.evaluation, first, dataset.source, looks)
                measure = partial(drawing.row, row, first, fitted, dataset)
                found.append(kept(fitted.run.path, GenerativeRow, facts, measure))
        return tuple(found)

    def geometries(self, chosen: Settings) -> tuple[Geometry, ...]:
        """Ask of the rows that the plan names, with the first seed of each, where adversarial images lie."""
        asked = self._plan.evaluation.geometry
        if asked is None:
            return ()
        found, threat = [], self._threat(chosen)
        for row, of in expand(self._plan, chosen, self._runs):
            if row.name in asked.on:
                fitted, dataset = self._fit(of[0].recipe)
                facts = (row, self._plan.evaluation.draws, self._plan.evaluation.split, asked, threat, dataset.source)
                measure = partial(survey, row.name, fitted, dataset, self._plan.evaluation, asked, threat)
                found.append(kept(fitted.run.path, Geometry, facts, measure))
        return tuple(found)

    def _looks(self, expanded: Sequence[tuple[RowPlan, Sequence[Training]]], seed: int) -> str:
        """Return the run of the classifier in whose features images are compared, with this seed if there is one."""
        name = self._plan.evaluation.features[0]
        of_row = next((trainings for row, trainings in expanded if name and row.name == name), ())
        return next((t.run for t in (*(t for t in of_row if t.seed == seed), *of_row)), "")

    def _adversaries(self, expanded: Sequence[tuple[RowPlan, Sequence[Training]]]) -> dict[int, dict[str, str]]:
        """Return by seed, and by row, the run whose learned adversary attacks all."""
        wanted: dict[int, dict[str, str]] = {}
        for row, trainings in expanded:
            if row.name in self._plan.evaluation.adversaries:
                for training in trainings:
                    wanted.setdefault(training.seed, {})[row.name] = training.run
        return wanted

    def _fit(self, recipe: Recipe) -> tuple[Fitted, Dataset]:
        name = repr(recipe.data)
        if name not in self._datasets:
            self._datasets[name] = recipe.data.load()
        dataset = self._datasets[name]
        return fit(recipe, runs=self._runs, device=self._device, quiet=self._quiet, dataset=dataset), dataset

    def _trial(self, row: RowPlan, settings: Settings) -> Trial:
        plan = self._plan.search
        assert plan is not None
        recipe = recipe_of(
            self._plan,
            row,
            settings,
            train_on=plan.train_on,
            seed=self._plan.search_seed,
            data=self._plan.search_data,
        )
        fitted, dataset = self._fit(recipe)
        measure = Measure(self._plan.evaluation, self._threat(settings))
        measured = measure.protocol(recipe, fitted.model, dataset, plan.split)
        figures = {name: measured[name].value for name in plan.figures}
        numbers = {name: float(value) for name, value in settings.items()}
        return Trial(numbers, figures, plan.score(figures, self._plan.search_published))

    def _threat(self, chosen: Settings) -> ThreatModel:
        return THREATS.parse(fill_in(self._plan.evaluation.threat, chosen))
