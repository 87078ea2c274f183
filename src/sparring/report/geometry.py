"""Where adversarial images lie among clean ones: plots from the record, with their sentences."""

import math

from sparring.core.study_results import Geometry, Plot
from sparring.report import format
from sparring.report.panels import Line, Panel
from sparring.report.style import APART


def panels(geometry: Geometry) -> tuple[Panel, ...]:
    """Return a panel for each of its plots."""
    names = names_of(geometry)
    return tuple(_panel(plot, names) for plot in geometry.plots)


def names_of(geometry: Geometry) -> list[str]:
    """Return whose traces there are, in an order that gives each the same look everywhere."""
    return list(dict.fromkeys(trace.name for plot in geometry.plots for trace in plot.traces))


def _panel(plot: Plot, names: list[str]) -> Panel:
    return Panel(
        title=plot.title,
        subtitle=plot.sentence,
        x_title=plot.x_title,
        y_title=plot.y_title,
        percent="%" in plot.y_title,
        ticks={},
        lines=tuple(
            Line(
                row=APART + names.index(trace.name),
                name=trace.name,
                x=trace.x,
                y=trace.y,
                low=(math.nan,) * len(trace.x),
                high=(math.nan,) * len(trace.x),
                notes=tuple(
                    (trace.name, f"{format.number(x)}: {format.number(y)}")
                    for x, y in zip(trace.x, trace.y, strict=True)
                ),
            )
            for trace in plot.traces
        ),
        points=plot.kind == "points",
    )
