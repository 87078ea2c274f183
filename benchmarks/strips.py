"""One test image as each mask of a study lets it through: `python benchmarks/strips.py RESULTS.json OUT.jpg`."""

import math
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sparring.core.records import load
from sparring.core.study_results import StudyResult

ACROSS = 5


def strips(result: StudyResult, image: int = 0) -> Figure:
    """Draw the image itself, then what each row's classifier sees of it."""
    seen = {
        row.name: row.evaluation.arrays["gallery/seen"][image]
        for row in result.rows
        if "gallery/seen" in row.evaluation.arrays
    }
    pictures = {"as it is": result.rows[0].evaluation.arrays["gallery/x"][image], **seen}
    down = math.ceil(len(pictures) / ACROSS)
    figure = Figure(figsize=(1.9 * ACROSS, 2.1 * down), layout="constrained")
    for place, (name, x) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(down, ACROSS, place)
        pixels = x if x.dtype == np.uint8 else x.clip(0, 1)
        axes.imshow(pixels.transpose(1, 2, 0))
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    return figure


if __name__ == "__main__":
    strips(load(StudyResult, Path(sys.argv[1]))).savefig(sys.argv[2], dpi=90, pil_kwargs={"quality": 85})
