"""Image files to pixels: each kind of image, and each that cannot be used."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sparring.core.errors import InputError
from sparring.data import Folder
from sparring.data.pixels import decode


def test_grey_images_give_one_channel_and_one_colour_image_among_them_gives_three(tmp_path: Path, images: Any) -> None:
    grey = images.animals(3, mode="L")
    data = Folder(str(images.write_tree(tmp_path / "grey", grey)), test=1.0).load()
    assert data.shape == (1, 5, 6)
    assert torch.equal(data.test.x[1, 0], images.pixels(grey["ant/01.png"])[0])
    mixed = grey | {"bee/01.png": images.png(9)}
    data = Folder(str(images.write_tree(tmp_path / "mixed", mixed)), test=1.0).load()
    assert data.shape == (3, 5, 6)
    assert all(torch.equal(data.test.x[i], images.pixels(mixed[name])) for i, name in enumerate(sorted(mixed)))


def test_other_kinds_of_pixels_become_grey_or_colour(tmp_path: Path, images: Any) -> None:
    sixteen = Image.fromarray(np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16))
    palette = Image.new("P", (3, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    files = {
        "a/1.png": images.as_png(sixteen),
        "b/2.png": images.as_png(Image.new("1", (3, 2), 1)),
        "c/3.png": images.as_png(Image.new("LA", (3, 2), (7, 0))),
    }
    x = Folder(str(images.write_tree(tmp_path / "grey", files)), test=1.0).load().test.x
    assert x.shape == (3, 1, 2, 3)
    assert x[0, 0].tolist() == [[0, 0, 1], [128, 255, 255]]
    assert (x[1] == 255).all()
    assert (x[2] == 7).all()
    files = {
        "a/1.png": images.as_png(palette, transparency=b"\x00\x80"),
        "b/2.png": images.as_png(Image.new("RGBA", (3, 2), (1, 2, 3, 0))),
        "c/3.tiff": images.png(5, mode="CMYK", size=(3, 2)),
    }
    x = Folder(str(images.write_tree(tmp_path / "colour", files)), test=1.0).load().test.x
    assert x[0, :, 0, 0].tolist() == [10, 20, 30]
    assert x[1, :, 1, 2].tolist() == [1, 2, 3]
    assert torch.equal(x[2], images.pixels(files["c/3.tiff"]))


def test_images_of_unequal_size_are_named_with_the_fix_and_size_mends_it(tmp_path: Path, images: Any) -> None:
    files = images.animals(2) | {"bee/01.png": images.png(size=(8, 9)), "cat/00.png": images.png(size=(1, 1))}
    root = images.write_tree(tmp_path / "set", files)
    with pytest.raises(InputError) as error:
        Folder(str(root)).load()
    expected = f"{root}/ant/00.png is 6x5, {root}/bee/01.png is 8x9; give size=, such as size=5"
    assert str(error.value) == f"images differ in size: {expected}"
    data = Folder(str(root), size=4, test=1.0).load()
    assert data.shape == (3, 4, 4)
    assert data.note == "decoded from 6 .png files, the centred square resized to 4x4 (bicubic)"


def test_size_scales_the_short_side_and_keeps_the_centre(tmp_path: Path, images: Any) -> None:
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 12, 3), np.uint8))
    files = {"a/1.png": images.as_png(wide), "b/2.png": images.as_png(wide.transpose(Image.Transpose.ROTATE_90))}
    x = Folder(str(images.write_tree(tmp_path / "set", files)), size=8, test=1.0).load().test.x
    expected = wide.resize((24, 8), Image.Resampling.BICUBIC).crop((8, 0, 16, 8))
    assert torch.equal(x[0], images.pixels(images.as_png(expected)))
    assert torch.equal(x[1], images.pixels(images.as_png(expected.transpose(Image.Transpose.ROTATE_90))))


def test_a_cut_jpeg_is_named_and_nothing_is_cached(tmp_path: Path, cache: Path, images: Any) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "JPEG")
    files = {"a/1.jpg": buffer.getvalue(), "b/2.jpg": buffer.getvalue()[:-700]}
    root = images.write_tree(tmp_path / "set", files)
    with pytest.raises(InputError, match=r"b/2\.jpg: not a readable image \(.*truncated"):
        Folder(str(root)).load()
    assert not cache.exists()
    (root / "b/2.jpg").write_bytes(files["a/1.jpg"])
    assert Folder(str(root), test=1.0).load().note == "decoded from 2 .jpg files"


@pytest.mark.parametrize("place", [0, 1, 3])
def test_unreadable_images_are_named_counted_and_left_out_where_that_is_chosen(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, place: int, images: Any
) -> None:
    files = {f"{name}/1.png": images.png(level) for level, name in enumerate("abcd")}
    bad = sorted(files)[place]
    root = str(images.write_tree(tmp_path / "set", {**files, bad: files[bad][:30]}))
    with caplog.at_level(logging.WARNING, "sparring"):
        first = Folder(root, test=1.0, unreadable="skip").load()
    assert caplog.text.count("left out") == 1
    assert bad in caplog.text
    assert first.note == f"decoded from 3 .png files (1 unreadable ones left out); no image is left of {bad[0]!r}"
    kept = [level for level in range(4) if level != place]
    assert first.test.y.tolist() == kept
    assert len(first.classes) == 4
    whole = (images.pixels(files[name]) for name in sorted({*files} - {bad}))
    assert all(map(torch.equal, first.test.x, whole))
    caplog.clear()
    again = Folder(root, test=1.0, unreadable="skip").load()
    assert images.same(first, again)
    assert "broken" not in caplog.text  # what was left out is kept with what was not
    with pytest.raises(InputError, match="not a readable image"):
        Folder(root, test=1.0).load()


def test_a_set_of_unreadable_images_alone_is_refused(tmp_path: Path, cache: Path, images: Any) -> None:
    root = str(images.write_tree(tmp_path / "set", {"a/1.png": b"x", "b/1.png": b"y"}))
    with pytest.raises(InputError, match="none of its 2 files is a readable image"):
        Folder(root, test=1.0, unreadable="skip").load()


def test_an_image_that_unpacks_to_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    bomb = images.as_png(Image.new("1", (100, 100)))
    with pytest.raises(InputError, match=r"1\.png: not a readable image \(.*decompression bomb"):
        Folder(str(images.write_tree(tmp_path / "set", {"a/1.png": bomb, "b/2.png": bomb}))).load()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, mode: str, images: Any) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (3, 3), 70_000).save(buffer, "TIFF")
    with pytest.raises(InputError, match=r"1\.tiff: .*32 bits a pixel"):
        Folder(str(images.write_tree(tmp_path / "set", {"a/1.tiff": buffer.getvalue()})), test=1.0).load()


def test_a_train_part_of_unreadable_images_alone_is_refused(tmp_path: Path, cache: Path, images: Any) -> None:
    """Its test images would be divided, and trained on."""
    files = {"train/a/1.png": b"x", "train/b/1.png": b"y"}
    files |= {f"test/{name}/{i}.png": images.png(i) for name in "ab" for i in range(3)}
    root = str(images.write_tree(tmp_path / "set", files))
    with pytest.raises(InputError, match=r"none of the files in '\w+' of train is a readable image"):
        Folder(root, unreadable="skip").load()


@pytest.mark.parametrize("mark", range(1, 9))
def test_an_image_that_a_camera_marks_as_turned_is_turned_upright(mark: int) -> None:
    stored, marks = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)), Image.Exif()
    marks[0x0112] = mark
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=marks)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))))
    assert np.array_equal(decode(buffer.getvalue(), "x", None), upright)
    assert upright.shape == ((3, 4) if mark < 5 else (4, 3))
