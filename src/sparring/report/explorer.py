"""The gallery's data: every image at every eps and what each model says, packed so that a page can hold it.

The pixels of an example are packed as its clean image followed by what the attack adds at each eps, modulo 256: exact,
and several times smaller than the images, since what is added is small. They are deflated and stand in the page as
base64; `templates/explorer.js` undoes both.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparring.core.study_results import Row
from sparring.report import format, gallery

BYTES = 2_500_000  # of base64 in a page, where it has room for so much
TOP = 3  # classes shown besides the true one
_SIDES = (math.inf, 112, 56, 28)  # pixels
_KEPT = ((math.inf, math.inf), (10, 6), (8, 5), (6, 4), (4, 4), (3, 3), (2, 2), (1, 2))  # examples, eps
_HOPELESS = 1.2  # times the room, as one example suggests: not worth the time to pack them all

Packed = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is kept: which examples, which of each row's eps, and by what the sides of the images are shrunk."""

    examples: int
    eps: int
    scale: int


@dataclass(frozen=True)
class Member:
    """A row whose images can be explored, by its number, with its arrays."""

    index: int
    row: Row
    arrays: dict[str, NDArray[Any]]


def explorable(rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the numbers of the rows whose images can be explored."""
    return tuple(member.index for group in _groups(rows).values() for member in group)


def pack(rows: Sequence[Row], room: int = BYTES) -> str:
    """Return as JSON what the page needs, in at most `room` bytes; nothing if that cannot be, or there is nothing.

    Where it is too much, smaller images, fewer eps and fewer examples are kept, in steps.
    """
    groups = list(_groups(rows).values())
    for plan in _plans(groups):
        if sum(_likely(group, plan) for group in groups) > _HOPELESS * room:
            continue
        packed = json.dumps([_group(group, plan) for group in groups], separators=(",", ":"), allow_nan=False)
        if len(packed) <= room:
            return packed
    return ""


def _groups(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Member]]:
    """Return the rows by what they share, since only rows attacked on the same examples in a norm can be compared."""
    groups: dict[tuple[Any, ...], list[Member]] = {}
    for index, row in enumerate(rows):
        found = row.evaluation.arrays
        arrays = {key: found[f"gallery/{key}"] for key in _KEYS if f"gallery/{key}" in found}
        if _usable(arrays):
            norm = row.evaluation.threat.partition("(")[0]
            key = (norm, tuple(arrays["ids"]), tuple(arrays["y"]), arrays["x"].shape, row.evaluation.classes)
            groups.setdefault(key, []).append(Member(index, row, arrays))
    return groups


_KEYS = ("ids", "y", "x", "p_clean", "eps", "at", "p_at")


def _usable(arrays: dict[str, NDArray[Any]]) -> bool:
    """Say whether all arrays are there and fit together."""
    numbers = len(arrays) == len(_KEYS) and all(np.issubdtype(array.dtype, np.number) for array in arrays.values())
    if not numbers or arrays["x"].ndim != 4 or not arrays["x"].size or arrays["eps"].ndim != 1:
        return False
    (examples, *_), eps, k = arrays["x"].shape, arrays["eps"], arrays["p_clean"].shape[-1:]
    shapes = {
        "ids": (examples,),
        "y": (examples,),
        "p_clean": (examples, *k),
        "at": (len(eps), *arrays["x"].shape),
        "p_at": (len(eps), examples, *k),
    }
    fitting = all(arrays[key].shape == shape for key, shape in shapes.items())
    rising = bool(len(eps) and not np.isnan(eps).any() and (eps[1:] > eps[:-1]).all())
    return fitting and rising and bool(k and k[0]) and arrays["at"].dtype == np.uint8


def _plans(groups: Sequence[Sequence[Member]]) -> Iterator[Plan]:
    """Yield what may be kept, the best first: images shrink before examples go, down to what can still be made out."""
    if not groups:
        return
    side = max(max(group[0].arrays["x"].shape[2:]) for group in groups)
    examples = max(len(group[0].arrays["ids"]) for group in groups)
    eps = max(len(member.arrays["eps"]) for group in groups for member in group)
    narrow = min(min(group[0].arrays["x"].shape[2:]) for group in groups)
    scales = dict.fromkeys(min(narrow, math.ceil(side / min(most, side))) for most in _SIDES)
    kept = dict.fromkeys((int(min(e, examples)), int(min(n, eps))) for e, n in _KEPT)
    few = 4  # examples, below which even a small image is better
    order = sorted(
        ((scale, e, n) for scale in scales for e, n in kept), key=lambda p: (p[1] < min(few, examples), p[0])
    )
    yield from (Plan(e, n, scale) for scale, e, n in order)


def _likely(group: Sequence[Member], plan: Plan) -> float:
    """Return about how many bytes a group takes, as one example of its last row has it."""
    arrays = group[-1].arrays
    of = _evenly(len(arrays["eps"]), plan.eps)
    clean = _shrunk(arrays["x"][:1], plan.scale)
    one = len(_packed(clean)) + len(group) * len(_added(arrays, of, 0, clean, plan.scale))
    return float(one * min(plan.examples, len(arrays["ids"])))


def _group(group: Sequence[Member], plan: Plan) -> Packed:
    first, kept = group[0], min(plan.examples, len(group[0].arrays["ids"]))
    chosen = [_evenly(len(member.arrays["eps"]), plan.eps) for member in group]
    eps = sorted({float(e) for member, of in zip(group, chosen, strict=True) for e in member.arrays["eps"][of]})
    clean = [_shrunk(first.arrays["x"][place : place + 1], plan.scale) for place in range(kept)]
    labels = [int(label) for label in first.arrays["y"][:kept]]
    members = [_member(m, of, eps, clean, labels, plan.scale) for m, of in zip(group, chosen, strict=True)]
    used = {place for member in members for of in member["said"] for said in of for place in said[2::2]} | set(labels)
    classes = first.row.evaluation.classes
    return {
        "eps": ["0", *map(format.eps, eps)],
        "classes": {place: classes[place] if 0 <= place < len(classes) else str(place) for place in sorted(used)},
        "shape": clean[0].shape[1:3] + (clean[0].shape[3:] or (1,)),
        "scale": plan.scale,
        "total": len(first.arrays["ids"]),
        "images": [
            {"id": int(number), "label": label, "clean": _packed(image)}
            for number, label, image in zip(first.arrays["ids"], labels, clean, strict=False)
        ],
        "rows": members,
    }


def _member(
    member: Member, of: list[int], eps: list[float], clean: list[gallery.Pixels], labels: list[int], scale: int
) -> Packed:
    """Return one row's attack on each example: at which of all eps, what it adds to the pixels, what is said."""
    arrays = member.arrays
    added = [_added(arrays, of, place, image, scale) for place, image in enumerate(clean)]
    said = [
        [_said(p, label) for p in (arrays["p_clean"][place], *arrays["p_at"][of, place])]
        for place, label in enumerate(labels)
    ]
    return {
        "row": member.index,
        "name": member.row.name,
        "threat": member.row.evaluation.threat,
        "at": [0, *(eps.index(float(arrays["eps"][place])) + 1 for place in of)],
        "added": added,
        "said": said,
    }


def _added(arrays: dict[str, NDArray[Any]], of: list[int], place: int, clean: gallery.Pixels, scale: int) -> str:
    """Return what the attack adds to an example at some of the eps; bytes wrap around, so nothing is lost."""
    return _packed(_shrunk(arrays["at"][of, place], scale, 255) - clean)


def _said(p: NDArray[Any], label: int) -> list[int]:
    """Return the class that is predicted and, in thousandths, how likely the true one; then the likeliest others."""
    p = np.nan_to_num(np.asarray(p, np.float64))
    likely = [int(place) for place in np.argsort(-p, kind="stable")[: TOP + 1]]
    true = round(1000 * float(p[label])) if 0 <= label < len(p) else 0
    others = [place for place in likely if place != label][:TOP]
    return [likely[0], true, *(each for place in others for each in (place, round(1000 * float(p[place]))))]


def _evenly(count: int, most: int) -> list[int]:
    """Return at most so many of `count` places, evenly, the last always among them and the first if it can be."""
    if count <= most:
        return list(range(count))
    return sorted({round(count - 1 - place * (count - 1) / max(most - 1, 1)) for place in range(most)})


def _shrunk(images: NDArray[Any], scale: int, white: int = 1) -> gallery.Pixels:
    return gallery.pixels(np.nan_to_num(gallery.shrink(images, scale) / white))


def _packed(pixels: gallery.Pixels) -> str:
    return base64.b64encode(zlib.compress(pixels.tobytes(), 4)).decode("ascii")
