"""Directories and zips as trees of files: broken, hostile and cluttered ones."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from sparring.core.errors import InputError
from sparring.data import Folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bee/01.png": b"\x89PNG\r\n\x1a\n" + bytes(40)}, r"bee/01\.png: not a readable image"),
        ({"bee/01.png": b"not an image"}, r"bee/01\.png: not a readable image \(not a known image format\)"),
        ({"bee/01.png": b""}, r"bee/01\.png: not a readable image"),
        ({"bee/notes.txt": b"hello"}, r"bee/notes\.txt: not a readable image"),
        ({"bee/more/02.png": b"unread"}, r"bee/more/02\.png: lies too deep"),
        ({"dog/.hidden": b""}, "dog: empty class folder"),
    ],
)
def test_bad_files_are_named_in_one_line(
    tmp_path: Path, packed: bool, change: dict[str, bytes], says: str, images: Any
) -> None:
    files = images.animals(2) | change
    write = images.write_zip if packed else images.write_tree
    root = write(tmp_path / "set.zip", files)
    if packed:  # an empty folder in a zip is a member that ends in a slash
        with zipfile.ZipFile(root, "a") as archive:
            archive.writestr("dog/" if "dog/.hidden" in change else "ant/", b"")
    with pytest.raises(InputError, match=says) as error:
        Folder(str(root), test=0.5).load()
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)


def test_folders_in_a_zip_may_have_a_colon_in_their_names(tmp_path: Path, images: Any) -> None:
    files = {f"{name}/{i}.png": images.png(i) for name in ("a", "b:c") for i in range(5)}
    assert Folder(str(images.write_zip(tmp_path / "set.zip", files))).load().classes == ("a", "b:c")


@pytest.mark.parametrize("name", ["../evil.png", "ant/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_a_zip_that_points_outside_itself_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, images: Any
) -> None:
    place = images.write_zip(tmp_path / "inner/set.zip", images.animals(2) | {name: images.png()})
    with pytest.raises(InputError, match=r"set\.zip: member .*evil\.png' points outside the zip"):
        Folder(str(place)).load()
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "set.zip"]


def test_a_zip_is_never_unpacked_to_disk(tmp_path: Path, cache: Path, images: Any) -> None:
    place = images.write_zip(tmp_path / "inner/set.zip", images.animals(2))
    Folder(str(place), test=1.0).load()
    assert images.only(cache).suffix == ".safetensors"
    assert not list(tmp_path.rglob("*.png"))


def test_broken_zips_are_refused_by_name(tmp_path: Path, images: Any) -> None:
    whole = images.write_zip(tmp_path / "set.zip", images.animals(2)).read_bytes()
    for data in (whole[:-30], b"", b"not a zip"):
        (tmp_path / "set.zip").write_bytes(data)
        with pytest.raises(InputError, match=r"set\.zip: not a readable zip file"):
            Folder("set.zip").load()
    at = whole.index(b"IDAT") + 6  # inside the first member's pixels: its CRC will not agree
    (tmp_path / "set.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InputError, match=r"set\.zip: member 'ant/00\.png' cannot be read \(Bad CRC-32"):
        Folder("set.zip").load()


def test_an_encrypted_zip_is_refused(tmp_path: Path, images: Any) -> None:
    data = bytearray(images.write_zip(tmp_path / "set.zip", images.animals(2)).read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"member 'ant/00\.png' cannot be read \(.*encrypted"):
        Folder("set.zip").load()


def test_a_zip_member_that_says_it_is_huge_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparring.data.tree.LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(1001))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match=r"member 'a/1\.png' holds 1001 bytes, too many"):
        Folder("set.zip").load()


def test_links_are_followed_loops_end_and_broken_links_are_named(tmp_path: Path, images: Any) -> None:
    images.write_tree(tmp_path / "set", images.animals(2))
    (tmp_path / "linked").mkdir()
    for name in ("ant", "bee", "cat"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "set" / name)
    assert images.same(Folder("linked", test=0.5).load(), Folder("set", test=0.5).load())
    (tmp_path / "set/ant/loop").symlink_to(tmp_path / "set/ant")
    with pytest.raises(InputError, match="lies too deep"):
        Folder("set").load()
    (tmp_path / "linked/dog").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"linked/dog: neither a file nor a folder \(a broken link\?\)"):
        Folder("linked").load()
