"""Folders of images: every layout gives the same dataset, and what is no such folder is named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sparring.core.errors import InputError
from sparring.data import Folder


def test_each_image_keeps_its_pixels_and_its_label(tmp_path: Path, images: Any) -> None:
    files = images.animals()
    data = Folder(str(images.write_tree(tmp_path / "set", files))).load()
    assert data.classes == ("ant", "bee", "cat")
    assert data.shape == (3, 5, 6)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [21, 3, 6]
    names = sorted(files)
    seen = []
    for part in (data.train, data.validation, data.test):
        for image, label, place in zip(part.x, part.y, part.ids, strict=True):
            assert torch.equal(image, images.pixels(files[names[place]]))
            assert names[place].startswith(data.classes[label])
            seen.append(int(place))
    assert sorted(seen) == list(range(30))
    assert data.test.y.bincount().tolist() == [2, 2, 2]
    assert data.validation.y.bincount().tolist() == [1, 1, 1]
    assert data.note == "decoded from 30 .png files"


def test_a_directory_a_zip_and_a_zip_of_the_folder_give_the_same(tmp_path: Path, images: Any) -> None:
    files = images.animals()
    clutter = {"README.md": b"hello", ".hidden/x.png": b"", "ant/.DS_Store": b"", "__MACOSX/ant/._00.png": b"junk"}
    sources = [
        images.write_tree(tmp_path / "plain", files),
        images.write_tree(tmp_path / "cluttered", files | clutter | {"bee/Thumbs.db": b"junk"}),
        images.write_zip(tmp_path / "flat.zip", files | clutter),
        images.write_zip(tmp_path / "wrapped.zip", images.below("animals", files) | {"__MACOSX/animals/._x": b"junk"}),
        images.write_zip(tmp_path / "dotted.zip", images.below(".", files)),
        images.write_zip(tmp_path / "windows.zip", {name.replace("/", "\\"): data for name, data in files.items()}),
    ]
    first, *others = (Folder(str(source)).load() for source in sources)
    assert all(images.same(first, other) for other in others)


def test_train_and_test_may_be_folders_or_zips_and_are_kept_apart(tmp_path: Path, images: Any) -> None:
    train, test = images.animals(10), images.animals(4)
    images.write_tree(tmp_path / "a", images.below("train", train) | images.below("test", test))
    images.write_zip(tmp_path / "b.zip", images.below("train", train) | images.below("test", test))
    images.write_zip(tmp_path / "c/train.zip", train)
    images.write_zip(tmp_path / "c/test.zip", images.below("test", test))
    first, *others = (Folder(str(tmp_path / name)).load() for name in ("a", "b.zip", "c"))
    assert [len(part) for part in (first.train, first.validation, first.test)] == [27, 3, 12]
    assert torch.equal(first.test.ids, torch.arange(12))
    names = sorted(test)
    assert all(torch.equal(image, images.pixels(test[names[i]])) for i, image in enumerate(first.test.x))
    assert all(images.same(first, other) for other in others)


def test_classes_may_be_called_train_and_test(tmp_path: Path, images: Any) -> None:
    root = images.write_tree(
        tmp_path / "vehicles", {f"{name}/{i}.png": images.png(i) for name in ("test", "train") for i in range(5)}
    )
    assert Folder(str(root)).load().classes == ("test", "train")


def test_a_path_is_looked_for_here_then_in_the_data_folder_then_in_the_cache(
    tmp_path: Path, home: Path, cache: Path, images: Any
) -> None:
    for count, root in ((4, cache), (5, home), (6, tmp_path)):
        images.write_tree(root / "set", images.animals(count))
    sizes = []
    for root in (tmp_path, home, cache):
        sizes.append(len(Folder("set", test=1.0).load().test))
        (root / "set").rename(root / "gone")
    assert sizes == [18, 15, 12]
    with pytest.raises(InputError, match=r"folder: 'set' does not exist; looked for .*home/set.*cache/set"):
        Folder("set").load()


def test_the_seed_decides_the_split_and_nothing_else(tmp_path: Path, cache: Path, images: Any) -> None:
    root = str(images.write_tree(tmp_path / "set", images.animals()))
    one, again, other = (Folder(root, seed=seed).load() for seed in (0, 0, 1))
    assert images.same(one, again)
    assert not torch.equal(one.test.ids, other.test.ids)
    images.only(cache)  # the same decoded images serve every split


def test_shares_of_one_and_nought(tmp_path: Path, images: Any) -> None:
    root = str(images.write_tree(tmp_path / "set", images.animals(1)))
    everything = Folder(root, test=1.0).load()
    assert (len(everything.train), len(everything.validation), len(everything.test)) == (0, 0, 3)
    assert everything.shape == (3, 5, 6)
    nothing = Folder(root, test=0.0, validation=0.0).load()
    assert (len(nothing.train), len(nothing.validation), len(nothing.test)) == (3, 0, 0)
    with pytest.raises(InputError, match=r"too few images a class for test=0\.2; test=1\.0"):
        Folder(root).load()


def test_a_share_of_the_whole_needs_but_one_image_a_class(tmp_path: Path, images: Any) -> None:
    files = {f"{name}/1.png": images.png(place) for place, name in enumerate("abcdefghij")}
    root = str(images.write_tree(tmp_path / "set", files))
    with pytest.raises(InputError, match='drawn_from="whole"'):
        Folder(root, test=0.4).load()
    data = Folder(root, test=0.4, validation=0.5, drawn_from="whole").load()
    ids = [set(getattr(data, name).ids.tolist()) for name in ("train", "validation", "test")]
    assert [len(of) for of in ids] == [3, 3, 4]
    assert set.union(*ids) == set(range(10))
    other = Folder(root, test=0.4, validation=0.5, drawn_from="whole", seed=1).load()
    assert set(other.test.ids.tolist()) != ids[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"size": 0}, "size must be"),
        ({"test": 1.5}, "test is a share"),
        ({"validation": -0.1}, "validation is a share"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Folder("x", **arguments)  # type: ignore[arg-type]


def test_folders_without_classes_are_refused_with_a_hint(tmp_path: Path, images: Any) -> None:
    images.write_tree(tmp_path / "flat", {"1.png": images.png(), "2.png": images.png()})
    with pytest.raises(InputError, match="flat: holds no class folders; images belong in one folder a class"):
        Folder("flat").load()
    images.write_zip(tmp_path / "outer/images.zip", images.animals(2))
    with pytest.raises(InputError, match=r"outer: holds no class folders, as in images\.zip\? Then give its path"):
        Folder("outer").load()
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(InputError, match=r"file\.txt: not a readable zip file"):
        Folder("file.txt").load()


def test_train_and_test_must_have_the_same_classes_and_no_company(tmp_path: Path, images: Any) -> None:
    files = images.below("train", images.animals(2)) | images.below("test", images.animals(2))
    images.write_tree(tmp_path / "more", files | {"test/dog/1.png": images.png()})
    with pytest.raises(InputError, match=r"more/test/dog: there is no such class folder in .*more/train"):
        Folder("more").load()
    images.write_tree(tmp_path / "less", files | {"train/dog/1.png": images.png()})
    with pytest.raises(InputError, match=r"less/train/dog: there is no such class folder in .*less/test"):
        Folder("less").load()
    images.write_tree(tmp_path / "company", files | images.below("more", images.animals(2)))
    with pytest.raises(InputError, match="company: 'more' lies beside train and test"):
        Folder("company").load()


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-of-that-name/x", "a\0b", ""])
def test_a_path_that_can_be_none_is_one_line(path: str) -> None:
    with pytest.raises(InputError) as error:
        Folder(path).load()
    assert "\n" not in str(error.value)


def sizes(path: Path, **arguments: Any) -> tuple[int, int, int]:
    data = Folder(str(path), **arguments).load()
    return len(data.train), len(data.validation), len(data.test)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_is_the_test_beside_train_alone_and_else_the_validation_split(
    name: str, tmp_path: Path, images: Any
) -> None:
    train, held = images.below("train", images.animals(10)), images.below(name, images.animals(3))
    test = images.below("test", images.animals(4))
    assert sizes(images.write_tree(tmp_path / "two", train | held)) == (27, 3, 9)
    assert sizes(images.write_tree(tmp_path / "three", train | held | test)) == (30, 9, 12)
    assert sizes(images.write_zip(tmp_path / "three.zip", train | held | test)) == (30, 9, 12)
    for part, count in (("train", 10), (name, 3)):
        images.write_zip(tmp_path / f"zips/{part}.zip", images.animals(count))
    assert sizes(tmp_path / "zips") == (27, 3, 9)


def test_two_validation_parts_are_refused(tmp_path: Path, images: Any) -> None:
    parts = ("train", "val", "valid", "test")
    root = images.write_tree(
        tmp_path / "set", {k: v for part in parts for k, v in images.below(part, images.animals(2)).items()}
    )
    with pytest.raises(InputError, match="'valid' is a second validation part"):
        Folder(str(root)).load()


def test_a_test_share_beside_a_test_folder_is_refused(tmp_path: Path, images: Any) -> None:
    files = images.below("train", images.animals(2)) | images.below("test", images.animals(2))
    with pytest.raises(InputError, match="the test images lie in a folder of their own; leave test= out"):
        Folder(str(images.write_tree(tmp_path / "set", files)), test=1.0).load()


def test_a_class_none_of_whose_files_is_an_image_is_refused(tmp_path: Path, images: Any) -> None:
    files = images.animals() | {f"bee/{i}.png": b"junk" for i in range(10)}
    root = images.write_tree(tmp_path / "set", {name: files[name] for name in files if not name.startswith("bee")})
    images.write_tree(root, {name: data for name, data in files.items() if data == b"junk"})
    with pytest.raises(InputError, match="none of the files in 'bee' is a readable image"):
        Folder(str(root), unreadable="skip").load()


def test_classes_that_are_numbers_come_in_the_order_of_numbers(tmp_path: Path, images: Any) -> None:
    files = {f"{name}/{i}.png": images.png(name) for name in range(12) for i in range(2)}
    data = Folder(str(images.write_tree(tmp_path / "set", files)), test=1.0).load()
    assert data.classes == tuple(map(str, range(12)))
    assert all(int(image[0, 0, 0]) == label for image, label in zip(data.test.x, data.test.y, strict=True))


def test_classes_may_be_chosen_and_ordered(tmp_path: Path, images: Any) -> None:
    root = str(images.write_tree(tmp_path / "set", images.animals()))
    data = Folder(root, test=1.0, classes=("cat", "ant")).load()
    assert (data.classes, data.test.y.bincount().tolist()) == (("cat", "ant"), [10, 10])
    for classes, says in ((("cta",), "no class folder 'cta'; did you mean 'cat'"), (("ant", "ant"), "'ant' twice")):
        with pytest.raises(InputError, match=says):
            Folder(root, classes=classes).load()


def test_a_validation_share_that_gives_none_is_noted(tmp_path: Path, images: Any) -> None:
    root = str(images.write_tree(tmp_path / "set", images.animals(4)))
    assert "too few images a class for validation=0.1: there are none" in Folder(root, test=0.5).load().note
    assert "too few" not in Folder(root, test=0.5, validation=0.0).load().note


def test_a_folder_with_a_very_long_name_is_read_and_kept(tmp_path: Path, cache: Path, images: Any) -> None:
    images.write_tree(tmp_path / ("n" * 240), images.animals())
    assert len(Folder("n" * 240).load().train) == 21
    images.only(cache)
