"""A study's rows as recipes: values of the search and of each row's own list, seeds and earlier runs filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from sparring.core.errors import InputError
from sparring.core.spec import show_number, suggest
from sparring.recipe import OF_CLASSIFIERS, RUNS, Recipe, run_of
from sparring.studies.plan import RowPlan, Settings, StudyPlan


@dataclass(frozen=True)
class Training:
    """One training of a row: its seed, its recipe and the name of its run folder."""

    seed: int
    recipe: Recipe
    run: str


def expand(plan: StudyPlan, chosen: Settings, runs: Path = RUNS) -> list[tuple[RowPlan, tuple[Training, ...]]]:
    """Return every row with a training a seed; a row that repeats an earlier row's recipes is left out.

    A row may name the run of an earlier one, trained with the same seed: `{run:standard}`. A generative model that is
    trained with seeds of its own serves all others with the first of them.
    """
    rows: dict[str, tuple[RowPlan, tuple[Training, ...]]] = {}
    known: dict[int, dict[str, str]] = {seed: {} for seed in plan.seeds}
    common: dict[str, str] = {}  # of seeds that generative models alone are trained with
    for row in plan.rows:
        seeds = tuple(seed for seed in row.seeds or plan.seeds if seed in known or row.generative)
        for values in product(*row.each.values()) if seeds else ():
            settings = {**chosen, **dict(zip(row.each, values, strict=True))}
            named = replace(row, name=fill_in(row.name, settings), **_in_series(row, values))
            trainings = []
            for seed in seeds:
                recipe = recipe_of(plan, row, settings, known.get(seed, common), seed=seed)
                trainings.append(Training(seed, recipe, run_of(recipe, runs).path.name))
                known.get(seed, common)[named.name] = trainings[-1].run
            for of_seed in (common, *known.values()) if row.generative else ():
                of_seed.setdefault(named.name, trainings[0].run)
            key = "\n".join(training.recipe.to_toml() for training in trainings)
            rows.setdefault(key, (_written_out(named, trainings[0].recipe), tuple(trainings)))
    return list(rows.values())


def _in_series(row: RowPlan, values: tuple[float | str, ...]) -> dict[str, Any]:
    """Return the series that a row belongs to, and its place there, if one number alone sets it apart."""
    alone = len(values) == 1 and not isinstance(values[0], str)
    return {"series": row.name, "at": float(values[0])} if alone else {}


def recipe_of(
    plan: StudyPlan, row: RowPlan, settings: Settings, known: Mapping[str, str] | None = None, **fields: object
) -> Recipe:
    """Return the recipe of a row, with the search's values and the `known` rows' runs filled in."""
    shared = {name: value for name, value in plan.recipe.items() if not row.generative or name not in OF_CLASSIFIERS}
    merged = {_trained(row): row.defence or row.generative, **shared, **row.recipe, **fields}
    return Recipe.of({name: _filled(value, settings, known) for name, value in merged.items()})


def _written_out(row: RowPlan, recipe: Recipe) -> RowPlan:
    """Return the row with what it trains as its recipe has it, every argument filled in."""
    call = str(recipe.trainable)
    return replace(row, generative=call) if row.generative else replace(row, defence=call)


def _trained(row: RowPlan) -> str:
    return "generative" if row.generative else "defence"


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
