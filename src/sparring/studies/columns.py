"""Which figures of a study stand in which columns, and what a claim may ask of them."""

from math import inf

from sparring.core.errors import InputError
from sparring.core.spec import suggest
from sparring.studies.plan import DISTANCES, FOOLED, UNDER, ClaimPlan, EvaluationPlan


def check_claim(claim: ClaimPlan, plan: EvaluationPlan) -> None:
    """Raise InputError for a claim that no figure could decide, or that any would."""
    bounds = {name: value for name in ("at_least", "at_most") if (value := getattr(claim, name)) is not None}
    if bool(claim.above) + bool(claim.below) + bool(bounds) != 1:
        raise InputError("needs one thing to be decided by: above, or below, or a bound (at_least, at_most, or both)")
    for name, value in bounds.items():
        _check_bound(claim.figure, name, value)
    if len(bounds) == 2 and not bounds["at_least"] < bounds["at_most"]:
        raise InputError(f"at_least must be less than at_most: {claim.at_least:g} and {claim.at_most:g}")
    if bounds and claim.than:
        raise InputError("than names the figure of the row that it is above or below; a bound has none")
    other, than = claim.above or claim.below, claim.than or claim.figure
    if (other, than) == (claim.row, claim.figure):
        raise InputError("sets a row against itself; name another row, or by than another figure of the same")
    if (than in DISTANCES) != (claim.figure in DISTANCES):
        raise InputError(f"sets {claim.figure!r} against {than!r}, a share against a distance")
    for figure in (claim.figure, than):
        found = columns(figure, plan)
        if claim.column not in found:
            raise InputError(f"column: {figure!r} is not measured so, {claim.column!r}{suggest(claim.column, found)}")


def _check_bound(figure: str, name: str, value: float) -> None:
    if figure in DISTANCES and not 0 <= value < inf:
        raise InputError(f"{name} must be a number from 0 on, not {value:g}")
    if figure not in DISTANCES and not 0 <= value <= 1:
        raise InputError(f"{name} must be a share, 0 to 1, not {value:g}")


def columns(figure: str, plan: EvaluationPlan) -> tuple[str, ...]:
    """Return the columns in which rows have a figure: of images that are shown, some rows may have the honest one."""
    mended = ("mended",) if plan.statistics == "batch" else ()
    if figure in plan.views:
        return ("compatibility",)
    if figure.removeprefix(UNDER) in plan.adversaries and figure.startswith(UNDER):
        return ("compatibility", *mended)
    for name, shown in plan.shown.items():
        if any(figure.startswith(f"{prefix}{name}") for prefix in (UNDER, FOOLED)):
            return ("compatibility", "honest") if len(shown.on) == 1 else ("compatibility",)
    return ("compatibility", "honest") if figure in DISTANCES else ("compatibility", *mended, "honest")


def shown_names(plan: EvaluationPlan) -> list[str]:
    """Return the names of the images that are shown, each with the row on which they are made if there are several."""
    return [f"{name} of {row}" if len(shown.on) > 1 else name for name, shown in plan.shown.items() for row in shown.on]
