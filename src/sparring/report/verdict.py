"""The answer at a glance: which defence holds up best, what it costs, and what stands against trusting the figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparring.core.results import Flag
from sparring.core.study_results import Row
from sparring.report import format
from sparring.report.ranking import alike, failed, judged, ranking, trusted

LITTLE = 0.2  # of the examples right under every attack: who keeps no more does not hold up
MANY = 5  # names, above which a sentence gives their number


@dataclass(frozen=True)
class Raised:
    """A flag, and whose result it stands against."""

    name: str
    flag: Flag


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
    """Answer in one sentence which defence holds up best."""
    sound = [row for row in rows if trusted(row)]
    group = alike(rows)
    if not rows:
        return "This study has no rows."
    if not sound:
        why = "see the failed checks" if any(map(failed, rows)) else "there is no figure"
        return f"No result here can be trusted: {why}."
    if not group:
        threats = list(dict.fromkeys(row.evaluation.threat for row in sound))
        return f"The rows faced different threats ({format.listed(threats)}); compare only those that share one."
    return _answer(group)


def remarks(rows: Sequence[Row]) -> list[str]:
    """Say what the answer costs, how sure it is, who was audited, and whom it leaves out."""
    group = alike(rows)
    told = [*_cost(group[0], rows), *_undecided(rows, group[0])] if group else []
    return [*told, *_audited(rows, group), *_left_out(rows, group)]


def _answer(group: Sequence[Row]) -> str:
    """Say which is best; without the word "trust" where nothing was audited, or where there is little to trust."""
    best, robust = group[0], group[0].evaluation.robust
    kept = f"right on {format.with_interval(robust)} of the examples under every attack"
    if guess := _no_better_than(best):
        return f"{_weak(group, kept)}, no better than {guess}."
    if robust.value < LITTLE:
        return f"{_weak(group, kept)}."
    if not best.evaluation.audit:
        return f"Highest figure: {best.name}, {kept}." if len(group) > 1 else f"{best.name} is {kept}."
    return f"Trust {best.name} first: it is {kept}." if len(group) > 1 else f"{best.name} is {kept}."


def _weak(group: Sequence[Row], kept: str) -> str:
    name = group[0].name
    if len(group) == 1:
        return f"{name} does not hold up: it is {kept}"
    return f"None of these holds up. The least bad, {name}, is {kept}"


def _no_better_than(row: Row) -> str:
    """Name the guess that is right as often, if there is one: any class, or the most frequent one."""
    robust, classes = row.evaluation.robust, len(row.evaluation.classes)
    worst = robust.value if math.isnan(robust.low) else robust.low
    if 0 < row.evaluation.most_frequent >= worst:  # older records do not have it
        return f"always naming the most frequent class ({format.percent(row.evaluation.most_frequent)} %)"
    return f"guessing among {classes} classes" if classes and worst <= 1 / classes else ""


def _cost(best: Row, rows: Sequence[Row]) -> list[str]:
    """Say what the best one's robustness costs in clean accuracy, against the highest on the same data."""
    of = best.evaluation
    peers = [row for row in rows if (row.evaluation.data, row.evaluation.split) == (of.data, of.split)]
    peers = [row for row in peers if not math.isnan(row.evaluation.clean.value)]
    if len(peers) < 2 or math.isnan(of.clean.value):
        return []
    top = max(peers, key=lambda row: row.evaluation.clean.value)
    highest, clean = format.percent(top.evaluation.clean.value), format.percent(of.clean.value)
    if clean == highest:
        return [f"Its clean accuracy, {clean} %, is the highest here."]
    points = f"{float(highest) - float(clean):.1f}"
    return [f"Its clean accuracy is {clean} %, {points} points below the highest ({top.name}, {highest} %)."]


def _undecided(rows: Sequence[Row], best: Row) -> list[str]:
    """Name the rows that nothing tells from the best one, since their order is chance."""
    close = [ranked.row.name for ranked in ranking(rows) if ranked.close]
    if not close:
        return []
    return [f"It is not settled that {best.name} beats {_who(close, 'or')}: chance may explain the difference (≈)."]


def _audited(rows: Sequence[Row], group: Sequence[Row]) -> list[str]:
    """Say whether the best one was audited, and name the rows that no check has looked at."""
    bare = [row.name for row in rows if not row.evaluation.audit]
    unknown = "so nothing says whether {} can be trusted"
    if rows and len(bare) == len(rows):
        them = "None of these results was" if len(rows) > 1 else "It was not"
        return [f"{them} audited, {unknown.format('they' if len(rows) > 1 else 'it')}."]
    best = group[0] if group else None
    if best is None or best.evaluation.audit:
        passed = [_passed(best)] if best else []
        return [*passed, *([f"{_who(bare)} {_be(bare)} not audited."] if bare else [])]
    others = [name for name in bare if name != best.name]
    told = [f"It was not audited, {unknown.format('it')}."]
    told += [f"Nor {_be(others)} {_who(others)}."] if others else []
    audited = next((row for row in group if row.evaluation.audit), None)
    return told + ([f"The highest of those audited: {_robust(audited)}."] if audited else [])


def _passed(row: Row) -> str:
    warned = sum(check.outcome == "warn" for check in row.evaluation.audit)
    return f"It was audited: no check failed{f', {warned} warned' if warned else ''}."


def _left_out(rows: Sequence[Row], group: Sequence[Row]) -> list[str]:
    """Name the rows that have no place, by why."""
    failing = [row.name for row in rows if failed(row)]
    blank = [row.name for row in rows if not failed(row) and not trusted(row)]
    apart = [row for row in rows if group and trusted(row) and judged(row) != judged(group[0])]
    reasons = {
        "a check failed": failing,
        "there is no figure": blank,
        "another threat was faced": [row.name for row in apart if _threat(row) != _threat(group[0])],
        "judged otherwise (other data, attacks or limits)": [r.name for r in apart if _threat(r) == _threat(group[0])],
    }
    return [f"{_who(names)} {_be(names, 'are')} not ranked: {why}." for why, names in reasons.items() if names]


def _threat(row: Row) -> str:
    return row.evaluation.threat


def _robust(row: Row) -> str:
    return f"{row.name}, {format.with_interval(row.evaluation.robust)}"


def _who(names: list[str], word: str = "and") -> str:
    apart = [f"“{name}”" for name in names] if any("," in name for name in names) else names
    return format.listed(apart, word) if len(names) <= MANY else f"{len(names)} others"


def _be(names: list[str], many: str = "were") -> str:
    return many if len(names) != 1 else "was" if many == "were" else "is"
