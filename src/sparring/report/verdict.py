"""The answer at a glance: which defence to trust, and what stands against trusting a result."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sparring.core.results import Estimate, Flag
from sparring.core.study_results import Row
from sparring.report import format


@dataclass(frozen=True)
class Ranked:
    """A row's place by robust accuracy; no place where a check failed or there is no figure."""

    place: int | None
    index: int
    row: Row
    failed: bool


@dataclass(frozen=True)
class Raised:
    """A flag, and whose result it stands against."""

    name: str
    flag: Flag


def ranking(rows: Sequence[Row]) -> tuple[Ranked, ...]:
    """Rank the rows by robust accuracy; those that cannot be trusted follow, without a place."""
    order = sorted(range(len(rows)), key=lambda i: (not _trusted(rows[i]), _nan_last(rows[i].evaluation.robust)))
    places = {index: place for place, index in enumerate((i for i in order if _trusted(rows[i])), start=1)}
    return tuple(Ranked(places.get(i), i, rows[i], failed(rows[i])) for i in order)


def failed(row: Row) -> bool:
    """Say whether a check failed, so that the row's result cannot be trusted."""
    return any(flag.severity == "fail" for flag in row.evaluation.flags)


def raised(rows: Sequence[Row], *severities: str) -> tuple[Raised, ...]:
    """Return the rows' flags of these severities, in the order of the severities."""
    flags = [Raised(row.name, flag) for row in rows for flag in row.evaluation.flags if flag.severity in severities]
    return tuple(sorted(flags, key=lambda raised: severities.index(raised.flag.severity)))


def grouped(rows: Sequence[Row], *severities: str) -> tuple[tuple[Raised, ...], ...]:
    """Return the flags of these severities by check, each check once and the worst first."""
    groups: dict[tuple[str, str], list[Raised]] = {}
    for each in raised(rows, *severities):
        groups.setdefault((each.flag.severity, each.flag.check), []).append(each)
    return tuple(tuple(group) for group in groups.values())


def common(values: Sequence[str]) -> str:
    """Return what all the values are, or nothing if they differ."""
    return values[0] if len(set(values)) == 1 else ""


def headline(rows: Sequence[Row]) -> str:
    """Answer in a sentence or two which defence to trust."""
    if not rows:
        return "This study has no rows."
    places = [ranked.row for ranked in ranking(rows) if ranked.place is not None]
    if not places:
        return "No result here can be trusted: see the failed checks."
    threats = list(dict.fromkeys(row.evaluation.threat for row in places))
    if len(threats) > 1:
        answer = f"The rows faced different threats ({format.listed(threats)}); compare only those that share one."
        return " ".join([answer, *_unaudited(rows), *_left_out(rows)])
    ways = Counter(map(_judged, places))
    usual = max(ways, key=lambda way: (ways[way], -len(way[3]), len(way[2])))  # of as many: the least limited attacks
    alike = [row for row in places if _judged(row) == usual]
    others = [row.name for row in places if row not in alike]
    sentences = [_answer(alike), *_undecided(alike), *_otherwise(others), *_unaudited(rows)]
    return " ".join(sentences + _left_out(rows))


def _judged(row: Row) -> tuple[str, str, tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return how a row was judged: results that were not judged alike have no order."""
    of = row.evaluation
    return of.data, of.split, tuple(of.attacked), tuple(sorted(of.means.items()))


def _otherwise(names: list[str]) -> list[str]:
    if not names:
        return []
    who = f"{len(names)} others" if len(names) > 3 else format.listed(names)
    was = "was" if len(names) == 1 else "were"
    return [f"{who} {was} judged otherwise (other data, attacks or means), and cannot be held against these."]


def _answer(places: Sequence[Row]) -> str:
    best = places[0]
    robust, classes = best.evaluation.robust, len(best.evaluation.classes)
    kept = f"right on {format.with_interval(robust)} of the examples under every attack"
    if classes and robust.low <= 1 / classes:
        subject = f"The best, {best.name}, is" if len(places) > 1 else f"{best.name} is"
        return f"Trust none of these. {subject} {kept}: no better than guessing among {classes} classes."
    if len(places) == 1:
        return f"{best.name} is {kept}."
    return f"Trust {best.name} first: it is {kept}."


def _undecided(places: Sequence[Row]) -> list[str]:
    """Name the rows whose intervals overlap the best one's, since their order is chance."""
    best = places[0].evaluation
    close = [row.name for row in places[1:] if row.evaluation.robust.high >= best.robust.low]
    if not close:
        return []
    named = f"those of {len(close)} others" if len(close) > 3 else f"that of {format.listed(close)}"
    return [f"Its interval overlaps {named}, so their order is not settled."]


def _unaudited(rows: Sequence[Row]) -> list[str]:
    """Name the rows that no check has looked at, so that none of them looks clean."""
    names = [row.name for row in rows if not row.evaluation.audit]
    if len(names) == len(rows) > 1:
        return ["None of these results was audited."]
    who = f"{len(names)} of these results" if len(names) > 3 else format.listed(names)
    return [f"{who} {'was' if len(names) == 1 else 'were'} not audited."] if names else []


def _left_out(rows: Sequence[Row]) -> list[str]:
    """Name the rows that have no place, by why."""
    failing = [row.name for row in rows if failed(row)]
    blank = [row.name for row in rows if not failed(row) and not _trusted(row)]
    return [
        f"{format.listed(names)} {'is' if len(names) == 1 else 'are'} not ranked: {why}."
        for names, why in ((failing, "a check failed"), (blank, "there is no figure"))
        if names
    ]


def _trusted(row: Row) -> bool:
    return not failed(row) and not math.isnan(row.evaluation.robust.value)


def _nan_last(robust: Estimate) -> float:
    return math.inf if math.isnan(robust.value) else -robust.value
