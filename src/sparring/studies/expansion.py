"""A study's rows as recipes: values of the search and of each row's own list, seeds and earlier runs filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from sparring.core.errors import InputError
from sparring.core.spec import show_number, suggest
from sparring.recipe import RUNS, Recipe, run_of
from sparring.studies.plan import RowPlan, Settings, StudyPlan


@dataclass(frozen=True)
class Training:
    """One training of a row: its seed, its recipe and the name of its run folder."""

    seed: int
    recipe: Recipe
    run: str


def expand(plan: StudyPlan, chosen: Settings, runs: Path = RUNS) -> list[tuple[RowPlan, tuple[Training, ...]]]:
    """Return every row with a training a seed; a row that repeats an earlier row's recipes is left out.

    A row may name the run of an earlier one, trained with the same seed: `{run:standard}`.
    """
    rows: dict[str, tuple[RowPlan, tuple[Training, ...]]] = {}
    known: dict[int, dict[str, str]] = {seed: {} for seed in plan.seeds}
    for row in plan.rows:
        seeds = tuple(seed for seed in row.seeds or plan.seeds if seed in known)
        for values in product(*row.each.values()) if seeds else ():
            settings = {**chosen, **dict(zip(row.each, values, strict=True))}
            named = replace(row, name=fill_in(row.name, settings))
            trainings = []
            for seed in seeds:
                recipe = recipe_of(plan, row, settings, known[seed], seed=seed)
                trainings.append(Training(seed, recipe, run_of(recipe, runs).path.name))
                known[seed][named.name] = trainings[-1].run
            key = "\n".join(training.recipe.to_toml() for training in trainings)
            rows.setdefault(key, (replace(named, defence=str(trainings[0].recipe.defence)), tuple(trainings)))
    return list(rows.values())


def recipe_of(
    plan: StudyPlan, row: RowPlan, settings: Settings, known: Mapping[str, str] | None = None, **fields: object
) -> Recipe:
    """Return the recipe of a row, with the search's values and the `known` rows' runs filled in."""
    merged = {"defence": row.defence, **plan.recipe, **row.recipe, **fields}
    return Recipe.of({name: _filled(value, settings, known) for name, value in merged.items()})


def _filled(value: object, settings: Settings, known: Mapping[str, str] | None) -> object:
    """Return a recipe's field with what it names filled in; a field that is one name alone keeps that value's type."""
    if not isinstance(value, str):
        return value
    alone = value.removeprefix("{").removesuffix("}")
    return settings[alone] if value == f"{{{alone}}}" and alone in settings else fill_in(value, settings, known)


class _Runs:
    """What `{run:row}` stands for, row by row."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    def __format__(self, row: str) -> str:
        if row not in self._known:
            raise InputError(f"{{run:{row}}}: no row above it is so called{suggest(row, self._known)}")
        return self._known[row]


def fill_in(text: str, settings: Settings, known: Mapping[str, str] | None = None) -> str:
    """Put values where `text` names them in braces, such as `linf({eps})`, and runs for `{run:row}`."""
    values = {name: value if isinstance(value, str) else show_number(value) for name, value in settings.items()}
    try:
        return text.format_map({**values, "run": _Runs(known or {})})
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{text!r}: {error} has no value; the study's [search] gives: {', '.join(settings)}") from None
