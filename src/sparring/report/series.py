"""Rows that differ in a number alone, such as the size of the noise: what is measured of them against that number."""

import re
from collections.abc import Iterator, Sequence

from sparring.core.results import Estimate
from sparring.core.study_results import Figure, Row
from sparring.report import format
from sparring.report.panels import Line, Panel, few_ticks
from sparring.report.style import APART

_ACCURACY = "accuracy"
WIDE = 20  # times the least number is the greatest, from where the axis is better logarithmic


def panels(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return a panel for each series: accuracies against the number in which its rows differ, cross-tests left out."""
    found: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if row.series and row.at is not None:
            found.setdefault(row.series, []).append((row.at, row))
    crossed = tuple(f" of {row.name}" for row in rows)
    return tuple(
        _panel(series, [row for _, row in sorted(of_series, key=lambda pair: pair[0])], crossed)
        for series, of_series in found.items()
        if len(of_series) > 1
    )


def _panel(series: str, rows: Sequence[Row], crossed: tuple[str, ...]) -> Panel:
    number = re.search(r"\{(\w+)", series)
    at = tuple(row.at or 0.0 for row in rows)
    return Panel(
        title=re.sub(r"[,\s]*\{\w+\}.*", "", series) or series,
        subtitle="",
        x_title=number[1] if number else "",
        y_title="accuracy (%)",
        percent=True,
        ticks={point: _number(point) for point in few_ticks(at)},
        lines=tuple(_lines(rows, at, crossed)),
        logarithmic=0 < WIDE * min(at) <= max(at),
    )


def _lines(rows: Sequence[Row], at: tuple[float, ...], crossed: tuple[str, ...]) -> Iterator[Line]:
    """Yield one line a figure of the paper's protocol, and one for what the honest attacks leave."""
    shared = [f.name for f in rows[0].figures if not f.name.endswith(crossed)]
    names = [name for name in shared if name.endswith(_ACCURACY) or name.startswith(_ACCURACY)]
    of = {name: [_figure(row, name) for row in rows] for name in names}
    drawn = {name: [figure.compatibility for figure in figures] for name, figures in of.items()}
    for name, figures in of.items():
        honest = [figure.honest for figure in figures if figure.honest is not None]
        if len(honest) == len(rows) and name != "clean accuracy":
            drawn[f"{name}, honestly"] = honest
    for place, (name, values) in enumerate(drawn.items()):
        yield _line(place, name, at, values)


def _number(value: float) -> str:
    """Print thousands as such, and `0.25` as it is."""
    return format.count(value) if value >= 1000 else format.number(value)


def _figure(row: Row, name: str) -> Figure:
    return next(figure for figure in row.figures if figure.name == name)


def _line(place: int, name: str, at: tuple[float, ...], values: Sequence[Estimate]) -> Line:
    return Line(
        row=APART + place,
        name=name,
        x=at,
        y=tuple(100 * value.value for value in values),
        low=tuple(100 * value.low for value in values),
        high=tuple(100 * value.high for value in values),
        notes=tuple(
            (name, f"at {_number(x)}: {format.with_interval(value)}") for x, value in zip(at, values, strict=True)
        ),
    )
