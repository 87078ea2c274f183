"""The images of an evaluation: read from its arrays, with the difference magnified until it can be seen."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparring.core.results import Evaluation

Pixels = NDArray[np.uint8]

BYTES = 1_000_000  # of raw pixels in a page: as text, at worst, a third more
ASIDE = 500_000  # where the page also has the explorer, which shows the same and more
SIDES = (224, 112, 56, 28)
LEAST = 4

_KEYS = ("ids", "y", "x", "x_adv", "p_clean", "p_adv")
_SEEN = ("seen", "seen_adv")  # what is behind a model's masks


@dataclass(frozen=True)
class Example:
    """One example: its images, what it is, and what the model makes of each with what confidence.

    `seen` and `seen_adversarial`: the clean and the adversarial image as they come through a model's masks, if it has
    any.
    """

    id: int
    clean: Pixels
    adversarial: Pixels
    difference: Pixels
    label: str
    predicted_clean: str
    confidence_clean: float
    predicted: str
    confidence: float
    verdict: Literal["holds", "fooled", "wrong already"]
    seen: Pixels | None = None
    seen_adversarial: Pixels | None = None


@dataclass(frozen=True)
class Strip:
    """A row's examples; `factor` magnifies the difference, `scale` pixels a side went into one, `total` were kept."""

    examples: tuple[Example, ...]
    factor: float
    scale: int
    total: int


def strip(evaluation: Evaluation, rows: int, budget: int = BYTES) -> Strip | None:
    """Return the examples kept with an evaluation, as many as one of `rows` may show; None if none were kept.

    `budget`: the bytes of pixels that all rows may have together.
    """
    arrays = {key: evaluation.arrays[f"gallery/{key}"] for key in _KEYS if f"gallery/{key}" in evaluation.arrays}
    if not _usable(arrays):
        return None
    total, channels, height, width = arrays["x"].shape
    behind = [evaluation.arrays[f"gallery/{key}"] for key in _SEEN if f"gallery/{key}" in evaluation.arrays]
    behind = [each for each in behind if each.shape == arrays["x"].shape]
    size = channels * height * width * (3 + len(behind)) // 3
    shown, scale = _within_budget(total, size, (height, width), budget // max(rows, 1))
    seen = [pixels(np.nan_to_num(shrink(each[:shown].astype(np.float64), scale))) for each in behind]
    seen = seen if len(seen) == len(_SEEN) else []
    x, x_adv = (np.nan_to_num(shrink(arrays[key][:shown].astype(np.float64), scale)) for key in ("x", "x_adv"))
    factor = magnification(x_adv - x)
    images = pixels(x), pixels(x_adv), pixels(0.5 + factor * (x_adv - x))
    examples = tuple(_example(evaluation.classes, arrays, images, index) for index in range(shown))
    return Strip(tuple(_behind(example, place, seen) for place, example in enumerate(examples)), factor, scale, total)


def _behind(example: Example, place: int, seen: Sequence[Pixels]) -> Example:
    """Return the example with what is seen of it behind the masks, if there are any."""
    return replace(example, seen=seen[0][place], seen_adversarial=seen[1][place]) if seen else example


def magnification(difference: NDArray[np.float64]) -> float:
    """Return the factor, a round one, at which the largest change of a pixel just reaches black or white."""
    largest = float(np.abs(difference).max(initial=0.0))
    if largest == 0:
        return 1.0
    exact = 0.5 / largest
    return exact if exact < 1 else float(math.floor(exact + 0.01))


def data_uri(pixels: Pixels) -> str:
    """Return an image as a PNG in a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _usable(arrays: dict[str, NDArray[Any]]) -> bool:
    if len(arrays) < len(_KEYS) or arrays["x"].ndim != 4 or arrays["x"].shape != arrays["x_adv"].shape:
        return False
    n = len(arrays["x"])
    flat, listed = all(arrays[key].shape == (n,) for key in ("ids", "y")), (arrays["p_clean"], arrays["p_adv"])
    return arrays["x"].size > 0 and flat and all(p.ndim == 2 and len(p) == n and p.shape[1] for p in listed)


def _within_budget(total: int, size: int, sides: tuple[int, int], budget: int) -> tuple[int, int]:
    """Return how many examples a row may show, and by what their sides must shrink, for the page to stay small."""
    scales = sorted({min(min(sides), math.ceil(max(sides) / most)) for most in SIDES})
    for scale in scales:
        affordable = budget // 3 * scale**2 // size
        if affordable >= min(total, LEAST):
            return min(total, affordable), scale
    return 1, scales[-1]


def shrink(images: NDArray[Any], scale: int) -> NDArray[np.float64]:
    """Average blocks of `scale` by `scale` pixels; what is left over at the edges is cut."""
    *_, height, width = images.shape
    high, wide = height // scale * scale, width // scale * scale
    total = np.zeros((*images.shape[:2], high // scale, wide // scale))
    for down in range(scale):  # over pixels of a block: many times faster than a mean over two axes
        for right in range(scale):
            total += images[:, :, down:high:scale, right:wide:scale]
    return total / scale**2


def pixels(images: NDArray[np.float64]) -> Pixels:
    """Turn (G, C, H, W) in [0, 1] into bytes: (G, H, W, 3) for three channels, else (G, H, W) in grey."""
    bytes_ = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    return (
        np.ascontiguousarray(bytes_.transpose(0, 2, 3, 1))
        if images.shape[1] == 3
        else bytes_.mean(axis=1).astype(np.uint8)
    )


def _example(
    classes: tuple[str, ...], arrays: dict[str, NDArray[Any]], images: tuple[Pixels, Pixels, Pixels], index: int
) -> Example:
    clean, attacked = arrays["p_clean"][index], arrays["p_adv"][index]
    label, guess_clean, guess = int(arrays["y"][index]), int(np.argmax(clean)), int(np.argmax(attacked))
    return Example(
        id=int(arrays["ids"][index]),
        clean=images[0][index],
        adversarial=images[1][index],
        difference=images[2][index],
        label=_class_name(classes, label),
        predicted_clean=_class_name(classes, guess_clean),
        confidence_clean=float(clean[guess_clean]),
        predicted=_class_name(classes, guess),
        confidence=float(attacked[guess]),
        verdict="wrong already" if guess_clean != label else "holds" if guess == label else "fooled",
    )


def _class_name(classes: tuple[str, ...], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else str(index)
