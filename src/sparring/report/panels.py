"""What the charts show, read from records: the page and the figures for a paper draw the same panels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparring.core.results import Calibration, Confidence, Curve, Estimate
from sparring.core.statistics import largest_rise
from sparring.core.study_results import Row
from sparring.report import format

FEW = 10  # images, below which a bin of confidence says nothing
BANDED = 8  # lines of a panel, above which their bands would hide one another
CROWDED = 20  # points on a line, above which markers would hide it


@dataclass(frozen=True)
class Line:
    """One line of a panel: whose it is, its points and their 95 % band, and what hovering over a point tells."""

    row: int
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    notes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes; `percent`: y runs from 0 to 100; `ticks` are the x axis's labels, if any.

    `logarithmic`: whether x grows by factors. `diagonal`: whether x and y are to be compared, so that the line of
    equals is drawn. `points`: no lines join them.
    """

    title: str
    subtitle: str
    x_title: str
    y_title: str
    percent: bool
    ticks: dict[float, str]
    lines: tuple[Line, ...]
    diagonal: bool = False
    points: bool = False
    logarithmic: bool = False


@dataclass(frozen=True)
class Bars:
    """Bars on clean and on attacked images, one pair a defence, and where given the accuracy to set them against."""

    title: str
    names: tuple[str, ...]
    clean: tuple[Estimate, ...]
    attacked: tuple[Estimate, ...]
    clean_accuracy: tuple[Estimate, ...] = ()
    attacked_accuracy: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class Rise:
    """A curve that rises by more than its intervals: from the worst point before to a better one at a larger eps."""

    name: str
    attack: str
    before: float
    after: float
    low: float
    high: float


def honest_curves(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return the accuracy-eps panels of the rows' evaluations."""
    return _curve_panels(rows, [row.evaluation.curves for row in rows])


def sweeps(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return the accuracy-eps panels of the paper's own protocol; what the paper shows comes first."""
    return (*_published(rows), *_curve_panels(rows, [row.sweep for row in rows]))


def rises(rows: Sequence[Row]) -> tuple[Rise, ...]:
    """Return, for each curve of any row that rises by more than its intervals, its largest such rise."""
    found = [_rise(row.name, curve) for row in rows for curve in (*row.sweep, *row.evaluation.curves)]
    return tuple(rise for rise in found if rise)


def reliability(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return accuracy against confidence, one panel for each kind of images; a line below the diagonal is too sure."""
    of_rows = [calibrations(row) for row in rows]
    kinds = list(dict.fromkeys(kind for of_row in of_rows for kind in of_row))
    return tuple(
        Panel(
            title=f"{kind[:1].upper()}{kind[1:]}",
            subtitle="",
            x_title="confidence (%)",
            y_title="accuracy (%)",
            percent=True,
            ticks={},
            lines=tuple(
                _reliability_line(index, rows[index].name, of_row[kind])
                for index, of_row in enumerate(of_rows)
                if kind in of_row
            ),
            diagonal=True,
        )
        for kind in kinds
    )


def calibrations(row: Row) -> dict[str, Calibration]:
    """Return a row's calibrations by the kind of images: by the paper's protocol, and on the honest attacks' images.

    Clean images are the protocol's if it has them, for they are more, and the error of few is too large.
    """
    of = {"clean": row.evaluation.calibration, "each example's worst image": row.evaluation.robust_calibration}
    honest = {kind: found for kind, found in of.items() if found is not None and kind not in row.calibrations}
    return {**row.calibrations, **honest}


def _reliability_line(index: int, name: str, calibration: Calibration) -> Line:
    bins = [part for part in calibration.bins if part.count >= FEW]
    blank = (math.nan,) * len(bins)
    return Line(
        row=index,
        name=name,
        x=tuple(100 * part.confidence for part in bins),
        y=tuple(100 * part.accuracy for part in bins),
        low=blank,
        high=blank,
        notes=tuple(
            (
                name,
                f"confidence {format.percent(part.confidence)} %, right {format.percent(part.accuracy)} %",
                f"{part.count:,} images; calibration error in all {format.with_interval(calibration.ece)}",
            )
            for part in bins
        ),
    )


def _published(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return the panel of the paper's own curves, if it has any."""
    lines = []
    for index, row in enumerate(rows):
        if row.published_sweep:
            x, y = (tuple(values) for values in zip(*row.published_sweep, strict=True))
            blank = (math.nan,) * len(x)
            shares = tuple(100 * share for share in y)
            told = [f"eps {format.eps(e)}: {v:.1f} %, as published" for e, v in zip(x, shares, strict=True)]
            notes = tuple((row.name, each) for each in told)
            lines.append(Line(index, row.name, x, shares, blank, blank, notes))
    if not lines:
        return ()
    points = sorted({point for line in lines for point in line.x})
    return (
        Panel("As published", "", "eps", "accuracy (%)", percent=True, ticks=few_ticks(points), lines=tuple(lines)),
    )


def confidences(rows: Sequence[Row]) -> tuple[Bars, ...]:
    """Return mean confidence over all images, over those classified right and over those classified wrong."""
    clean = [row.evaluation.clean_confidence for row in rows]
    attacked = [row.evaluation.robust_confidence for row in rows]
    names = tuple(row.name for row in rows)
    return (
        Bars(
            "All images",
            names,
            tuple(c.confidence for c in clean),
            tuple(c.confidence for c in attacked),
            tuple(c.accuracy for c in clean),
            tuple(c.accuracy for c in attacked),
        ),
        Bars(
            "When right",
            names,
            tuple(c.confidence_correct for c in clean),
            tuple(c.confidence_correct for c in attacked),
        ),
        Bars(
            "When wrong", names, tuple(c.confidence_error for c in clean), tuple(c.confidence_error for c in attacked)
        ),
    )


def _curve_panels(rows: Sequence[Row], curves: Sequence[tuple[Curve, ...]]) -> tuple[Panel, ...]:
    """Put one curve of each row in a panel; a row's further curves (norms, attacks) get further panels."""
    grouped: dict[tuple[str, str, str, int], list[tuple[int, Curve]]] = {}
    many = _norms_with_many(curves)
    for index, of_row in enumerate(curves):
        seen: dict[tuple[str, str, str], int] = {}
        for curve in of_row:
            head = curve.attack.partition("(")[0] if curve.norm in many else ""
            key = (curve.norm, head, curve.conditions)
            occurrence = seen.setdefault(key, 0)
            seen[key] += 1
            grouped.setdefault((*key, occurrence), []).append((index, curve))
    return _told_apart([_curve_panel(rows, members) for members in grouped.values()])


def _told_apart(panels: Sequence[Panel]) -> tuple[Panel, ...]:
    """Add to titles that are alike the range of eps: a study may sweep two."""
    titles = [panel.title for panel in panels]
    return tuple(
        replace(panel, title=f"{panel.title}, eps {_span(panel)}") if titles.count(panel.title) > 1 else panel
        for panel in panels
    )


def _span(panel: Panel) -> str:
    points = [point for line in panel.lines for point in line.x]
    return f"{format.eps(min(points))} to {format.eps(max(points))}" if points else format.MISSING


def _norms_with_many(curves: Sequence[tuple[Curve, ...]]) -> set[str]:
    return {a.norm for of_row in curves for i, a in enumerate(of_row) for b in of_row[:i] if a.norm == b.norm}


def _curve_panel(rows: Sequence[Row], members: Sequence[tuple[int, Curve]]) -> Panel:
    attacks = list(dict.fromkeys(curve.attack for _, curve in members))
    ways = {curve.worst_case for _, curve in members}
    way = "worst case" if ways == {True} else "each eps on its own" if ways == {False} else "mixed"
    norm, conditions = members[0][1].norm, members[0][1].conditions
    points = sorted({p.eps for _, curve in members for p in curve.points if math.isfinite(p.eps)})
    return Panel(
        title=", ".join(part for part in (norm.capitalize(), way, conditions) if part),
        subtitle=attacks[0] if len(attacks) == 1 else f"{len(attacks)} attacks, by defence",
        x_title=f"eps ({norm}, pixels in [0, 1])",
        y_title="accuracy (%)",
        percent=True,
        ticks=few_ticks(points),
        lines=tuple(_curve_line(index, rows[index].name, curve) for index, curve in members),
    )


def few_ticks(points: Sequence[float], most: int = 8) -> dict[float, str]:
    """Label the points themselves while they are few; thin them evenly where they are many."""
    stride = max(1, math.ceil(len(points) / most))
    return {point: format.eps(point) for point in points[::stride]}


def _curve_line(index: int, name: str, curve: Curve) -> Line:
    points = sorted((p for p in curve.points if math.isfinite(p.eps)), key=lambda p: p.eps)
    return Line(
        row=index,
        name=name,
        x=tuple(float(p.eps) for p in points),
        y=tuple(100 * p.accuracy.value for p in points),
        low=tuple(100 * p.accuracy.low for p in points),
        high=tuple(100 * p.accuracy.high for p in points),
        notes=tuple(
            (
                name,
                f"eps {format.eps(p.eps)}: {format.with_interval(p.accuracy)}",
                _confidence_note(p.confidence),
                format.shorten(curve.attack, 60),
            )
            for p in points
        ),
    )


def _confidence_note(confidence: Confidence) -> str:
    overall, wrong = confidence.confidence.value, confidence.confidence_error.value
    return f"mean confidence {format.percent(overall)} %, when wrong {format.percent(wrong)} %"


def _rise(name: str, curve: Curve) -> Rise | None:
    """Find the largest rise, by the rule of the check "monotone curve"."""
    places = largest_rise([(point.eps, point.accuracy) for point in curve.points])
    if places is None:
        return None
    a, b = (curve.points[place] for place in places)
    return Rise(name, curve.attack, a.eps, b.eps, a.accuracy.value, b.accuracy.value)
