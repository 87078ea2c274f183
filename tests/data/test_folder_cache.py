"""The cache of decoded images: used, seen through when files change, and mended when broken."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparring.data import Folder
from sparring.data import folder as folder_module


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any) -> None:
    images.write_tree(tmp_path / "set", images.animals())
    first = Folder("set").load()
    monkeypatch.setattr(folder_module, "decode", lambda *_: pytest.fail("it was decoded again"))
    assert images.same(first, Folder("set").load())


@pytest.mark.parametrize("change", ["pixels", "name", "size", "new"])
def test_a_change_of_the_files_or_the_size_is_seen(tmp_path: Path, change: str, images: Any) -> None:
    root = images.write_tree(tmp_path / "set", images.animals(3, size=(6, 6)))
    before = Folder("set", test=1.0).load()
    side = None
    if change == "pixels":
        changed = root / "ant/00.png"
        facts = changed.stat()
        changed.write_bytes((root / "ant/01.png").read_bytes().ljust(facts.st_size, b"\0")[: facts.st_size])
        os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    elif change == "name":
        (root / "ant/00.png").rename(root / "ant/99.png")
    elif change == "size":
        side = 3
    else:
        (root / "ant/03.png").write_bytes(images.png(200, size=(6, 6)))
    after = Folder("set", size=side, test=1.0).load()
    assert not images.same(before, after)


def test_a_changed_member_of_a_zip_is_seen(tmp_path: Path, images: Any) -> None:
    levels = []
    for value in (7, 8):
        images.write_zip(tmp_path / "set.zip", {"a/1.bmp": images.bmp(1), "b/2.bmp": images.bmp(value)})
        levels.append(Folder("set.zip", test=1.0).load().test.x[:, 0, 0, 0].tolist())
    assert levels == [[1, 7], [1, 8]]


def test_the_same_names_sizes_and_times_at_another_place_are_other_images(tmp_path: Path, images: Any) -> None:
    for value, place in ((7, "one/set"), (8, "two/set")):
        root = images.write_tree(tmp_path / place, {"a/1.bmp": images.bmp(value), "b/2.bmp": images.bmp(value)})
        for path in root.rglob("*.bmp"):
            os.utime(path, (1000, 1000))
        assert (Folder(str(root), test=1.0).load().test.x == value).all()


def cut(place: Path, images: Any) -> None:
    place.write_bytes(place.read_bytes()[:-100])


def flip_a_bit(place: Path, images: Any) -> None:
    data = bytearray(place.read_bytes())
    data[-5] ^= 1
    place.write_bytes(data)


def empty(place: Path, images: Any) -> None:
    place.write_bytes(b"")


def other_count(place: Path, images: Any) -> None:
    source = place.parent / "other"
    Folder(str(images.write_tree(source, images.animals(2))), test=1.0).load()
    made = next(path for path in place.parent.glob("*.safetensors") if path != place)
    made.replace(place)


@pytest.mark.parametrize("damage", [cut, flip_a_bit, empty, other_count])
def test_a_broken_cache_file_is_made_again_with_a_line(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path, Any], None], images: Any
) -> None:
    images.write_tree(tmp_path / "set", images.animals())
    first = Folder("set").load()
    place = images.only(cache)
    whole = place.read_bytes()
    damage(place, images)
    with caplog.at_level(logging.WARNING, "sparring"):
        assert images.same(first, Folder("set").load())
    assert caplog.text.count("broken cache file") == 1
    assert str(place) in caplog.text
    assert place.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_a_line_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, images: Any
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("SPARRING_CACHE", str(blocked))
    images.write_tree(tmp_path / "set", images.animals())
    with caplog.at_level(logging.WARNING, "sparring"):
        assert len(Folder("set").load().train) == 21
    assert "the decoded images are not kept" in caplog.text


def test_the_cache_holds_a_safetensors_file_and_no_temporary_ones(tmp_path: Path, cache: Path, images: Any) -> None:
    images.write_tree(tmp_path / "set", images.animals())
    Folder("set").load()
    place = images.only(cache)
    assert place.name.startswith("set-")
    assert place.parent == cache / "decoded"
