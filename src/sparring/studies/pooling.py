"""Several trainings of one row as one: the mean of every figure, with its interval over the trainings."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from statistics import fmean
from typing import Any

from sparring.core.results import GRAVITY, Bin, Checked, Estimate, Flag
from sparring.core.statistics import mean
from sparring.core.study_results import Figure, Row

UNLIKE = "trainings unlike"  # the check under which it is said what some trainings have and others have not


def pooled_row(rows: Sequence[Row], seeds: Sequence[int]) -> Row:
    """Return the rows of several seeds as one: means of every figure; what is no figure is the first one's.

    An estimate becomes the mean over the seeds with its t-interval, whatever interval each had; where one has none
    (NaN), it is left to the others. Trainings that agree to the last digit (nothing is left of any) would have an
    interval of no width: theirs is the first one's. Bins of calibration are emptied into one another. What any training
    called for, or was found out to, stands; a note says in how many, and of training curves that are not as long.
    """
    if len(rows) == 1:
        return rows[0]
    row: Row = _pooled(_as_long(rows), 1.0)
    judged = [each.evaluation for each in rows]
    flags = (*_flags([each.flags for each in judged]), *_unlike(rows))
    evaluation = replace(
        row.evaluation,
        flags=flags,
        audit=_audits([each.audit for each in judged]),
        seeds=tuple(seeds),
        adaptation=tuple(sorted(_counts([each.adaptation for each in judged]))),
        detected=tuple(_counts([each.detected for each in judged])),
    )
    return replace(row, evaluation=evaluation, repeats=tuple(repeat for each in rows for repeat in each.repeats))


def _as_long(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the epochs alone that all of them have: a mean of fewer trainings is another curve."""
    common = set.intersection(*({metrics.epoch for metrics in row.training} for row in rows))
    return [replace(row, training=tuple(m for m in row.training if m.epoch in common)) for row in rows]


def _counts(of_each: Sequence[tuple[str, ...]]) -> Counter[str]:
    """Return in how many trainings each of these stands."""
    return Counter(name for names in of_each for name in dict.fromkeys(names))


def _unlike(rows: Sequence[Row]) -> Iterator[Flag]:
    """Say of what differs between trainings in how many it was so: the pooled row has it all."""
    judged, n = [row.evaluation for row in rows], len(rows)
    for counts, what in (
        (_counts([each.adaptation for each in judged]), "called for by the model, and attacked so,"),
        (_counts([each.detected for each in judged]), "found out, and attacked so,"),
    ):
        for name in (name for name, count in counts.items() if count < n):
            yield Flag(UNLIKE, "note", f"{name}: {what} in {counts[name]} of {n} trainings")
    lengths = [len(row.training) for row in rows]
    if len(set(lengths)) > 1:
        told = ", ".join(map(str, lengths))
        yield Flag(UNLIKE, "note", f"the trainings have {told} epochs; their curves are means of those that all have")


def _pooled(parts: list[Any], most: float) -> Any:  # whatever stands in a record
    """Return the parts as one; no estimate in them can be more than `most`."""
    first = parts[0]
    if isinstance(first, Estimate):
        return _mean([part for part in parts if not math.isnan(part.value)], most)
    if isinstance(first, Bin):
        return _merged(parts)
    if is_dataclass(first) and not isinstance(first, type):
        most = math.inf if isinstance(first, Figure) and first.unit == "number" else most
        values = {f.name: _pooled([getattr(part, f.name) for part in parts], most) for f in fields(first)}
        return replace(first, **values)
    if isinstance(first, dict):
        common = [key for key in first if all(key in part for part in parts)]  # a metric may be newer than some runs
        return {key: _pooled([part[key] for part in parts], most) for key in common}
    if isinstance(first, tuple) and len({len(part) for part in parts}) == 1:
        return tuple(_pooled(list(each), most) for each in zip(*parts, strict=True))
    if isinstance(first, float) and any(part != first for part in parts):
        return fmean(parts)
    return first  # of equal ones too: an eps must stay what it is, and three times 0.1 is not 0.3


def _mean(parts: Sequence[Estimate], most: float) -> Estimate:
    """Return the mean; its interval ends where the values do, at 0 and at `most`."""
    found = mean([part.value for part in parts])
    if len({part.value for part in parts}) == 1:
        return replace(parts[0], n=found.n)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, most))  # of NaN, max and min give the first


def _merged(bins: list[Bin]) -> Bin:
    count = sum(part.count for part in bins)
    share = [part.count / max(count, 1) for part in bins]
    accuracy = sum(w * part.accuracy for w, part in zip(share, bins, strict=True))
    return Bin(count, accuracy, sum(w * part.confidence for w, part in zip(share, bins, strict=True)))


def _flags(of_each: Sequence[tuple[Flag, ...]]) -> tuple[Flag, ...]:
    """Return each check's flag once, with the number of trainings that raised it."""
    raised: dict[tuple[str, str], list[Flag]] = {}
    for flag in (flag for flags in of_each for flag in flags):
        raised.setdefault((flag.check, flag.severity), []).append(flag)
    return tuple(
        replace(flags[0], message=f"{flags[0].message} (first of {len(flags)} in {len(of_each)} trainings)")
        for flags in raised.values()
    )


def _audits(of_each: Sequence[tuple[Checked, ...]]) -> tuple[Checked, ...]:
    """Return each check once, with the worst that came of it in any training that was audited."""
    by_name: dict[str, list[Checked]] = {}
    for checked in (checked for audit in of_each for checked in audit):
        by_name.setdefault(checked.check, []).append(checked)
    return tuple(_worst(found) for found in by_name.values())


def _worst(found: Sequence[Checked]) -> Checked:
    worst = max(found, key=lambda checked: GRAVITY.index(checked.outcome))
    like = sum(checked.outcome == worst.outcome for checked in found)
    return replace(worst, evidence=f"{worst.evidence} ({worst.outcome} in {like} of {len(found)} trainings audited)")
