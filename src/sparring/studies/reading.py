"""A study read from its TOML file, every name and number in it checked before anything is trained."""

import tomllib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from sparring.core.errors import InputError
from sparring.core.spec import convert, suggest
from sparring.data import Source
from sparring.recipe import Recipe, read_toml
from sparring.studies.checking import check_plan
from sparring.studies.plan import (
    ClaimPlan,
    EvaluationPlan,
    GeometryPlan,
    RowPlan,
    SearchPlan,
    ShownPlan,
    StudyPlan,
)

OF_ROWS = ("attacks", "attacked", "audited", "curve", "distances", "draws")  # what a row may have judged otherwise


def studies() -> dict[str, str]:
    """Return the title of each study that comes with Sparring, by name."""
    files = [f for f in resources.files("sparring.studies").iterdir() if f.name.endswith(".toml")]
    titles = {f.name.removesuffix(".toml"): tomllib.loads(f.read_text())["title"] for f in files}
    return dict(sorted(titles.items()))


def read_plan(study: str, *, budget: str = "full", changes: Mapping[str, object] | None = None) -> StudyPlan:
    """Read a study by name or TOML path, at a budget (`full`, or a table of the file such as `quick`).

    `changes` set fields of its recipe, or of its evaluation. Raises InputError that names the field for anything
    unknown, of a wrong type or out of range.
    """
    raw = {"paper": "", "summary": "", **_shaped(_read(study), study)}
    variant = raw.pop("quick", {})
    if budget == "quick":
        of_rows = variant.pop("rows", {})
        raw = _merge(raw, variant)
        raw["rows"] = _each_merged(raw.get("rows", []), of_rows, study)
    elif budget != "full":
        raise InputError(f"study {study}: unknown budget {budget!r}; there are: full, quick")
    own, changes = _table(raw, "recipe", study), changes or {}
    settable = {**get_type_hints(Recipe), **get_type_hints(EvaluationPlan)}
    for name in changes:
        if name not in settable:
            raise InputError(f"{study}: unknown field {name!r} to set{suggest(name, settable)}")
    of_evaluation = {name: value for name, value in changes.items() if name in get_type_hints(EvaluationPlan)}
    raw["recipe"] = {**own, **{name: value for name, value in changes.items() if name not in of_evaluation}}
    raw["search_data"] = own.get("data", "")  # whatever data was asked for: the paper's figures are on these
    listed = _seeds(raw, study)
    raw["seeds"] = (raw["recipe"]["seed"],) if "seed" in changes else listed
    raw["search_seed"] = listed[0]  # whatever seed was asked for, so that all are trained alike
    tolerance = raw.pop("tolerance", {})
    other = "" if own.get("data") == raw["recipe"].get("data") else _name_of(raw["recipe"]["data"], study)
    of_search = raw.get("search", {}).get("row")
    raw["search_published"] = next(
        (r.get("published", {}) for r in raw.get("rows", ()) if r.get("name") == of_search), {}
    )
    judged = {**_table(raw, "evaluation", study), **of_evaluation}
    raw["rows"] = tuple(_row(row, tolerance, judged, study, other) for row in raw.get("rows", ()))
    raw["evaluation"] = _fill(EvaluationPlan, judged, f"{study}: evaluation")
    raw["search"] = _fill(SearchPlan, raw["search"], f"{study}: search") if "search" in raw else None
    raw["claims"] = tuple(_fill(ClaimPlan, claim, f"{study}: claims") for claim in raw.get("claims", ()))
    if missing := [key for key in TEXTS if key not in _known(raw, StudyPlan, study)]:
        verb = "are" if missing[1:] else "is"
        raise InputError(f'{study}: {" and ".join(missing)} {verb} missing; write at the top {missing[0]} = "..."')
    plan = StudyPlan(**raw)
    check_plan(plan, study)
    return plan


def _seeds(raw: dict[str, Any], study: str) -> tuple[int, ...]:
    """Return the seeds that the study lists, or if it lists none the recipe's."""
    if "seeds" not in raw:
        return (convert(raw["recipe"].get("seed", 0), int, f"{study}: seed"),)
    found: tuple[int, ...] = convert(raw["seeds"], tuple[int, ...], f"{study}: seeds")
    if not found or len(set(found)) < len(found):
        raise InputError(f"{study}: seeds must be one or more different whole numbers, not {list(found)}")
    return found


def _read(study: str) -> dict[str, Any]:
    if study.endswith(".toml"):
        return read_toml(Path(study))
    if study not in studies():
        raise InputError(f"unknown study {study!r}{suggest(study, studies())}")
    return tomllib.loads((resources.files("sparring.studies") / f"{study}.toml").read_text())


TABLES, LISTS, TEXTS = ("quick", "tolerance", "search"), ("rows", "claims"), ("name", "title", "paper", "summary")


def _shaped(raw: dict[str, Any], study: str) -> dict[str, Any]:
    """Return what was read, if tables are tables and texts texts: names within them are checked later."""
    for key, value in raw.items():
        listed = isinstance(value, list) and all(isinstance(each, dict) for each in value)
        for keys, right, what in (
            (TABLES, isinstance(value, dict), f"a table, [{key}]"),
            (LISTS, listed, f"tables, each [[{key}]]"),
            (TEXTS, isinstance(value, str), "text in quotes"),
        ):
            if key in keys and not right:
                raise InputError(f"{study}: {key} must be {what}, not {value!r}")
    return raw


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in over.items() if isinstance(value, dict) and key in base}
    return {**base, **over, **both}


def _each_merged(rows: list[dict[str, Any]], over: dict[str, Any], study: str) -> list[dict[str, Any]]:
    """Return the rows, some of them changed by what `over` says of them by name."""
    names = [row.get("name") for row in rows]
    for name in over:
        if name not in names:
            raise InputError(f"{study}: quick: unknown row {name!r}{suggest(name, map(str, names))}")
    return [_merge(row, over.get(str(row.get("name")), {})) for row in rows]


def _name_of(data: object, study: str) -> str:
    source: Source = convert(data, Source, f"{study}: recipe: data")
    return source.name


def _row(raw: dict[str, Any], tolerance: dict[str, float], judged: dict[str, Any], study: str, other: str) -> RowPlan:
    """Return a row; with `other` data than the file's, only what was published on those stands beside ours.

    What its own table of evaluation says goes before `judged`, the study's.
    """
    tolerance = {**tolerance, **raw.get("tolerance", {})}
    filled = {"recipe": {}, "each": {}, "published": {}, **raw, "tolerance": tolerance}
    hints, where = get_type_hints(RowPlan), f"{study}: row {raw.get('name')!r}"
    for key in ("recipe", "each", "evaluation"):
        if not isinstance(filled.get(key, {}), dict):
            raise InputError(f"{where}: {key} must be a table, not {filled[key]!r}")
    for key in ("seeds", "published", "tolerance", "published_sweep", "published_on", "role"):
        if key in filled:
            filled[key] = convert(filled[key], hints[key], f"{where}: {key}")
    if "evaluation" in filled:
        own = _known_among(filled["evaluation"], OF_ROWS, f"{where}: evaluation")
        filled["evaluation"] = _fill(EvaluationPlan, {**judged, **own}, f"{where}: evaluation")
    if other:
        filled |= {"published": raw.get("published_on", {}).get(other, {}), "published_sweep": {}}
    if not isinstance(filled.get("name"), str):
        raise InputError(f"{study}: rows: each row needs a name in quotes")
    if not isinstance(filled.get("defence", filled.get("generative")), str) or {"defence", "generative"} <= set(filled):
        raise InputError(f"{study}: row {raw['name']!r} needs a defence in quotes, or a generative model")
    return RowPlan(**_known(filled, RowPlan, f"{study}: row {raw['name']!r}"))


def _fill(kind: type[Any], raw: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    values = {}
    for key, value in _known(raw, kind, where).items():
        tables = [value, *value.values()] if key == "shown" and isinstance(value, dict) else [value]
        if key in ("grid", "geometry", "shown") and not all(isinstance(table, dict) for table in tables):
            raise InputError(f"{where}: {key} must be a table, not {value!r}")
        if key == "grid" and not all(isinstance(tried, list) for tried in value.values()):
            raise InputError(f"{where}: grid: each must be a list of the numbers to try, not {value!r}")
        if key == "grid":
            values[key] = {n: convert(tuple(o), tuple[int | float, ...], f"{where}: {n}") for n, o in value.items()}
        elif key == "geometry":
            values[key] = _fill(GeometryPlan, value, f"{where}: geometry")
        elif key == "shown":
            values[key] = {n: _fill(ShownPlan, o, f"{where}: {n}") for n, o in value.items()}
        else:
            values[key] = convert(value, hints[key], f"{where}: {key}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where}: {str(error).split(') ')[-1]}") from None


def _known(raw: dict[str, Any], kind: type[Any], where: str) -> dict[str, Any]:
    return _known_among(raw, get_type_hints(kind), where)


def _known_among(raw: dict[str, Any], fields: Collection[str], where: str) -> dict[str, Any]:
    for key in raw:
        if key not in fields:
            raise InputError(f"{where}: unknown field {key!r}{suggest(key, fields)}")
    return raw


def _table(raw: dict[str, Any], key: str, study: str) -> dict[str, Any]:
    table = raw.get(key)
    if not isinstance(table, dict):
        raise InputError(f"{study}: the table [{key}] is missing")
    return table
