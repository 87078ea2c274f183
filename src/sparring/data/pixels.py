"""Image files to one uint8 tensor, decoded once and kept in the cache folder."""

import hashlib
import io
import logging
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.tensors import save_tensors

INTERPOLATION = Image.Resampling.BICUBIC
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112  # the EXIF tag by which a camera says how it was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
VERSION = 2  # of what decoding gives: a new number makes old cache files useless

Pixels = npt.NDArray[np.uint8]
log = logging.getLogger("sparring")


def decode(data: bytes, where: str, size: int | None) -> Pixels:
    """Return an image file's pixels: (H, W) if it is grey, else (H, W, 3); of `size`, the centred square, resized.

    Transparency is dropped, and an image that a camera marks as turned is turned upright. Raises InputError, naming
    `where`, if the bytes are no whole image of 8 or 16 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            turn = UPRIGHT.get(_orientation(image))
            flat = _flat(image) if turn is None else _flat(image).transpose(turn)
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        reason = "not a known image format" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{where}: not a readable image ({reason}); replace or remove it") from None
    return np.asarray(flat if size is None else ImageOps.fit(flat, (size, size), INTERPOLATION))


def stack(images: Iterable[tuple[str, Pixels]], count: int) -> Tensor:
    """Return named images, `count` at most, as one tensor (N, C, H, W): C is 1 if all are grey, else 3.

    Raises InputError, naming the first two that disagree, when their sizes differ.
    """
    x = np.empty((0, 1, 0, 0), np.uint8)
    first, row = "", -1
    for row, (name, image) in enumerate(images):
        height, width = image.shape[:2]
        if row == 0:
            x, first = np.empty((count, 1, height, width), np.uint8), name
        if (height, width) != x.shape[2:]:
            sizes = f"{first} is {x.shape[3]}x{x.shape[2]}, {name} is {width}x{height}"
            raise InputError(f"images differ in size: {sizes}; give size=, such as size={min(x.shape[2:])}")
        if image.ndim == 3 and x.shape[1] == 1:
            x = np.repeat(x, 3, axis=1)
        x[row] = image if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(x[: row + 1])


def cache_key(facts: Iterable[str]) -> str:
    """Return a name for what was decoded from `facts`; other facts, or another version of this code, another name."""
    text = "\n".join((str(VERSION), INTERPOLATION.name, *facts))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def cached(place: Path, count: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the images kept at `place`, else what `make` gives, which is then kept there.

    `make` gives images (N, C, H, W) and which they are of the `count` that there are in all (N,). A broken cache file
    is made again; one that cannot be written costs the time of decoding, next time, and no more.
    """
    if place.exists():
        try:
            return _load(place, count)
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("%s: broken cache file (%s); the images are decoded again", place, error)
    x, rows = make()
    try:
        _save(place, x, rows, count)
    except (InputError, SafetensorError) as error:
        log.warning("the decoded images are not kept: %s", error)
    return x, rows


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # marks that cannot be read are none; Pillow raises whatever it stumbles over
        return None


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode}: 32 bits a pixel, without a known range; save it with 8")
    if "transparency" in image.info:  # Pillow warns of converting these straight to RGB
        image = image.convert("LA" if image.mode in GREY else "RGBA")
    return image.convert("L" if image.mode in GREY else "RGB")


def _load(place: Path, count: int) -> tuple[Tensor, Tensor]:
    with safe_open(place, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        facts = file.metadata() or {}
    x, rows = tensors["x"], tensors.get("rows", torch.arange(count))
    whole = x.dtype == torch.uint8 and x.ndim == 4 and len(x) == len(rows) <= count
    if not whole or facts.get("crc32") != _crc32(*tensors.values()):
        raise ValueError("its contents are not what was written")
    return x, rows


def _save(place: Path, x: Tensor, rows: Tensor, count: int) -> None:
    tensors = {"x": x} if len(rows) == count else {"rows": rows, "x": x}
    save_tensors(place, tensors, {"crc32": _crc32(*tensors.values())})


def _crc32(*tensors: Tensor) -> str:
    found = 0
    for tensor in tensors:
        found = zlib.crc32(tensor.numpy().data, found)
    return f"{found:08x}"
