"""The order of rows by robust accuracy, among those that can be compared and whose results can be believed."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sparring.core.study_results import Row
from sparring.report.pairing import better

Way = tuple[str, str, str, tuple[str, ...], tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Ranked:
    """A row's place by robust accuracy; no place where a check failed, there is no figure or it was judged otherwise.

    `close`: nothing tells it from the best, so that their order is chance.
    """

    place: int | None
    index: int
    row: Row
    failed: bool
    close: bool = False


def ranking(rows: Sequence[Row]) -> tuple[Ranked, ...]:
    """Rank the rows that can be compared, ties sharing a place; the others follow, and last those that failed."""
    group = alike(rows)
    names = [id(row) for row in group]
    order = sorted(range(len(rows)), key=lambda i: (id(rows[i]) not in names, failed(rows[i]), -_figure(rows[i])))
    return tuple(_ranked(index, rows[index], group) for index in order)


def _ranked(index: int, row: Row, group: Sequence[Row]) -> Ranked:
    if not any(row is member for member in group):
        return Ranked(None, index, row, failed(row))
    above = sum(_figure(member) > _figure(row) for member in group)
    close = row is not group[0] and not better(group[0], row)
    return Ranked(1 + above, index, row, failed=False, close=close)


def alike(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that can be held against one another, the best first: not failed, and judged as most are.

    None where as many rows faced one threat as another: neither is the usual one then.
    """
    sound = [row for row in rows if trusted(row)]
    threats = Counter(row.evaluation.threat for row in sound).most_common(2)
    if not threats or (len(threats) == 2 and threats[0][1] == threats[1][1]):
        return []
    ways = Counter(way for way in map(judged, sound) if way[0] == threats[0][0])
    usual = max(ways, key=lambda way: (ways[way], -len(way[4]), len(way[3])))  # of as many: the least limited attacks
    return sorted((row for row in sound if judged(row) == usual), key=lambda row: -_figure(row))


def judged(row: Row) -> Way:
    """Return how a row was judged: results that were not judged alike have no order."""
    of = row.evaluation
    return of.threat, of.data, f"{of.split} {of.statistics}", tuple(of.attacked), tuple(sorted(of.means.items()))


def failed(row: Row) -> bool:
    """Say whether a check failed, so that the row's result cannot be trusted."""
    return any(flag.severity == "fail" for flag in row.evaluation.flags)


def trusted(row: Row) -> bool:
    """Say whether the row has a figure, and no check that failed."""
    return not failed(row) and not math.isnan(row.evaluation.robust.value)


def _figure(row: Row) -> float:
    """Return what rows are ranked by: means that differ in a rounding are a tie; no figure is below all."""
    value = row.evaluation.robust.value
    return -math.inf if math.isnan(value) else round(value, 9)
