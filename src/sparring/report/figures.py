"""The page's figures for a paper, drawn with Matplotlib as PNG and SVG; the same record gives the same bytes."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparring.core.files import replacing
from sparring.core.results import Estimate
from sparring.core.study_results import Geometry, Row, StudyResult
from sparring.report import certificates, geometry, learning, panels, series, sheets, strips
from sparring.report.format import shorten
from sparring.report.ranking import ranking
from sparring.report.style import LIGHT, style

_SETTINGS: Any = {
    "svg.hashsalt": "sparring",  # else ids in an SVG differ from run to run
    "text.parse_math": False,  # a name with a $ is not a formula
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 200,
}
_ACROSS = 3  # panels side by side
_HANDLE, _LETTER, _LINE = 0.6, 0.075, 0.2  # inches across that a legend's entry takes, each letter of it, and down


def write(result: StudyResult, folder: Path) -> tuple[Path, ...]:
    """Draw every figure that the record has data for as PNG and SVG into `folder`; return the files' paths.

    A file of an earlier record that this one has no data for is removed, so that the folder never mixes two.
    """
    drawn = {name: partial(draw, result.rows) for name, draw in DRAWN.items()}
    drawn |= {name: partial(sheets.draw, result.generatives, kinds) for name, kinds in SHEETS.items()}
    drawn["geometry"] = partial(surveys, result.geometries)
    return tuple(path for name, draw in drawn.items() for path in _write_one(draw, folder / name))


def _write_one(draw: Callable[[], Figure | None], stem: Path) -> tuple[Path, ...]:
    paths = (stem.with_suffix(".png"), stem.with_suffix(".svg"))
    with _drawing():
        figure = draw()
        if figure is None:
            for path in paths:
                path.unlink(missing_ok=True)
            return ()
        for path in paths:
            with replacing(path) as part:
                part.write_bytes(_bytes(figure, path.suffix))
    return paths


def verdicts(rows: Sequence[Row]) -> Figure | None:
    """Draw robust accuracy with its intervals, best first, and clean accuracy beside it."""
    if not rows:
        return None
    ranked = ranking(rows)
    figure = Figure(figsize=(6.5, 0.9 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, entry in enumerate(ranked):
        evaluation = entry.row.evaluation
        colour = LIGHT.series[style(entry.index).colour]
        axes.barh(place, 100 * evaluation.robust.value, 0.6, color=colour, alpha=0.4 if entry.failed else 1)
    _whiskers(axes, [entry.row.evaluation.robust for entry in ranked], np.arange(len(ranked)))
    clean = [100 * entry.row.evaluation.clean.value for entry in ranked]
    axes.plot(
        clean, range(len(ranked)), "|", color="#555555", markersize=12, markeredgewidth=1.5, label="clean accuracy"
    )
    failed = ["\n(failed check)" if entry.failed else "" for entry in ranked]
    _name_rows(axes, [shorten(entry.row.name, 40) + mark for entry, mark in zip(ranked, failed, strict=True)])
    axes.set(xlim=(0, 101), xlabel="robust accuracy (%)")
    figure.legend(loc="outside lower right")
    return figure


def curves(rows: Sequence[Row]) -> Figure | None:
    """Draw the accuracy-eps curves of the evaluations."""
    return _line_figure((*panels.honest_curves(rows), *certificates.curves(rows)), rows)


def sweep(rows: Sequence[Row]) -> Figure | None:
    """Draw the accuracy-eps curves of the paper's own protocol."""
    return _line_figure(panels.sweeps(rows), rows)


def along(rows: Sequence[Row]) -> Figure | None:
    """Draw rows that differ in a number alone against that number."""
    return _line_figure(series.panels(rows))


def training(rows: Sequence[Row]) -> Figure | None:
    """Draw what each epoch of training measured."""
    return _line_figure(learning.panels(rows), rows)


def calibration(rows: Sequence[Row]) -> Figure | None:
    """Draw reliability diagrams: accuracy against confidence."""
    return _line_figure(panels.reliability(rows), rows)


def surveys(geometries: Sequence[Geometry]) -> Figure | None:
    """Draw where adversarial images lie."""
    return _line_figure([panel for each in geometries for panel in geometry.panels(each)])


def confidence(rows: Sequence[Row]) -> Figure | None:
    """Draw mean confidence, clean and attacked, beside accuracy."""
    if not rows:
        return None
    drawn = panels.confidences(rows)
    figure = Figure(figsize=(9, 1.1 + 0.5 * len(rows)), layout="constrained")
    every = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axes, bars in zip(every, drawn, strict=True):
        _bar_panel(axes, bars)
    for axes in every:
        axes.grid(visible=False, axis="y")
    _name_rows(every[0], [shorten(row.name, 28) for row in rows])
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def gallery(rows: Sequence[Row]) -> Figure | None:
    """Draw each row's clean and adversarial images and their magnified differences."""
    return strips.draw(rows)


SHEETS = {  # of the generative models
    "samples": ("samples",),
    "recovered": ("reconstructions", "best", "worst"),
    "interpolations": ("interpolations",),
}
DRAWN: dict[str, Callable[[Sequence[Row]], Figure | None]] = {
    "verdict": verdicts,
    "curves": curves,
    "sweep": sweep,
    "series": along,
    "confidence": confidence,
    "calibration": calibration,
    "gallery": gallery,
    "training": training,
}


@contextmanager
def _drawing() -> Iterator[None]:
    """Draw with Matplotlib's own defaults and ours, whatever the user's matplotlibrc says, and leave no trace."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
        yield


def _bytes(figure: Figure, suffix: str) -> bytes:
    """Return the figure as a file's bytes; by its canvas, since `savefig` would draw it once more to no purpose.

    (Matplotlib gives no types for what its canvases print.)
    """
    buffer = io.BytesIO()
    if suffix == ".svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    else:
        canvas = FigureCanvasAgg(figure)
        canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 3})  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")  # laid out by now, and laying out costs as much as drawing
    return buffer.getvalue()


def _line_figure(drawn: Sequence[panels.Panel], rows: Sequence[Row] = ()) -> Figure | None:
    """Draw panels of lines above one legend, in the order of the rows' ranks where the lines are rows'."""
    if not drawn:
        return None
    across = min(len(drawn), _ACROSS)
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(1 + 3.2 * across, 2.6 * down), layout="constrained")
    every = list(figure.subplots(down, across, squeeze=False).flat)
    handles: dict[str, Artist] = {}
    for axes, panel in zip(every, drawn, strict=False):
        _line_panel(axes, panel)
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    for axes in every[len(drawn) :]:
        axes.set_visible(False)
    order = [shorten(entry.row.name, 40) for entry in ranking(rows)]
    handles = {name: handles[name] for name in sorted(handles, key=lambda name: _place(name, order))}
    longest = max(map(len, handles), default=0)
    fitting = int(figure.get_figwidth() / (_HANDLE + _LETTER * longest))
    columns = max(1, min(across * 2, 4, fitting))
    figure.set_figheight(2.6 * down + 0.3 + _LINE * -(-len(handles) // columns))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    return figure


def _place(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _line_panel(axes: Axes, panel: panels.Panel) -> None:
    for line in panel.lines:
        look = style(line.row)
        colour = LIGHT.series[look.colour]
        marker = look.marker if panel.points or len(line.x) <= panels.CROWDED else ""
        joined = "" if panel.points else look.line
        label = shorten(line.name, 40)
        axes.plot(
            line.x, line.y, color=colour, linestyle=joined, marker=marker, markersize=4, linewidth=1.4, label=label
        )
        if len(panel.lines) <= panels.BANDED and np.isfinite(np.add(line.low, line.high)).any():
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
    if panel.diagonal:
        axes.plot([0, 100], [0, 100], color="#999999", linestyle=":", linewidth=1)
    axes.set(xlabel=panel.x_title, ylabel=panel.y_title)
    axes.set_title(panel.title, fontsize="medium", loc="left")
    if panel.percent:
        axes.set_ylim(-3, 103)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))


def _bar_panel(axes: Axes, bars: panels.Bars) -> None:
    for side, estimates, accuracies, colour, label in (
        (-0.2, bars.clean, bars.clean_accuracy, LIGHT.clean, "clean"),
        (0.2, bars.attacked, bars.attacked_accuracy, LIGHT.attacked, "attacked"),
    ):
        places = np.arange(len(estimates)) + side
        hatch = "////" if label == "attacked" else ""
        axes.barh(
            places, [100 * e.value for e in estimates], 0.38, color=colour, hatch=hatch, edgecolor="white", label=label
        )
        _whiskers(axes, estimates, places)
        if accuracies:
            diamonds = [100 * e.value for e in accuracies]
            (marks,) = axes.plot(diamonds, places, "D", color="white", markeredgecolor="black", markersize=5)
            marks.set(clip_on=False, zorder=3, label="accuracy" if label == "clean" else "_")
    axes.set(xlim=(0, 104), xlabel="mean confidence (%)")
    axes.set_title(bars.title, fontsize="medium", loc="left")


def _whiskers(axes: Axes, estimates: Sequence[Estimate], places: NDArray[Any]) -> None:
    low, high = np.array([(100 * e.low, 100 * e.high) for e in estimates]).T
    axes.hlines(places, low, high, colors="black", linewidth=1)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
