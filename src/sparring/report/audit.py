"""What the audit found: the outcome of every check for every defence, in symbols and in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sparring.core.results import Checked, Evaluation
from sparring.core.study_results import Row
from sparring.report import format

UNKNOWN = "not audited"
_WORST_FIRST = ("fail", "warn", "note", "not run", "passed")


@dataclass(frozen=True)
class Mark:
    """How an outcome is shown: a symbol and a word, since colour alone tells some readers nothing, and its class."""

    symbol: str
    word: str
    kind: str


MARKS = {
    "fail": Mark("✗", "failed", "fail"),
    "warn": Mark("▲", "warning", "warn"),
    "note": Mark("•", "note", "note"),
    "passed": Mark("✓", "passed", "passed"),
    "not run": Mark("○", "not run", "absent"),
    UNKNOWN: Mark("?", UNKNOWN, "absent"),
}


@dataclass(frozen=True)
class Audited:
    """A row's audit: its number, whether there was one, its checks (the worst first), and both in a line."""

    index: int
    name: str
    audited: bool
    checks: tuple[Checked, ...]
    summary: str
    attacked: str

    @property
    def failed(self) -> bool:
        """Whether a check failed, so that its evidence is printed on paper too."""
        return any(check.outcome == "fail" for check in self.checks)


@dataclass(frozen=True)
class Matrix:
    """Every check (lines) of every row (columns), each outcome as it is shown."""

    names: tuple[tuple[int, str], ...]
    lines: tuple[tuple[str, tuple[Mark, ...]], ...]


def of(rows: Sequence[Row]) -> tuple[Audited, ...]:
    """Return the audit of each row."""
    return tuple(_audited(index, row) for index, row in enumerate(rows))


def total(rows: Sequence[Row]) -> str:
    """Sum up the checks of all rows in a line; nothing if no row was audited."""
    counts = Counter[str](check.outcome for row in rows if row.evaluation.audit for check in _checks(row.evaluation))
    if not counts:
        return ""
    passed = f"{counts['passed']} of {counts.total()} checks passed"
    rest = [_count(outcome, counts[outcome]) for outcome in ("fail", "warn", "note", "not run") if counts[outcome]]
    bare = sum(not row.evaluation.audit for row in rows)
    return ", ".join([passed, *rest, *([f"{bare} of {len(rows)} results {UNKNOWN}"] if bare else [])])


def matrix(rows: Sequence[Row]) -> Matrix | None:
    """Return the outcomes of all checks, in the order in which they were made; None if no row was audited."""
    if not any(row.evaluation.audit for row in rows):
        return None
    of_rows = [(row.evaluation.audit, {check.check: check for check in _checks(row.evaluation)}) for row in rows]
    names = list(dict.fromkeys(check for _, checks in of_rows for check in checks))
    lines = (
        (name, tuple(MARKS[checks[name].outcome if name in checks else _absent(audit)] for audit, checks in of_rows))
        for name in names
    )
    return Matrix(tuple((index, row.name) for index, row in enumerate(rows)), tuple(lines))


def attacked(evaluation: Evaluation) -> str:
    """Say in a sentence how the model was attacked: what it called for, and what was found out."""
    declared = [_WAYS.get(way, way) for way in evaluation.adaptation]
    found = [_FOUND.get(way, way) for way in evaluation.detected]
    sentences = [f"Attacked {format.listed(declared)}, as the model itself calls for."] if declared else []
    if found:
        sentences.append(f"No part of the model says so, but it called for more: attacked {format.listed(found)}.")
    return " ".join(sentences) or "Attacked through its gradients as they are: nothing in the model calls for more."


def briefly(evaluation: Evaluation) -> str:
    """Say in a few words what the attacks did besides following gradients; nothing if that was enough."""
    declared = [way.upper() for way in evaluation.adaptation]
    known = f"attacked with {format.listed(declared)}" if declared else ""
    found = f"found out and attacked so: {format.listed(list(evaluation.detected))}" if evaluation.detected else ""
    said = "; ".join(part for part in (known, found) if part)
    return said[:1].upper() + said[1:]


_WAYS = {
    "bpda": "with substitute gradients where the model has none (BPDA)",
    "eot": "with gradients averaged over the model's randomness (EOT)",
}

_FOUND = {
    "outputs are probabilities": "on the logarithms of the probabilities that it gives",
    "random": "with gradients averaged over the model's randomness (EOT)",
    "steps without a gradient": "straight through its steps, which have no gradient (BPDA)",
    "gradients cut off": "past what cuts its gradients off",
    "shattered gradients": "with gradients estimated from values, as its own lead nowhere",
    "no gradient at all": "by search alone, as it has no gradient",
}


def _audited(index: int, row: Row) -> Audited:
    checks = tuple(sorted(_checks(row.evaluation), key=lambda check: _WORST_FIRST.index(check.outcome)))
    audited = bool(row.evaluation.audit)
    counts = Counter[str](check.outcome for check in checks)
    said = ", ".join(_count(outcome, counts[outcome]) for outcome in _IN_WORDS if counts[outcome])
    summary = said if audited else f"{UNKNOWN}, {said}" if said else UNKNOWN
    return Audited(index, row.name, audited, checks, summary, attacked(row.evaluation))


def _checks(evaluation: Evaluation) -> list[Checked]:
    """Return the checks, none of them better than the flags say, with what else was flagged (by a study, say)."""
    checks = {check.check: check for check in evaluation.audit}
    for flag in evaluation.flags:
        known = checks.get(flag.check)
        if known is None or _WORST_FIRST.index(flag.severity) < _WORST_FIRST.index(known.outcome):
            evidence = known.evidence if known and known.evidence else flag.message
            checks[flag.check] = Checked(flag.check, flag.severity, evidence, known.seconds if known else 0.0)
    return list(checks.values())


def _absent(audit: tuple[Checked, ...]) -> str:
    """Say why a row lacks a check that another has."""
    return "not run" if audit else UNKNOWN


_IN_WORDS = {
    "fail": ("check failed", "checks failed"),
    "passed": ("check passed", "checks passed"),
    "warn": ("warning", "warnings"),
    "note": ("note", "notes"),
    "not run": ("not run", "not run"),
}


def _count(outcome: str, count: int) -> str:
    return f"{count} {_IN_WORDS[outcome][count != 1]}"
