"""A study as its TOML file says it: rows, evaluation, search and claims, checked before anything is trained."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_type_hints

from sparring.core.errors import InputError
from sparring.core.spec import convert, show_number, suggest
from sparring.recipe import Recipe, read_toml

Settings = dict[str, float]
FIGURES = ("accuracy", "confidence", "confidence correct", "confidence error")
COLUMNS = ("compatibility", "honest")


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One defence: how it is named and trained, and what the paper prints for it."""

    name: str
    defence: str
    recipe: dict[str, object]
    each: dict[str, tuple[float, ...]]
    published: dict[str, float]
    tolerance: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """How every row is judged; `protocol` is the paper's own attack and `sweep` the eps at which it is printed."""

    threat: str
    attacks: tuple[str, ...]
    curve: tuple[float, ...] = ()
    protocol: str = ""
    sweep: tuple[float, ...] = ()
    examples: int | None = None
    split: str = "test"


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What the paper leaves open: tried on the validation split, chosen by the least distance to its figures."""

    row: str
    figures: tuple[str, ...]
    grid: dict[str, tuple[float, ...]]
    train_on: str = "train"
    split: str = "validation"

    def points(self) -> Iterator[Settings]:
        """Yield every combination of the grid."""
        for values in product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class ClaimPlan:
    """A claim, and the figure that decides it."""

    claim: str
    row: str
    figure: str
    column: Literal["compatibility", "honest"]
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A whole study."""

    name: str
    title: str
    paper: str
    summary: str
    recipe: dict[str, object]
    evaluation: EvaluationPlan
    rows: tuple[RowPlan, ...]
    search: SearchPlan | None
    claims: tuple[ClaimPlan, ...]


def studies() -> dict[str, str]:
    """Return the title of each study that comes with Sparring, by name."""
    files = sorted(resources.files("sparring.studies").iterdir(), key=lambda file: file.name)
    return {
        f.name.removesuffix(".toml"): tomllib.loads(f.read_text())["title"] for f in files if f.name.endswith(".toml")
    }


def read_plan(study: str, *, budget: str = "full", changes: Mapping[str, object] | None = None) -> StudyPlan:
    """Read a study by name or TOML path, at a budget (`full`, or a table of the file such as `quick`).

    `changes` set fields of its recipe. Raises InputError that names the field for anything unknown or of a wrong type.
    """
    raw = _read(study)
    variant = raw.pop("quick", {})
    if budget == "quick":
        raw = _merge(raw, variant)
    elif budget != "full":
        raise InputError(f"study {study}: unknown budget {budget!r}; there are: full, quick")
    raw["recipe"] = {**_table(raw, "recipe", study), **(changes or {})}
    tolerance = raw.pop("tolerance", {})
    raw["rows"] = tuple(_row(row, tolerance, study) for row in raw.get("rows", ()))
    raw["evaluation"] = _fill(EvaluationPlan, _table(raw, "evaluation", study), f"{study}: evaluation")
    raw["search"] = _fill(SearchPlan, raw["search"], f"{study}: search") if "search" in raw else None
    raw["claims"] = tuple(_fill(ClaimPlan, claim, f"{study}: claims") for claim in raw.get("claims", ()))
    plan = StudyPlan(**_known(raw, StudyPlan, study))
    _check_names(plan)
    return plan


def expand(plan: StudyPlan, chosen: Settings) -> list[tuple[RowPlan, Recipe]]:
    """Return every row with its recipe; a row that repeats an earlier recipe is left out."""
    rows: dict[str, tuple[RowPlan, Recipe]] = {}
    for row in plan.rows:
        for values in product(*row.each.values()):
            settings = {**chosen, **dict(zip(row.each, values, strict=True))}
            named = replace(row, name=fill_in(row.name, settings), defence=fill_in(row.defence, settings))
            recipe = recipe_of(plan, named, settings)
            rows.setdefault(recipe.to_toml(), (named, recipe))
    return list(rows.values())


def recipe_of(plan: StudyPlan, row: RowPlan, settings: Settings, **fields: str) -> Recipe:
    """Return the recipe of a row, with the search's values filled in."""
    merged = {"defence": row.defence, **plan.recipe, **row.recipe, **fields}
    return Recipe.of({name: fill_in(v, settings) if isinstance(v, str) else v for name, v in merged.items()})


def fill_in(text: str, settings: Settings) -> str:
    """Put values where `text` names them in braces, such as `linf({eps})`."""
    try:
        return text.format_map({name: show_number(value) for name, value in settings.items()})
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{text!r}: {error} has no value; the study's [search] gives: {', '.join(settings)}") from None


def _read(study: str) -> dict[str, Any]:
    if study.endswith(".toml"):
        return read_toml(Path(study))
    if study not in studies():
        raise InputError(f"unknown study {study!r}{suggest(study, studies())}")
    return tomllib.loads((resources.files("sparring.studies") / f"{study}.toml").read_text())


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in over.items() if isinstance(value, dict) and key in base}
    return {**base, **over, **both}


def _row(raw: dict[str, Any], tolerance: dict[str, float], study: str) -> RowPlan:
    own = raw.get("tolerance", {})
    filled = {"recipe": {}, "each": {}, "published": {}, **raw, "tolerance": {**tolerance, **own}}
    for key in ("name", "defence"):
        if not isinstance(filled.get(key), str):
            raise InputError(f"{study}: rows: each row needs a {key} in quotes")
    return RowPlan(**_known(filled, RowPlan, f"{study}: row {raw['name']!r}"))


def _fill(kind: type[Any], raw: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    values = {}
    for key, value in _known(raw, kind, where).items():
        if key == "grid":
            values[key] = {name: tuple(map(float, options)) for name, options in value.items()}
        else:
            values[key] = convert(value, hints[key], f"{where}: {key}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where}: {str(error).split(') ')[-1]}") from None


def _known(raw: dict[str, Any], kind: type[Any], where: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    for key in raw:
        if key not in hints:
            raise InputError(f"{where}: unknown field {key!r}{suggest(key, hints)}")
    return raw


def _table(raw: dict[str, Any], key: str, study: str) -> dict[str, Any]:
    table = raw.get(key)
    if not isinstance(table, dict):
        raise InputError(f"{study}: the table [{key}] is missing")
    return table


def _check_names(plan: StudyPlan) -> None:
    known = [f"{images} {figure}" for images in ("clean", "adversarial") for figure in FIGURES]
    named = [(row.name, figure) for row in plan.rows for figure in (*row.published, *row.tolerance)]
    named += [(claim.claim, claim.figure) for claim in plan.claims]
    named += [("search", figure) for figure in (plan.search.figures if plan.search else ())]
    for where, figure in named:
        if figure not in known:
            raise InputError(f"{plan.name}: {where}: unknown figure {figure!r}{suggest(figure, known)}")
    rows = [row.name for row in plan.rows]
    for name in [claim.row for claim in plan.claims] + ([plan.search.row] if plan.search else []):
        if name not in rows:
            raise InputError(f"{plan.name}: unknown row {name!r}{suggest(name, rows)}")
