"""Images of one's own: class subfolders, in a directory or a zip."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.progress import track
from sparring.data.dataset import Dataset, PublishedFile, Source, Split, stratified
from sparring.data.download import cache_folder, data_folders
from sparring.data.pixels import INTERPOLATION, Pixels, cache_key, cached, decode, stack
from sparring.data.tree import Tree, open_tree

PARTS = ("train", "test")
WHOLE = "whole"
log = logging.getLogger("sparring")


class ImageFile(NamedTuple):
    """One image: its part (train, test or whole), its tree and path there, and its label."""

    part: str
    tree: Tree
    path: str
    label: int

    @property
    def where(self) -> str:
        """The file's name, for messages."""
        return f"{self.tree.place}/{self.path}"


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images of one's own: class subfolders, in a directory or a zip.

    `path`: as it is, or below SPARRING_DATA, or below the cache folder. It holds the class folders; or `train` and
    `test` with the same class folders each, as folders or as train.zip and test.zip. Without these two, `seed` draws
    the share `test` of each class; the share `validation` of each class of what is left is held out as well. With
    `drawn_from="whole"` both are shares of all images, whatever their class, for sets with an image or two a class.
    `size`: the side to which each image's centred square is resized (bicubic); without it all must be of one size.
    A file that is no readable image ends it (`unreadable="stop"`), or is named, counted and left out ("skip").
    Classes are the folders' names, sorted. Decoded images are kept in the cache folder.
    """

    name = "folder"
    lasting = False
    path: str = field(kw_only=False)
    size: int | None = None
    test: float = 0.2
    validation: float = 0.1
    drawn_from: Literal["class", "whole"] = "class"
    unreadable: Literal["stop", "skip"] = "stop"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise InputError(f"folder: size must be at least 1, not {self.size}")
        for name, share in (("test", self.test), ("validation", self.validation)):
            if not 0 <= share <= 1:
                raise InputError(f"folder: {name} is a share, from 0 to 1, not {share}")

    def files(self) -> tuple[PublishedFile, ...]:
        return ()

    def load(self) -> Dataset:
        root = locate(self.path)
        with ExitStack() as stack_of_files:
            parts = find_parts(root, stack_of_files)
            classes = _classes(parts)
            listed = [file for part, tree in parts.items() for file in _images(part, tree, classes)]
            x, rows = cached(self._cache_place(root, listed), len(listed), lambda: self._decode(listed))
        files = [listed[row] for row in rows.tolist()]
        for part in {file.part for file in listed} - {file.part for file in files}:
            raise InputError(f"{self.path}: none of the files of {part or 'it'} is a readable image")
        y = torch.tensor([file.label for file in files])
        rest, test = self._divide(x, y, sum(file.part == "train" for file in files))
        held = self._draw(rest.y, self.validation)
        note = self._note(files, len(listed) - len(files))
        return Dataset(repr(self), classes, rest.take(~held), rest.take(held), test, note)

    def _decode(self, files: list[ImageFile]) -> tuple[Tensor, Tensor]:
        """Return the images (N, C, H, W), and their files' places in the list (N,)."""
        rows: list[int] = []

        def readable() -> Iterator[tuple[str, Pixels]]:
            for row, file in enumerate(track(files, f"decoding {Path(self.path).name}", len(files))):
                try:
                    image = decode(file.tree.read(file.path), file.where, self.size)
                except InputError as error:
                    if self.unreadable == "stop":
                        raise
                    log.warning("left out: %s", error)
                    continue
                rows.append(row)
                yield file.where, image

        x = stack(readable(), len(files))
        if not rows:
            raise InputError(f"{self.path}: none of its {len(files)} files is a readable image")
        return x, torch.tensor(rows)

    def _draw(self, y: Tensor, share: float) -> Tensor:
        return stratified(y if self.drawn_from == "class" else torch.zeros_like(y), share, self.seed)

    def _cache_place(self, root: Path, files: list[ImageFile]) -> Path:
        facts = [f"{file.part} {file.path} {file.tree.files[file.path]}" for file in files]
        facts += [self.unreadable] if self.unreadable == "skip" else []  # as named before there was a choice
        return cache_folder() / "decoded" / f"{root.stem}-{cache_key((str(root), str(self.size), *facts))}.safetensors"

    def _divide(self, x: Tensor, y: Tensor, train: int) -> tuple[Split, Split]:
        """Return what is not for the test, and what is; `train`: the length of the train part, 0 if there is none."""
        if train:
            halves = ((x[:train], y[:train]), (x[train:], y[train:]))
            rest, test = (Split(images, labels, torch.arange(len(labels))) for images, labels in halves)
            return rest, test
        whole = Split(x, y, torch.arange(len(y)))
        drawn = self._draw(y, self.test)
        if self.test and not drawn.any():
            raise InputError(
                f"{self.path}: too few images a class for test={self.test}; test=1.0 takes all for the test, and "
                'drawn_from="whole" a share of all together'
            )
        return whole.take(~drawn), whole.take(drawn)

    def _note(self, files: list[ImageFile], left_out: int) -> str:
        kinds = Counter(Path(file.path).suffix.lower() or "nameless" for file in files).most_common()
        note = f"decoded from {' and '.join(f'{count} {kind}' for kind, count in kinds)} files"
        note += f" ({left_out} unreadable ones left out)" if left_out else ""
        square = f", the centred square resized to {self.size}x{self.size} ({INTERPOLATION.name.lower()})"
        return note + (square if self.size else "")


def locate(path: str) -> Path:
    """Return the directory or zip that `path` means; raise InputError, naming where it was looked for, if none."""
    folders = data_folders()
    try:
        given = Path(path).expanduser()
        places = [given.absolute(), *(folder / given for folder in folders)]
        found = next((place for place in places if place.exists()), None)
    except (OSError, RuntimeError) as error:  # too long a name, a locked folder, an unknown user's home
        raise InputError(f"folder: {path[:80]!r} cannot be looked for ({str(error)[:80]})") from None
    if found is None:
        looked = ", ".join(dict.fromkeys(map(str, places)))
        raise InputError(f"folder: {path!r} does not exist; looked for {looked}")
    return found


def find_parts(root: Path, stack_of_files: ExitStack) -> Mapping[str, Tree]:
    """Return the trees of class folders in `root`: a train and a test part, or one whole."""
    zips = {part: root / f"{part}.zip" for part in PARTS}
    if all(place.is_file() for place in zips.values()):
        return {part: _unwrap(open_tree(place, stack_of_files)) for part, place in zips.items()}
    tree = _unwrap(open_tree(root, stack_of_files))
    if not all(part in tree.top() and tree.has_folders(part) for part in PARTS):
        return {WHOLE: tree}
    beside = [name for name in tree.top() if name not in PARTS]
    if beside:
        raise InputError(f"{tree.place}: {beside[0]!r} lies beside train and test; move it away")
    return {part: tree.below(part) for part in PARTS}


def _unwrap(tree: Tree) -> Tree:
    """Leave out folders that hold one folder of folders each, as zips of a folder have one."""
    top = tree.top()
    return _unwrap(tree.below(top[0])) if len(top) == 1 and tree.has_folders(top[0]) else tree


def _classes(parts: Mapping[str, Tree]) -> tuple[str, ...]:
    first, *others = parts.values()
    classes = first.top()
    if not classes:
        zips = [name for name in first.files if name.endswith(".zip") and "/" not in name]
        hint = f", as in {zips[0]}? Then give its path" if zips else "; images belong in one folder a class"
        raise InputError(f"{first.place}: holds no class folders{hint}")
    for other in others:
        odd = sorted(set(classes) ^ set(other.top()))
        if odd:
            inside, outside = (first, other) if odd[0] in classes else (other, first)
            raise InputError(
                f"{inside.place}/{odd[0]}: there is no such class folder in {outside.place}; make both agree"
            )
    return tuple(classes)


def _images(part: str, tree: Tree, classes: tuple[str, ...]) -> Iterator[ImageFile]:
    by_class: dict[str, list[str]] = {name: [] for name in classes}
    for path in sorted(tree.files):
        folder, _, rest = path.partition("/")
        if "/" in rest:
            raise InputError(f"{tree.place}/{path}: lies too deep; images belong directly in their class folder")
        if rest:
            by_class[folder].append(path)
    for label, (name, paths) in enumerate(by_class.items()):
        if not paths:
            raise InputError(f"{tree.place}/{name}: empty class folder; add images or remove it")
        yield from (ImageFile(part, tree, path, label) for path in paths)
