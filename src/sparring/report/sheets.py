"""Sheets of many small images: what a generative model draws, and what its codes give back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparring.core.study_results import GenerativeRow
from sparring.report import gallery
from sparring.report.format import listed, number

BYTES = 1_000_000  # of raw pixels in a page, for all models together
GAP = 2  # white pixels between images
KINDS = ("samples", "reconstructions", "best", "worst", "interpolations")
WIDTH, TITLE = 5.5, 0.27  # inches, of a figure for a paper and above each of its sheets
DOTS = 144  # an inch there


@dataclass(frozen=True)
class Sheet:
    """Images side by side as one, and what they are."""

    title: str
    pixels: gallery.Pixels


def of(model: GenerativeRow, models: int, names: Sequence[str] = KINDS) -> tuple[Sheet, ...]:
    """Return the sheets of one of so many models, of these kinds, for which images were kept."""
    titles = {
        "samples": "Drawn from codes at random",
        "reconstructions": "Above, the first training image of each class; below, what is drawn from their codes",
        "best": "The training images that come back best, and what is drawn from their codes",
        "worst": "Those that come back worst",
        "interpolations": f"Training images at the ends; drawn at {_places(model)} of the way",
    }
    shown = [name for name in names if _usable(model.arrays.get(name))]
    budget = BYTES // max(models * len(shown), 1)
    return tuple(Sheet(titles[name], _side_by_side(model.arrays[name], budget)) for name in shown)


def draw(models: Sequence[GenerativeRow], names: Sequence[str]) -> Figure | None:
    """Draw the sheets of these kinds of all models below each other; None if there are none."""
    made = [(model, sheet) for model in models for sheet in of(model, len(models), names)]
    if not made:
        return None
    heights = [WIDTH * sheet.pixels.shape[0] / sheet.pixels.shape[1] for _, sheet in made]
    whole = sum(heights) + TITLE * len(made)
    figure = Figure(figsize=(WIDTH, whole), dpi=DOTS)
    top = whole
    for (model, sheet), height in zip(made, heights, strict=True):
        top -= TITLE
        figure.text(0, (top + 0.06) / whole, f"{model.name}. {sheet.title}.", fontsize=7)
        axes = figure.add_axes((0, (top - height) / whole, 1, height / whole))
        axes.imshow(sheet.pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        top -= height
    return figure


def _places(model: GenerativeRow) -> str:
    weights = model.arrays.get("weights")
    return "some points" if weights is None else listed([number(float(weight)) for weight in weights])


def _usable(images: NDArray[np.float32] | None) -> bool:
    return images is not None and images.ndim == 5 and images.size > 0


def _side_by_side(images: NDArray[np.float32], budget: int) -> gallery.Pixels:
    """Return images (rows, columns, C, H, W) as one, shrunk by whole numbers until it has at most `budget` bytes."""
    rows, columns, channels, height, width = images.shape
    scale = max(1, math.ceil(math.sqrt(images.size / max(budget, 1))))
    small = gallery.pixels(gallery.shrink(images.reshape(-1, channels, height, width).astype(np.float64), scale))
    high, wide = small.shape[1:3]
    sheet = np.full((rows * (high + GAP) - GAP, columns * (wide + GAP) - GAP, *small.shape[3:]), 255, np.uint8)
    for place, image in enumerate(small):
        top, left = place // columns * (high + GAP), place % columns * (wide + GAP)
        sheet[top : top + high, left : left + wide] = image
    return sheet
