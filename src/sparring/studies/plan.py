"""A study as its TOML file says it: rows, evaluation, search and claims, checked before anything is trained."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_type_hints

from sparring.core.errors import InputError
from sparring.core.results import NormStatistics
from sparring.core.spec import convert, suggest
from sparring.data import Source
from sparring.data.augment import Augmentation
from sparring.generative.recovery import Recovery
from sparring.recipe import read_toml

Settings = dict[str, float | int | str]
FIGURES = ("accuracy", "confidence", "confidence correct", "confidence error", "ece")
CURVE = "curve"  # a tolerance by this name is that of the published sweep
DISTANCE = "distance"
Norm = Literal["linf", "l2", "l1"]
UNDER = "accuracy under "  # and a row's name: the figure under that row's learned adversary


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One defence: how it is named and trained, and what the paper prints for it.

    A row in the `role` of an adversary is trained for its learned adversary alone, and not judged. One with
    `generative` trains a generative model and no classifier. `seeds`: its own, if it is not trained with all of the
    study's. `published_sweep`: the paper's accuracy by eps. `published_on`: its figures on other data than the study
    file's, by that data's name; where there are none, nothing is set against ours.
    """

    name: str
    recipe: dict[str, object]
    each: dict[str, tuple[float | str, ...]]
    published: dict[str, float]
    tolerance: dict[str, float]
    defence: str = ""
    generative: str = ""
    role: Literal["defence", "adversary"] = "defence"
    seeds: tuple[int, ...] = ()
    published_sweep: dict[str, float] = field(default_factory=dict)
    published_on: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """How every row is judged; `protocol` is the paper's own attack and `sweep` the eps at which it is printed.

    `further_sweep`: eps for a curve of their own, on another scale. `statistics`: those of batch norm in the paper's
    protocol; with "batch", in batches as large as in training, the same attack is also made without that fault.
    `views`: changes of the clean images under which accuracy is measured too, by the names of those figures.
    `distances`: minimal attacks in `distance_norm`; the figure "distance" is the mean at which the first of them fools,
    and honestly the mean of the least. `features`: the row and the layer in whose features generative models are
    compared; `recoveries`: by generative row, how its codes are recovered. `adversaries`: rows whose learned
    adversaries attack every row. `faultless`: figures that the paper measured without that fault all the same.
    `examples` limits all, `attacked` the honest attacks alone.
    """

    threat: str
    attacks: tuple[str, ...]
    curve: tuple[float, ...] = ()
    protocol: str = ""
    sweep: tuple[float, ...] = ()
    further_sweep: tuple[float, ...] = ()
    examples: int | None = None
    attacked: int | None = None
    split: str = "test"
    statistics: NormStatistics = "running"
    adversaries: tuple[str, ...] = ()
    faultless: tuple[str, ...] = ()
    views: dict[str, Augmentation] = field(default_factory=dict)
    distances: tuple[str, ...] = ()
    distance_norm: Norm = "l2"
    features: tuple[str, str] = ("", "")
    recoveries: dict[str, Recovery] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What the paper leaves open: tried on the validation split of the file's data, with the first seed.

    Chosen by the least distance to the paper's figures of a row, or where they are to be as high as may be, by the sum.
    """

    row: str
    figures: tuple[str, ...]
    grid: dict[str, tuple[int | float, ...]]
    aim: Literal["published", "highest"] = "published"
    train_on: str = "train"
    split: str = "validation"

    def points(self) -> Iterator[Settings]:
        """Yield every combination of the grid."""
        for values in product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def score(self, figures: dict[str, float], published: dict[str, float]) -> float:
        """Return how good a trial is; less is better."""
        if self.aim == "highest":
            return -sum(figures.values())
        return sum(abs(value - published[name]) for name, value in figures.items())

    @property
    def rule(self) -> str:
        """How one is chosen, in words."""
        of = f"{', '.join(self.figures)} of the row '{self.row}'"
        return f"highest sum of {of}" if self.aim == "highest" else f"least summed distance to the paper's {of}"


@dataclass(frozen=True, kw_only=True)
class ClaimPlan:
    """A claim, and the figure of a row that decides it: against a bound, or `above` or `below` another row's figure.

    `than` is that other figure, if it is not the same one. In the column "mended" a claim is decided by the paper's
    attack both with and without the faults of its protocol.
    """

    claim: str
    row: str
    figure: str
    column: Literal["compatibility", "mended", "honest"]
    at_least: float | None = None
    at_most: float | None = None
    above: str = ""
    below: str = ""
    than: str = ""


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
    seeds: tuple[int, ...]
    search_seed: int
    search_data: str
    search_published: dict[str, float]


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
    own = _table(raw, "recipe", study)
    raw["recipe"] = {**own, **(changes or {})}
    raw["search_data"] = own.get("data", "")  # whatever data was asked for: the paper's figures are on these
    listed = _seeds(raw, study)
    raw["seeds"] = (raw["recipe"]["seed"],) if "seed" in (changes or {}) else listed
    raw["search_seed"] = listed[0]  # whatever seed was asked for, so that all are trained alike
    tolerance = raw.pop("tolerance", {})
    other = "" if own.get("data") == raw["recipe"].get("data") else _name_of(raw["recipe"]["data"], study)
    of_search = raw.get("search", {}).get("row")
    raw["search_published"] = next(
        (r.get("published", {}) for r in raw.get("rows", ()) if r.get("name") == of_search), {}
    )
    raw["rows"] = tuple(_row(row, tolerance, study, other) for row in raw.get("rows", ()))
    raw["evaluation"] = _fill(EvaluationPlan, _table(raw, "evaluation", study), f"{study}: evaluation")
    raw["search"] = _fill(SearchPlan, raw["search"], f"{study}: search") if "search" in raw else None
    raw["claims"] = tuple(_fill(ClaimPlan, claim, f"{study}: claims") for claim in raw.get("claims", ()))
    plan = StudyPlan(**_known(raw, StudyPlan, study))
    _check_names(plan)
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


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in over.items() if isinstance(value, dict) and key in base}
    return {**base, **over, **both}


def _name_of(data: object, study: str) -> str:
    source: Source = convert(data, Source, f"{study}: recipe: data")
    return source.name


def _row(raw: dict[str, Any], tolerance: dict[str, float], study: str, other: str) -> RowPlan:
    """Return a row; with `other` data than the file's, only what was published on those stands beside ours."""
    own = raw.get("tolerance", {})
    filled = {"recipe": {}, "each": {}, "published": {}, **raw, "tolerance": {**tolerance, **own}}
    filled["seeds"] = tuple(raw.get("seeds", ()))
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
        if key == "grid":
            values[key] = {n: convert(tuple(o), tuple[int | float, ...], f"{where}: {n}") for n, o in value.items()}
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
    known += [f"{UNDER}{name}" for name in plan.evaluation.adversaries]
    known += [*plan.evaluation.views, *([DISTANCE] if plan.evaluation.distances else [])]
    named = [(row.name, f) for row in plan.rows for f in (*row.published, *row.tolerance) if f != CURVE]
    named += [(row.name, f) for row in plan.rows for of in row.published_on.values() for f in of]
    named += [(claim.claim, figure) for claim in plan.claims for figure in (claim.figure, claim.than or claim.figure)]
    named += [("evaluation", figure) for figure in plan.evaluation.faultless]
    named += [("search", figure) for figure in (plan.search.figures if plan.search else ())]
    for where, figure in named:
        if figure not in known:
            raise InputError(f"{plan.name}: {where}: unknown figure {figure!r}{suggest(figure, known)}")
    rows = [row.name for row in plan.rows]
    wanted = [name for claim in plan.claims for name in (claim.row, claim.above, claim.below) if name]
    wanted += [*plan.evaluation.recoveries, *(name for name in plan.evaluation.features[:1] if name)]
    wanted += [*plan.evaluation.adversaries, *([plan.search.row] if plan.search else [])]
    for name in wanted:
        if name not in rows:
            raise InputError(f"{plan.name}: unknown row {name!r}{suggest(name, rows)}")
