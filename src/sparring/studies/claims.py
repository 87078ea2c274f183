"""A paper's claims, each decided by a figure and its interval: it holds, it does not hold, or nothing is settled."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import Literal

from sparring.core.results import Estimate
from sparring.core.statistics import difference, mcnemar_p, mean, paired_difference, paired_p
from sparring.core.study_results import Figure, Finding, Row, Unit, Verdict
from sparring.studies.plan import ClaimPlan

Column = Literal["compatibility", "mended", "honest"]
HOW: dict[Column, str] = {
    "compatibility": "by the paper's protocol",
    "mended": "by the same attack without its fault",
    "honest": "under the honest attacks",
}

SIGNIFICANT = 0.05
DIGITS = 12  # to which differences of seeds are alike: the last ones are of arithmetic, not of trainings
INFINITE = "some image was never fooled, so that a mean is infinite and decides nothing."


def decide(claim: ClaimPlan, rows: Mapping[str, Row]) -> Finding:
    """Return whether a claim holds: the whole interval on its side of the bound, or of the other figure.

    It does not hold where the whole interval is on the other side, and is not settled where it is on both. A note says
    why there is nothing to decide it by.
    """
    missing = [name for name in dict.fromkeys((claim.row, claim.above, claim.below)) if name and name not in rows]
    if missing:
        return Finding(claim.claim, "note", f"Not tested: no row {' or '.join(map(repr, missing))} in these results.")
    columns: tuple[Column, ...] = ("compatibility", "mended") if claim.column == "mended" else (claim.column,)
    told = [_told(claim, rows, column) for column in columns]
    sentence, verdicts = " ".join(sentence for _, sentence in told), [verdict for verdict, _ in told]
    if "note" in verdicts:
        return Finding(claim.claim, "note", sentence)
    if verdicts == ["holds", "does not hold"]:
        return Finding(claim.claim, "holds only by the paper's protocol", sentence)
    if verdicts[-1] == "holds" != verdicts[0]:
        return Finding(claim.claim, "holds only without the protocol's fault", sentence)
    return Finding(claim.claim, verdicts[-1], sentence)


def _told(claim: ClaimPlan, rows: Mapping[str, Row], column: Column) -> tuple[Verdict, str]:
    """Return the verdict on a claim in one column, and the sentence that says by what."""
    value = _estimate(rows[claim.row], claim.figure, column)
    if value is None or value.n == 0:
        return "note", f"{claim.row}: no image is left on which {claim.figure} could be measured."
    if claim.above or claim.below:
        return _compared(claim, rows, column, value)
    unit = _unit(rows[claim.row], claim.figure)
    told = f"{claim.row}: {claim.figure} {HOW[column]} is {with_interval(value, unit)}; "
    if not _bounded(value):
        return "note", told + (INFINITE if not isfinite(value.value) else "without an interval it decides nothing.")
    bounds = (("at least", claim.at_least), ("at most", claim.at_most))
    asked = " and ".join(f"{word} {number(bound, unit)}" for word, bound in bounds if bound is not None)
    return _within(value, claim.at_least, claim.at_most), f"{told}the claim asks for {asked}."


def _within(value: Estimate, least: float | None, most: float | None) -> Verdict:
    """Return whether a figure is within its bounds, by its whole interval."""
    least, most = -float("inf") if least is None else least, float("inf") if most is None else most
    if least <= value.low and value.high <= most:
        return "holds"
    return "does not hold" if value.high < least or value.low > most else "not settled"


def _bounded(value: Estimate) -> bool:
    return all(map(isfinite, (value.value, value.low, value.high)))


@dataclass(frozen=True)
class _Pair:
    """Two figures in one column, and their differences by the seeds that both rows have."""

    row: Row
    figure: str
    other: Row
    than: str
    column: Column

    @property
    def by_seed(self) -> tuple[dict[int, float], dict[int, float]]:
        """Both figures of the seeds that they share, without those of which one was not measured."""
        found = [_by_seed(self.row, self.figure, self.column), _by_seed(self.other, self.than, self.column)]
        here, there = ({seed: of[seed] for seed in found[0] if seed in found[1]} for of in found)
        return here, there

    @property
    def gaps(self) -> list[float]:
        """The differences, a seed each."""
        here, there = self.by_seed
        return [round(here[seed] - there[seed], DIGITS) for seed in here]

    def shown(self, value: Estimate, row: Row, of: dict[int, float]) -> str:
        """Return a figure as the sentence has it: of the seeds alone that decide."""
        unit = _unit(self.row, self.figure)
        seeds, both = list(of), {repeat.seed for each in (self.row, self.other) for repeat in each.repeats}
        if not seeds or set(seeds) == both:
            return with_interval(value, unit)
        return (
            f"{number(mean(list(of.values())).value, unit)} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
        )

    def difference(self, value: Estimate, against: Estimate) -> tuple[Estimate, str, bool]:
        """Return the difference, what it was tested by, and whether that test finds one.

        By the paired t-test over seeds, or for one by McNemar's test on images; where it is not known which images the
        figures count, by the interval of their difference, if it is known of the same trainings.
        """
        gaps, p = self.gaps, paired_p(self.gaps)
        if not isnan(p):
            return mean(gaps), f"paired t-test over {len(gaps)} seeds, p = {p:.2g}", True
        seeds = f"{len(gaps)} seeds alike" if len(gaps) > 1 else "one seed" if gaps else "no seed in common"
        if gaps and (both := _counted(self.row, self.figure, self.other, self.than, self.column)) is not None:
            gap, p = both
            return gap, f"{seeds}, McNemar's test on {gap.n} images, p = {p:.2g}", p < SIGNIFICANT
        if len(gaps) == 1 < max(len(self.row.repeats), len(self.other.repeats)):
            return Estimate(gaps[0], nan, nan, 1), f"{seeds} in common", False
        return difference(value, against), seeds, len(gaps) < 2  # what is alike says nothing of how far seeds differ


def _compared(claim: ClaimPlan, rows: Mapping[str, Row], column: Column, value: Estimate) -> tuple[Verdict, str]:
    """Decide a claim against another figure."""
    row, other, figure = rows[claim.row], rows[claim.above or claim.below], claim.than or claim.figure
    against, pair, unit = (
        _estimate(other, figure, column),
        _Pair(row, claim.figure, other, figure, column),
        _unit(row, claim.figure),
    )
    if against is None or against.n == 0:
        return "note", f"{other.name}: no image is left on which {figure} could be measured."
    ours, theirs = (pair.shown(v, r, of) for v, r, of in zip((value, against), (row, other), pair.by_seed, strict=True))
    named = f"{other.name}'s {figure}" if figure != claim.figure else other.name
    told = f"{row.name}: {claim.figure} {HOW[column]} is {ours}, {named}: {theirs}"
    if not all(map(isfinite, (*pair.gaps, *(() if pair.gaps else (value.value, against.value))))):
        return "note", f"{told}; {INFINITE}"
    gap, test, found = pair.difference(value, against)
    if not _bounded(gap):
        return "note", f"{told}; {test}: without an interval the difference decides nothing."
    side = gap if claim.above else Estimate(-gap.value, -gap.high, -gap.low, gap.n)
    verdict: Verdict = "not settled"
    if found and not side.low <= 0 <= side.high:
        verdict = "holds" if side.low > 0 else "does not hold"
    return verdict, f"{told}; difference {_gap(gap, unit)}; {test})."


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


def with_interval(value: Estimate, unit: Unit) -> str:
    """Return a figure as a sentence has it, with its interval."""
    ends = "" if isnan(value.low) else f" ({number(value.low, unit)} to {number(value.high, unit)})"
    return f"{number(value.value, unit)}{ends}"


def number(value: float, unit: Unit) -> str:
    """Return a share in per cent, or a number as it is."""
    return f"{value:.1%}" if unit == "share" else f"{value:.3g}"
