"""The gallery as a figure for a paper: clean images, adversarial images and their magnified differences."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparring.core.study_results import Row
from sparring.report import gallery
from sparring.report.format import TIMES, number, percent, shorten

_ACROSS = 6  # examples: more are too small to see in a paper
_FEWEST, _ALL = 3, 36  # of each row, and about how many in all, since their captions take the most time to draw
_INCH = 0.85
_TEXT = 0.42  # of an image's side, for the two lines below it
_TITLE = 0.35
_DPI = 144
_FOOT = 0.1


def draw(rows: Sequence[Row]) -> Figure | None:
    """Draw one strip a row that has images; None if no row has any."""
    kept = [(row, gallery.strip(row.evaluation, len(rows))) for row in rows]
    strips = [(row, strip) for row, strip in kept if strip]
    if not strips:
        return None
    most = min(_ACROSS, max(_FEWEST, _ALL // len(strips)))
    across = min(most, max(len(strip.examples) for _, strip in strips))
    behind = any(strip.examples[0].seen is not None for _, strip in strips)
    tall = 3 + 2 * behind + 2 * _TEXT + _TITLE + _FOOT
    figure = Figure(figsize=(_INCH * (across + 1), _INCH * tall * len(strips)), dpi=_DPI)
    for index, (row, strip) in enumerate(strips):
        axes = figure.add_axes((0, 1 - (index + 1) / len(strips), 1, 1 / len(strips)))
        axes.set(xlim=(-1, across), ylim=(tall, 0))
        axes.set_axis_off()
        _draw_strip(axes, row.name, strip, across)
        _draw_behind(axes, strip, across)
    return figure


def _draw_strip(axes: Axes, name: str, strip: gallery.Strip, across: int) -> None:
    tops = (_TITLE, _TITLE + 1 + _TEXT, _TITLE + 2 + 2 * _TEXT)
    axes.text(-0.95, 0.5 * _TITLE, shorten(name, 60), va="center", weight="bold")
    labels = ("clean", "adversarial", f"difference\n{TIMES} {number(strip.factor)}")
    for top, label in zip(tops, labels, strict=True):
        axes.text(-0.95, top + 0.5, label, va="center", fontsize=7)
    shown = strip.examples[:across]
    lines = ([e.clean for e in shown], [e.adversarial for e in shown], [e.difference for e in shown])
    for top, images in zip(tops, lines, strict=True):
        _line(axes, images, top)
    for column, example in enumerate(shown):
        clean, attacked = percent(example.confidence_clean, 0), percent(example.confidence, 0)
        below = (
            f"{shorten(example.predicted_clean, 12)} ({clean} %)\ntrue {shorten(example.label, 12)}",
            f"{shorten(example.predicted, 12)} ({attacked} %)\n{example.verdict}",
        )
        for top, words in zip(tops, below, strict=False):
            axes.text(column + 0.5, top + 0.99, words, ha="center", va="top", fontsize=6)


def _draw_behind(axes: Axes, strip: gallery.Strip, across: int) -> None:
    """Draw what comes through the masks, if there are any, below all else."""
    shown = strip.examples[:across]
    top = _TITLE + 3 + 2 * _TEXT + _FOOT / 2
    for label, images in (
        ("clean, behind\nthe masks", [e.seen for e in shown if e.seen is not None]),
        ("adversarial,\nbehind them", [e.seen_adversarial for e in shown if e.seen_adversarial is not None]),
    ):
        if images:
            axes.text(-0.95, top + 0.5, label, va="center", fontsize=7)
            _line(axes, images, top)
        top += 1


def _line(axes: Axes, images: Sequence[gallery.Pixels], top: float) -> None:
    """Draw images side by side as a single one, since each image that Matplotlib draws costs it milliseconds."""
    height, width = images[0].shape[:2]
    gap = -(-max(height, width) // 16)
    side = max(height, width) + gap
    canvas = np.full((side, side * len(images), 3), 255, np.uint8)
    down, right = (side - height) // 2, (side - width) // 2
    for index, pixels in enumerate(images):
        rgb = pixels if pixels.ndim == 3 else pixels[..., None]
        canvas[down : down + height, right + index * side : right + index * side + width] = rgb
    axes.imshow(canvas, extent=(0, len(images), top + 1, top), aspect="auto", interpolation="none")
