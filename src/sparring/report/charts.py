"""The page's charts, as Plotly's JSON: plain dicts, since Plotly's own objects take seconds to build.

Colours are CSS custom properties, `var(--s0)`: the page's script looks them up, so charts follow light and dark.
Names are escaped for Plotly, which reads its texts as a kind of HTML.
"""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from sparring.core.results import Estimate
from sparring.report.format import shorten, with_interval
from sparring.report.panels import BANDED, CROWDED, Bars, Line, Panel
from sparring.report.style import style

Spec = dict[str, Any]

INK, RULE, CARD = "var(--ink)", "var(--rule)", "var(--card)"


def line_chart(panel: Panel) -> Spec:
    """Return a panel of lines, each with its 95 % band below it."""
    bands = [_band(line) for line in panel.lines] if len(panel.lines) <= BANDED else []
    lines = [_line(line, points=panel.points) for line in panel.lines]
    x: Spec = _axis(panel.x_title)
    if panel.logarithmic:
        x["type"] = "log"
    if panel.ticks:
        x |= {"tickvals": list(panel.ticks), "ticktext": list(panel.ticks.values())}
    y: Spec = _axis(panel.y_title)
    if panel.percent:
        y |= {"range": [-3, 103], "tickvals": [0, 20, 40, 60, 80, 100]}
    reference = [_diagonal()] if panel.diagonal else []
    return {
        "data": reference + [band for band in bands if band] + lines,
        "layout": {**_LAYOUT, "height": 340, "xaxis": x, "yaxis": y},
    }


def bar_chart(bars: Bars) -> Spec:
    """Return a panel of horizontal bars, clean and attacked, with their intervals and the accuracy."""
    data = [
        _bar(bars.names, bars.clean, "clean", "var(--clean)", ""),
        _bar(bars.names, bars.attacked, "attacked", "var(--attacked)", "/"),
    ]
    data += [
        _marks(bars.clean_accuracy, -0.2, "clean", bars.names),
        _marks(bars.attacked_accuracy, 0.2, "attacked", bars.names),
    ]
    places = list(range(len(bars.names)))
    y = {"tickvals": places, "ticktext": [_broken(name) for name in bars.names]}
    layout = {
        **_LAYOUT,
        "height": 90 + 54 * len(places),
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {**_axis("mean confidence (%)"), "range": [0, 104]},
        "yaxis": {**_axis(""), "range": [len(places) - 0.5, -0.5], "automargin": True, "showgrid": False, **y},
    }
    return {"data": [trace for trace in data if trace["x"]], "layout": layout}


def _diagonal() -> Spec:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 100],
        "y": [0, 100],
        "line": {"color": RULE, "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
    }


def _line(line: Line, *, points: bool) -> Spec:
    look = style(line.row)
    colour = f"var(--s{look.colour})"
    return {
        "type": "scatter",
        "mode": "markers" if points else "lines" if len(line.x) > CROWDED else "lines+markers",
        "name": _safe(line.name),
        "meta": {"row": line.row},
        "x": list(line.x),
        "y": _finite(line.y),
        "line": {"color": colour, "dash": look.dash, "width": 2},
        "marker": {"color": colour, "symbol": look.symbol, "size": 7},
        "customdata": ["<br>".join(_safe(part) for part in note) for note in line.notes],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _band(line: Line) -> Spec | None:
    """Return the band as one outline, there and back, around the points whose interval is known."""
    known = [(x, a, b) for x, a, b in zip(line.x, line.low, line.high, strict=True) if math.isfinite(a + b)]
    if len(known) < 2:
        return None
    return {
        "type": "scatter",
        "mode": "lines",
        "fill": "toself",
        "x": [x for x, _, _ in known] + [x for x, _, _ in reversed(known)],
        "y": _finite([low for _, low, _ in known] + [high for _, _, high in reversed(known)]),
        "fillcolor": f"var(--s{style(line.row).colour}-band)",
        "line": {"width": 0},
        "meta": {"row": line.row},
        "hoverinfo": "skip",
    }


def _bar(names: Sequence[str], estimates: Sequence[Estimate], which: str, colour: str, hatch: str) -> Spec:
    above = [100 * (e.high - e.value) for e in estimates]
    below = [100 * (e.value - e.low) for e in estimates]
    return {
        "type": "bar",
        "orientation": "h",
        "name": which,
        "y": list(range(len(estimates))),
        "x": _finite([100 * e.value for e in estimates]),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": _finite(above),
            "arrayminus": _finite(below),
            "color": INK,
            "thickness": 1.2,
            "width": 3,
        },
        "marker": {
            "color": colour,
            "pattern": {"shape": hatch, "fillmode": "overlay", "size": 6, "solidity": 0.25, "fgcolor": CARD},
        },
        "customdata": [
            f"{_safe(name)}<br>confidence, {which}: {with_interval(e)}"
            for name, e in zip(names, estimates, strict=True)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _marks(accuracies: Sequence[Estimate], offset: float, which: str, names: Sequence[str]) -> Spec:
    """Mark the accuracy on each bar: a bar that reaches beyond its mark is too sure of itself."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"accuracy, {which}",
        "x": _finite([100 * e.value for e in accuracies]),
        "y": [index + offset for index in range(len(accuracies))],
        "cliponaxis": False,
        "marker": {"symbol": "diamond", "size": 9, "color": CARD, "line": {"color": INK, "width": 1.6}},
        "customdata": [
            f"{_safe(name)}<br>accuracy, {which}: {with_interval(e)}"
            for name, e in zip(names, accuracies, strict=False)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _axis(title: str) -> Spec:
    named = {"text": _safe(title), "standoff": 8, "font": {"size": 13}}
    return {"title": named, "gridcolor": RULE, "linecolor": RULE, "zeroline": False, "automargin": True}


def _finite(values: Sequence[float]) -> list[float | None]:
    """Round for a small page, and leave gaps where there is no figure."""
    return [round(value, 5) if math.isfinite(value) else None for value in values]


def _broken(name: str) -> str:
    """Return a name in lines, for a narrow place."""
    return "<br>".join(_safe(part) for part in textwrap.wrap(shorten(name, 40), 20))


def _safe(text: str) -> str:
    return html.escape(text, quote=False)


_LAYOUT: Spec = {
    "autosize": True,
    "margin": {"l": 56, "r": 12, "t": 8, "b": 48},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
    "showlegend": False,
    "hovermode": "closest",
    "hoverlabel": {"bgcolor": CARD, "bordercolor": RULE, "align": "left", "font": {"color": INK}},
}
