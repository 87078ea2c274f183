"""Where a study's rows are trained and judged: what is finished in the folder of runs is not done again."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sparring.core.study_results import GenerativeRow, Geometry, Row, Search, Trial
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset
from sparring.evaluation.audit import Level
from sparring.recipe import Fitted, Recipe, fit
from sparring.studies.drawing import Drawing
from sparring.studies.expansion import Training, expand, fill_in, recipe_of
from sparring.studies.kept import kept, kept_row
from sparring.studies.measuring import Measure
from sparring.studies.plan import RowPlan, Settings, StudyPlan
from sparring.studies.pooling import pooled_row
from sparring.studies.showing import Labels, Showing
from sparring.studies.surveying import survey

Expanded = Sequence[tuple[RowPlan, tuple[Training, ...]]]


class Workshop:
    """Trains and judges the rows of one study, loading each dataset and each run once."""

    def __init__(self, plan: StudyPlan, runs: Path, device: str, *, quiet: bool) -> None:
        self._plan, self._runs, self._device, self._quiet = plan, runs, device, quiet
        self._datasets: dict[str, Dataset] = {}
        self._fitted: dict[str, Fitted] = {}
        self._clean: dict[tuple[str, str, int], Labels] = {}

    def search(self) -> tuple[Search | None, Settings]:
        """Try the grid on the validation split; return all trials, and the best one's settings."""
        plan = self._plan.search
        if plan is None:
            return None, {}
        points = tuple(plan.points())
        trials = tuple(map(self._trial, points))
        best = min(range(len(trials)), key=lambda place: trials[place].score)
        rule = f"{plan.rule}, on {self._plan.search_data}"
        return Search(plan.split, rule, trials, trials[best].settings), points[best]

    def trials(self) -> list[Recipe]:
        """Return what the search trains."""
        return [self._recipe_of_trial(point) for point in self._plan.search.points()] if self._plan.search else []

    def expanded(self, chosen: Settings) -> Expanded:
        """Return the rows with all their trainings."""
        return expand(self._plan, chosen, self._runs)

    def rows(self, chosen: Settings) -> tuple[Row, ...]:
        """Train every row with every seed, all of them before any is judged, then judge and attack the defences."""
        expanded = self.expanded(chosen)
        for training in (training for _, of_row in expanded for training in of_row):
            self.fit(training.recipe)
        return tuple(
            pooled_row([self.row(chosen, row, training) for training in of_row], [t.seed for t in of_row])
            for row, of_row in expanded
            if row.judged
        )

    def row(self, chosen: Settings, row: RowPlan, training: Training) -> Row:
        """Return what is measured of one training of a row; all others of its seed are trained."""
        expanded, (fitted, dataset) = self.expanded(chosen), self.fit(training.recipe)
        measure = Measure(row.evaluation or self._plan.evaluation, self._threat(chosen))
        seeds = next([t.seed for t in of_row] for other, of_row in expanded if other == row)
        most = measure.plan.audited
        audit: Level = "standard" if most is None or seeds.index(training.seed) < most else "off"
        shown = tuple(self._showing(chosen, training).figures(row)) if measure.plan.shown else ()
        runs = self._adversaries(expanded, training.seed)
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

    def makes(self, chosen: Settings) -> list[tuple[Training, str, str]]:
        """Return what images are made to be shown, and a training of the seed with which they are."""
        judged = [training for row, of_row in self.expanded(chosen) for training in of_row if row.judged]
        first = {training.seed: training for training in reversed(judged)}
        found = [(training, self._showing(chosen, training)) for training in first.values()]
        return [(training, *made) for training, showing in found for made in showing.makes()]

    def make(self, chosen: Settings, training: Training, name: str, source: str) -> None:
        """Make some of them, on the model of the row `source`."""
        self._showing(chosen, training).make(name, source)

    def generatives(self, chosen: Settings) -> tuple[GenerativeRow, ...]:
        """Measure every generative model, trained with the first of its seeds."""
        return tuple(self.generative(chosen, row, of_row[0]) for row, of_row in self.expanded(chosen) if row.generative)

    def generative(self, chosen: Settings, row: RowPlan, training: Training) -> GenerativeRow:
        """Return what is measured of one training of a generative model."""
        looks = self._looks(self.expanded(chosen), training.seed)
        drawing = Drawing(self._plan.evaluation, self._runs, looks)
        fitted, dataset = self.fit(training.recipe)
        facts = (row, self._plan.evaluation, training, dataset.source, looks)
        return kept(fitted.run.path, GenerativeRow, facts, partial(drawing.row, row, training, fitted, dataset))

    def geometries(self, chosen: Settings) -> tuple[Geometry, ...]:
        """Ask of the rows that the plan names, with the first seed of each, where adversarial images lie."""
        asked = self._plan.evaluation.geometry
        rows = [(row, of_row[0]) for row, of_row in self.expanded(chosen) if asked and row.name in asked.on]
        return tuple(self.geometry(chosen, row, training) for row, training in rows)

    def geometry(self, chosen: Settings, row: RowPlan, training: Training) -> Geometry:
        """Ask this of one training of a row."""
        plan, threat = self._plan.evaluation, self._threat(chosen)
        asked = plan.geometry
        assert asked is not None
        fitted, dataset = self.fit(training.recipe)
        facts = (row, plan.draws, plan.split, asked, threat, dataset.source)
        return kept(fitted.run.path, Geometry, facts, partial(survey, row.name, fitted, dataset, plan, asked, threat))

    def fit(self, recipe: Recipe) -> tuple[Fitted, Dataset]:
        """Train what a recipe says, or open its run; return it and the data that it is of."""
        name, text = repr(recipe.data), recipe.to_toml()
        if name not in self._datasets:
            self._datasets[name] = recipe.data.load()
        dataset = self._datasets[name]
        if text not in self._fitted:
            self._fitted[text] = fit(recipe, runs=self._runs, device=self._device, quiet=self._quiet, dataset=dataset)
        return self._fitted[text], dataset

    def _showing(self, chosen: Settings, training: Training) -> Showing:
        """Return what makes and shows images with the models of all rows of this training's seed."""
        these = [(row, t) for row, of_row in self.expanded(chosen) for t in of_row if row.judged]
        beside = {row.name: self.fit(t.recipe)[0] for row, t in these if t.seed == training.seed}
        dataset, threat = self.fit(training.recipe)[1], self._threat(chosen)
        return Showing(self._plan.evaluation, threat, beside, dataset, training.seed, self._clean)

    def _looks(self, expanded: Expanded, seed: int) -> str:
        """Return the run of the classifier in whose features images are compared, with this seed if there is one."""
        name = self._plan.evaluation.features[0]
        of_row = next((trainings for row, trainings in expanded if name and row.name == name), ())
        return next((t.run for t in (*(t for t in of_row if t.seed == seed), *of_row)), "")

    def _adversaries(self, expanded: Expanded, seed: int) -> dict[str, str]:
        """Return by row the run, with this seed, whose learned adversary attacks all."""
        wanted = [(row.name, of_row) for row, of_row in expanded if row.name in self._plan.evaluation.adversaries]
        return {name: training.run for name, of_row in wanted for training in of_row if training.seed == seed}

    def _recipe_of_trial(self, settings: Settings) -> Recipe:
        plan = self._plan.search
        assert plan is not None
        row = next(row for row in self._plan.rows if row.name == plan.row)
        return recipe_of(
            self._plan,
            row,
            settings,
            train_on=plan.train_on,
            seed=self._plan.search_seed,
            data=self._plan.search_data,
        )

    def _trial(self, settings: Settings) -> Trial:
        plan, recipe = self._plan.search, self._recipe_of_trial(settings)
        assert plan is not None
        fitted, dataset = self.fit(recipe)
        measure = Measure(self._plan.evaluation, self._threat(settings))
        measured = measure.protocol(recipe, fitted.model, dataset, plan.split)
        figures = {name: measured[name].value for name in plan.figures}
        numbers = {name: float(value) for name, value in settings.items()}
        return Trial(numbers, figures, plan.score(figures, self._plan.search_published))

    def _threat(self, chosen: Settings) -> ThreatModel:
        return THREATS.parse(fill_in(self._plan.evaluation.threat, chosen))
