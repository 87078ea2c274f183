"""No test here sees the user's data or the network, unless it says so."""

import io
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sparring.data import Dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache folder, no data folder, and a machine whose network cable is pulled."""

    def unplugged(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Network is unreachable")

    folder = tmp_path / "cache"
    monkeypatch.setenv("SPARRING_CACHE", str(folder))
    monkeypatch.delenv("SPARRING_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", unplugged)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a data folder that SPARRING_DATA names."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("SPARRING_DATA", str(folder))
    return folder


@pytest.fixture
def images() -> SimpleNamespace:
    """Give what makes image files, and folders and zips of them, and what compares the results."""
    makers = (png, bmp, as_png, animals, below, write_tree, write_zip, pixels, same, only)
    return SimpleNamespace(**{maker.__name__: maker for maker in makers})


def png(value: int = 0, *, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> bytes:
    """One image whose pixels count up from `value`, as PNG bytes; `size`: width and height."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = (np.arange(size[0] * size[1] * channels) + value).astype(np.uint8)
    buffer = io.BytesIO()
    Image.frombytes(mode, size, pixels.tobytes()).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


def bmp(value: int) -> bytes:
    """One image of one colour; all have the same number of bytes."""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "BMP")
    return buffer.getvalue()


def animals(count: int = 10, **options: object) -> dict[str, bytes]:
    """Three classes of `count` images each, all different."""
    names = ("ant", "bee", "cat")
    return {
        f"{name}/{i:02}.png": png(3 * i + 50 * label, **options)  # type: ignore[arg-type]
        for label, name in enumerate(names)
        for i in range(count)
    }


def below(prefix: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}/{name}": data for name, data in files.items()}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return root


def write_zip(place: Path, files: dict[str, bytes]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return place


def pixels(data: bytes) -> torch.Tensor:
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def as_png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def same(one: Dataset, other: Dataset) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in ("train", "validation", "test")]
    return one.classes == other.classes and all(
        torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.ids, b.ids) for a, b in parts
    )


def only(folder: Path) -> Path:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) == 1
    return found[0]
