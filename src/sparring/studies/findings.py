"""What follows from a study's rows: the paper's claims, each decided by a figure and its interval."""

from collections.abc import Iterator, Mapping
from math import isfinite, isnan
from typing import Literal

from sparring.core.results import Estimate
from sparring.core.statistics import difference, mcnemar_p, mean, paired_difference, paired_p
from sparring.core.study_results import Figure, Finding, Row, Unit
from sparring.studies.plan import ClaimPlan, StudyPlan

Column = Literal["compatibility", "mended", "honest"]
HOW: dict[Column, str] = {
    "compatibility": "by the paper's protocol",
    "mended": "by the same attack without its fault",
    "honest": "under the honest attacks",
}

SIGNIFICANT = 0.05
GAP = 0.1  # how far the honest figure must fall below the paper's protocol to be worth a sentence


def findings(plan: StudyPlan, rows: tuple[Row, ...]) -> tuple[Finding, ...]:
    """Return the claims' verdicts, which figures came out, and where the paper's own protocol flatters."""
    by_name = {row.name: row for row in rows}
    claims = [
        decide(claim, by_name) for claim in plan.claims if {claim.row, claim.above, claim.below} - {""} <= set(by_name)
    ]
    return (*claims, *(finding for row in rows for finding in (*reproduction(row), *flattery(row))))


def decide(claim: ClaimPlan, rows: Mapping[str, Row]) -> Finding:
    """Return whether the claim holds: the whole interval must be on its side of the bound, or of the other figure."""
    columns: tuple[Column, ...] = ("compatibility", "mended") if claim.column == "mended" else (claim.column,)
    told = [_told(claim, rows, column) for column in columns]
    sentence, held = " ".join(sentence for _, sentence in told), [holds for holds, _ in told]
    if None in held:
        return Finding(claim.claim, "note", sentence)
    if held == [True, False]:
        return Finding(claim.claim, "holds only by the paper's protocol", sentence)
    return Finding(claim.claim, "holds" if held[-1] else "does not hold", sentence)


def _told(claim: ClaimPlan, rows: Mapping[str, Row], column: Column) -> tuple[bool | None, str]:
    """Return whether a claim holds in one column (None: nothing to decide it by), and the sentence that says so."""
    value = _estimate(rows[claim.row], claim.figure, column)
    if value is None or value.n == 0:
        return None, f"{claim.row}: no image is left on which {claim.figure} could be measured."
    if claim.above or claim.below:
        return _compared(claim, rows, column, value)
    holds = (claim.at_least is None or value.low >= claim.at_least) and (
        claim.at_most is None or value.high <= claim.at_most
    )
    bounds = (("at least", claim.at_least), ("at most", claim.at_most))
    unit = _unit(rows[claim.row], claim.figure)
    asked = " and ".join(f"{word} {_number(bound, unit)}" for word, bound in bounds if bound is not None)
    return holds, f"{claim.row}: {claim.figure} {HOW[column]} is {_told_as(value, unit)}; the claim asks for {asked}."


def _compared(claim: ClaimPlan, rows: Mapping[str, Row], column: Column, value: Estimate) -> tuple[bool | None, str]:
    """Decide a claim against another figure: by the paired t-test over seeds, or for one by McNemar's test on images.

    Where it is not known which images the two figures count, the interval of their difference decides.
    """
    row, other, figure = rows[claim.row], rows[claim.above or claim.below], claim.than or claim.figure
    against = _estimate(other, figure, column)
    if against is None or against.n == 0:
        return None, f"{other.name}: no image is left on which {figure} could be measured."
    here, there = _by_seed(row, claim.figure, column), _by_seed(other, figure, column)
    seeds = [seed for seed in here if seed in there]
    pairs = [here[seed] - there[seed] for seed in seeds]
    unit = _unit(row, claim.figure)
    named = f"{other.name}'s {figure}" if figure != claim.figure else other.name
    ours, theirs = _told_as(value, unit), _told_as(against, unit)
    if len(seeds) == 1 < max(len(here), len(there)):  # the means are of other trainings, too
        ours, theirs = (f"{_number(of[seeds[0]], unit)} (seed {seeds[0]})" for of in (here, there))
    told = f"{row.name}: {claim.figure} {HOW[column]} is {ours}, {named}: {theirs}"
    if not all(map(isfinite, pairs)):
        return None, f"{told}; some image was never fooled, so that a mean is infinite and decides nothing."
    if len(pairs) > 1 and not isnan(p := paired_p(pairs)):
        gap, test, sure = mean(pairs), f"paired t-test over {len(pairs)} seeds, p = {p:.2g}", True
    elif (both := _counted(row, claim.figure, other, figure, column)) is not None:
        gap, p = both
        test, sure = f"one seed, McNemar's test on {gap.n} images, p = {p:.2g}", p < SIGNIFICANT
    else:
        alike = len(pairs) > 1  # to the last digit, which says nothing of how far seeds differ
        gap, test, sure = difference(value, against), f"{len(seeds)} seeds alike" if alike else "one seed", not alike
    holds = sure and (gap.low > 0 if claim.above else gap.high < 0)
    return holds, f"{told}; difference {_gap(gap, unit)}; {test})."


def _counted(row: Row, figure: str, other: Row, than: str, column: Column) -> tuple[Estimate, float] | None:
    """Return the paired difference of two shares of the same images, with its p-value; None where it is not known.

    A row holds the arrays of its first seed.
    """
    ours, theirs = row.arrays.get(f"{column}/{figure}"), other.arrays.get(f"{column}/{than}")
    first, of_other = ([repeat.seed for repeat in each.repeats[:1]] for each in (row, other))
    if ours is None or theirs is None or len(ours) != len(theirs) or first != of_other:
        return None
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return paired_difference(only_ours, only_theirs, len(ours)), mcnemar_p(only_ours, only_theirs)


def _gap(gap: Estimate, unit: Unit) -> str:
    if unit == "number":
        return f"{gap.value:+.3g} ({gap.low:+.3g} to {gap.high:+.3g}"
    return f"{100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}"


def _figure(row: Row, name: str) -> Figure | None:
    return next((figure for figure in (*row.figures, *row.adversaries) if figure.name == name), None)


def _unit(row: Row, name: str) -> Unit:
    figure = _figure(row, name)
    return "share" if figure is None else figure.unit


def _estimate(row: Row, name: str, column: Column) -> Estimate | None:
    """Return a figure in one column; None where the row was not judged by it."""
    value: Estimate | None = getattr(_figure(row, name), column, None)
    return value


def _by_seed(row: Row, name: str, column: Column) -> dict[int, float]:
    """Return a figure by seed, without those of which it was not measured."""
    found = {repeat.seed: getattr(repeat, column)[name] for repeat in row.repeats}
    return {seed: value for seed, value in found.items() if not isnan(value)}


def reproduction(row: Row) -> Iterator[Finding]:
    """Say which of the published figures came out within the tolerance stated beforehand."""
    tested = [
        (figure.name, figure.ours, figure.published, figure.reproduced, figure.unit)
        for figure in (*row.figures, *row.adversaries)
        if figure.published is not None and figure.reproduced is not None
    ]
    tested += _sweep(row)
    if not tested:
        return
    missed = [figure for figure in tested if not figure[3]]
    claim = f"{row.name}: the published figures come out by the paper's own protocol"
    if not missed:
        yield Finding(claim, "holds", f"All {len(tested)} figures that were to be met are within their tolerance.")
        return
    told = "; ".join(
        f"{name} {_told_as(value, unit)}, published {_number(published, unit)}"
        for name, value, published, _, unit in missed
    )
    yield Finding(
        claim, "does not hold", f"{len(missed)} of {len(tested)} figures are outside their tolerance: {told}."
    )


def _sweep(row: Row) -> list[tuple[str, Estimate, float, bool, Unit]]:
    """Return each point of the published sweep: its name, ours, the paper's, and whether it came out."""
    if row.sweep_tolerance is None or not row.sweep:
        return []
    ours = {round(point.eps, 9): point.accuracy for point in row.sweep[0].points}
    return [
        (
            f"accuracy at eps {eps:g}",
            ours[eps],
            value,
            abs(ours[eps].value - value) <= row.sweep_tolerance + 1e-12,
            "share",
        )
        for eps, value in row.published_sweep
        if eps in ours
    ]


def flattery(row: Row) -> Iterator[Finding]:
    """Say where the paper's protocol leaves much more than the honest attacks do."""
    for figure in row.figures:
        if figure.name == "adversarial accuracy" and figure.honest is not None:
            ours, honest = figure.compatibility, figure.honest
            if ours.low - honest.high > GAP:
                left, rest = _told_as(ours, "share"), _told_as(honest, "share")
                text = f"The paper's attack leaves {left}; stronger attacks at the same eps leave {rest}."
                yield Finding(f"{row.name}: the figure under the paper's attack is no robustness", "note", text)


def _told_as(value: Estimate, unit: Unit) -> str:
    return f"{_number(value.value, unit)} ({_number(value.low, unit)} to {_number(value.high, unit)})"


def _number(value: float, unit: Unit) -> str:
    return f"{value:.1%}" if unit == "share" else f"{value:.3g}"
