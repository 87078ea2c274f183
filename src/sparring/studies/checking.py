"""What a study's file says, checked before anything is trained: every call, every number, and every name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import inf
from string import Formatter

from sparring.attacks import ATTACKS
from sparring.core.errors import InputError, naming
from sparring.core.spec import suggest
from sparring.core.threat import THREATS, ThreatModel
from sparring.studies.columns import check_claim, shown_names
from sparring.studies.expansion import fill_in, recipe_of
from sparring.studies.plan import (
    CURVE,
    DISTANCES,
    FIGURES,
    FOOLED,
    UNDER,
    EvaluationPlan,
    RowPlan,
    SearchPlan,
    Settings,
    StudyPlan,
)

SPLITS = ("train", "validation", "test", "train+validation")
RUN = "run-0000000000"  # stands for an earlier row's, which is not trained yet


def check_plan(plan: StudyPlan, study: str) -> None:
    """Raise InputError, naming the file, the row and the field, for what cannot be run or means nothing."""
    if not plan.rows:
        raise InputError(f"{study}: there is no row; write one or more, each [[rows]]")
    for row in plan.rows:
        _check_each(row, f"{study}: row {row.name!r}")
    _check_names(plan, study)
    _check_search(plan, study)
    points = tuple(plan.search.points()) if plan.search else ({},)
    _check_evaluation(plan.evaluation, points, f"{study}: evaluation")
    for row in plan.rows:
        where = f"{study}: row {row.name!r}"
        _check_published(row, where)
        if row.evaluation:
            _check_evaluation(row.evaluation, points, f"{where}: evaluation")
    _check_recipes(plan, points, study)
    if plan.search:
        _check_trials(plan, plan.search, study)
    for claim in plan.claims:
        with naming(f"{study}: claim {claim.claim!r}"):
            check_claim(claim, plan.evaluation)


# --------------------------------------------------------------------------------------------------------- evaluation


def _check_evaluation(plan: EvaluationPlan, points: Sequence[Settings], where: str) -> None:
    """Check how rows are judged: its attacks and threats, counts, splits and eps."""
    if not plan.attacks:
        raise InputError(f"{where}: attacks: name one or more, such as {ATTACKS.example()}")
    for point in points:
        with naming(f"{where}: threat"):
            threat = THREATS.parse(fill_in(plan.threat, point))
        _check_eps(plan, threat, where)
    calls = {"attacks": plan.attacks, "distances": plan.distances, "protocol": (plan.protocol,) * bool(plan.protocol)}
    for name, attacks in calls.items():
        _check_attacks(attacks, f"{where}: {name}")
    for call in plan.distances:
        if ATTACKS.parse(call).kind != "minimal":
            raise InputError(f"{where}: distances: {call} looks within an eps, not for the nearest image that fools")
    _check_counts({"examples": plan.examples, "attacked": plan.attacked, "draws": plan.draws}, where)
    _check_counts({"audited": plan.audited}, where, least=0)
    _check_split(plan.split, where)
    _check_images(plan, where)


def _check_images(plan: EvaluationPlan, where: str) -> None:
    """Check what is shown to rows, and what is asked of where adversarial images lie."""
    for name, shown in plan.shown.items():
        _check_attacks((shown.attack,), f"{where}: shown: {name}: attack")
        _check_threat(shown.threat, f"{where}: shown: {name}: threat")
        _check_counts({"examples": shown.examples}, f"{where}: shown: {name}")
    if asked := plan.geometry:
        _check_attacks(asked.attacks, f"{where}: geometry: attacks")
        _check_threat(asked.threat, f"{where}: geometry: threat")
        _check_counts({"examples": asked.examples, "reference": asked.reference}, f"{where}: geometry")


def _check_attacks(calls: Sequence[str], where: str) -> None:
    for call in calls:
        with naming(where):
            ATTACKS.parse(call)


def _check_threat(call: str, where: str) -> None:
    with naming(where):
        if call:
            THREATS.parse(call)


def _check_counts(counts: Mapping[str, int | None], where: str, least: int = 1) -> None:
    for name, count in counts.items():
        if count is not None and count < least:
            raise InputError(f"{where}: {name} must be at least {least}, not {count}")


def _check_split(split: str, where: str) -> None:
    if split not in SPLITS:
        raise InputError(f"{where}: unknown split {split!r}{suggest(split, SPLITS)}")


def _check_eps(plan: EvaluationPlan, threat: ThreatModel, where: str) -> None:
    """Check the eps of every curve: each must be one of the threat's norm."""
    for name in ("curve", "sweep", "further_sweep"):
        for eps in getattr(plan, name) or ():
            with naming(f"{where}: {name}"):
                if not 0 < eps < inf:
                    raise InputError(f"an eps is a number above 0, not {eps}")
                replace(threat, eps=eps)


# -------------------------------------------------------------------------------------------------- rows and search


def _check_published(row: RowPlan, where: str) -> None:
    """Check a paper's figures: shares must be between 0 and 1, and what is no share above 0."""
    named = [("published", row.published), *((f"published_on: {data}", of) for data, of in row.published_on.items())]
    for field, figures in named:
        for name, value in figures.items():
            _check_figure(name, value, f"{where}: {field}: {name}")
    for name, value in row.tolerance.items():
        if not 0 <= value < inf:
            raise InputError(f"{where}: tolerance: {name} must be a number from 0 on, not {value}")
    for eps, value in row.published_sweep.items():
        if not 0 < _number(eps) < inf:
            raise InputError(f"{where}: published_sweep: {eps!r} is no eps, a number above 0 in quotes")
        _check_figure(UNDER, value, f"{where}: published_sweep: {eps}")


def _check_figure(name: str, value: float, where: str) -> None:
    if not 0 <= value < inf or (name not in DISTANCES and value > 1):
        hint = f"; did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        what = "a number from 0 on" if name in DISTANCES else "a share, 0 to 1"
        raise InputError(f"{where}: must be {what}, not {value}{hint}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0  # which is no eps


def _check_recipes(plan: StudyPlan, points: Sequence[Settings], study: str) -> None:
    """Make the recipe of every row, at every point of the search and with every value of its own."""
    known: dict[str, str] = {}
    for row in plan.rows:
        where = f"{study}: row {row.name!r}"
        settings = [{**p, **dict(zip(row.each, v, strict=True))} for p in points for v in product(*row.each.values())]
        with naming(where):
            names = {fill_in(row.name, each) for each in settings}
            for each in settings:
                recipe_of(plan, row, each, known, seed=plan.seeds[0])
        for name in names & set(known):
            raise InputError(f"{study}: two rows are called {name!r}; a row's name must be its own")
        known |= dict.fromkeys(names, RUN)


def _check_each(row: RowPlan, where: str) -> None:
    for name, values in row.each.items():
        if (
            not isinstance(values, list | tuple)
            or not values
            or not all(isinstance(v, int | float | str) for v in values)
        ):
            raise InputError(f"{where}: each: {name} must be a list of numbers or texts, not {values!r}")


def _check_search(plan: StudyPlan, study: str) -> None:
    """Check what the search tries, measures and sets that against."""
    search = plan.search
    if search is None:
        return
    where, row = f"{study}: search", next((row for row in plan.rows if row.name == search.row), None)
    if row is None:
        raise InputError(f"{where}: row {search.row!r} is one of several values; the search needs a row without 'each'")
    _check_split(search.split, where)
    if search.split == "test":
        raise InputError(f"{where}: split: nothing is chosen on the test split; use validation")
    for name, values in search.grid.items():
        if not values:
            raise InputError(f"{where}: grid: {name} has no value to try")
    for figure in search.figures:
        if figure not in _of_protocol(plan.evaluation):
            raise InputError(
                f"{where}: figures: {figure!r} is not measured in a search, only the protocol's figures are"
            )
        if search.aim == "published" and figure not in plan.search_published:
            raise InputError(
                f"{where}: row {row.name!r} has no published {figure!r} to come near; or set aim='highest'"
            )


def _check_trials(plan: StudyPlan, search: SearchPlan, study: str) -> None:
    """Make the recipe of every trial of the search."""
    row = next(row for row in plan.rows if row.name == search.row)
    for point in search.points():
        with naming(f"{study}: search"):
            recipe_of(plan, row, point, train_on=search.train_on, seed=plan.search_seed, data=plan.search_data)


# ------------------------------------------------------------------------------------------------------------- names


def _of_protocol(plan: EvaluationPlan) -> list[str]:
    return [f"{name} {figure}" for name in ("clean", "adversarial") for figure in FIGURES if plan.protocol]


def _check_names(plan: StudyPlan, study: str) -> None:
    """Check that every figure and every row that is named is there."""
    known = _of_protocol(plan.evaluation) + [f"{UNDER}{name}" for name in plan.evaluation.adversaries]
    known += [f"{figure}{name}" for name in shown_names(plan.evaluation) for figure in (UNDER, FOOLED)]
    known += [*plan.evaluation.views, *(DISTANCES if plan.evaluation.distances else ())]
    for where, figure in _figures_named(plan):
        if figure not in known:
            hint = suggest(figure, known) if plan.evaluation.protocol else "; set [evaluation] protocol, an attack"
            raise InputError(f"{study}: {where}: unknown figure {figure!r}{hint}")
    rows = [name for row in plan.rows for name in _names(row)]
    for name in (*_rows_named(plan), *_rows_of_claims(plan)):
        if name not in rows:
            raise InputError(f"{study}: unknown row {name!r}{suggest(name, rows)}")
    for name in set(_rows_of_claims(plan)) - {name for row in plan.rows if row.judged for name in _names(row)}:
        raise InputError(f"{study}: claims: the row {name!r} is trained for others and is not judged")


def _figures_named(plan: StudyPlan) -> list[tuple[str, str]]:
    """Return the figures that the file names, each with where."""
    named = [(row.name, f) for row in plan.rows for f in (*row.published, *row.tolerance) if f != CURVE]
    named += [(row.name, f) for row in plan.rows for of in row.published_on.values() for f in of]
    named += [(claim.claim, figure) for claim in plan.claims for figure in (claim.figure, claim.than or claim.figure)]
    named += [("evaluation", figure) for figure in plan.evaluation.faultless]
    return named + [("search", figure) for figure in (plan.search.figures if plan.search else ())]


def _rows_named(plan: StudyPlan) -> list[str]:
    of = plan.evaluation
    wanted = [*of.recoveries, *(name for name in of.features[:1] if name)]
    wanted += [name for shown in of.shown.values() for name in (*shown.on, *(shown.adaptive or ()))]
    wanted += of.geometry.on if of.geometry else ()
    return [*wanted, *of.adversaries, *([plan.search.row] if plan.search else [])]


def _rows_of_claims(plan: StudyPlan) -> list[str]:
    return [name for claim in plan.claims for name in (claim.row, claim.above, claim.below) if name]


def _names(row: RowPlan) -> list[str]:
    """Return what a row is called: as it stands, and if it names nothing but its own values, with each filled in."""
    own = {name for _, name, *_ in Formatter().parse(row.name) if name}
    if not own or not own <= set(row.each):
        return [row.name]
    each = [dict(zip(row.each, values, strict=True)) for values in product(*row.each.values())]
    return [row.name, *(fill_in(row.name, values) for values in each)]
