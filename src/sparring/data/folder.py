"""Images of one's own: class subfolders, in a directory or a zip."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.progress import track
from sparring.data.dataset import Dataset, PublishedFile, Source, Split, stratified
from sparring.data.download import cache_folder
from sparring.data.layout import (
    TEST,
    TRAIN,
    VALIDATION,
    WHOLE,
    ImageFile,
    find_classes,
    find_images,
    find_parts,
    locate,
)
from sparring.data.pixels import INTERPOLATION, Pixels, cache_key, cached, decode, stack

NAMED = 40  # characters of a folder's name in that of its cache file, which must not grow too long
log = logging.getLogger("sparring")


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Images of one's own: class subfolders, in a directory or a zip.

    `path`: as it is, or below SPARRING_DATA, or below the cache folder. It holds the class folders; or `train` and
    `test` with the same class folders each, as folders or as train.zip and test.zip. A `val` beside both is the
    validation split; beside `train` alone it is the test split. Without such parts, `seed` draws the share `test` of
    each class; without a validation part, the share `validation` of each class of what is left is held out as well.
    With `drawn_from="whole"` both are shares of all images, whatever their class, for sets of an image or two a class.
    `size`: the side to which each image's centred square is resized (bicubic); without it all must be of one size.
    A file that is no readable image ends it (`unreadable="stop"`), or is named, counted and left out ("skip").
    Classes are the folders' names, in the order of their numbers if all are numbers, else of the alphabet; or those of
    `classes` alone, in its order. Decoded images are kept in the cache folder.
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
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise InputError(f"folder: size must be at least 1, not {self.size}")
        for name, share in (("test", self.test), ("validation", self.validation)):
            if not 0 <= share <= 1:
                raise InputError(f"folder: {name} is a share, from 0 to 1, not {share}")

    def whereabouts(self) -> tuple[str, str]:
        return "your own, without checksums", str(locate(self.path))

    def files(self) -> tuple[PublishedFile, ...]:
        return ()

    def load(self) -> Dataset:
        root = locate(self.path)
        with ExitStack() as stack_of_files:
            parts = find_parts(root, stack_of_files)
            if WHOLE not in parts and self.test != Folder.test:
                raise InputError(f"{self.path}: the test images lie in a folder of their own; leave test= out")
            classes = find_classes(parts, self.classes)
            listed = [file for part, tree in parts.items() for file in find_images(part, tree, classes)]
            x, rows = cached(self._cache_place(root, listed), len(listed), lambda: self._decode(listed))
        files = [listed[row] for row in rows.tolist()]
        gone = self._lost(listed, files, classes)
        train, validation, test = self._divide(x, torch.tensor([file.label for file in files]), files)
        note = self._note(files, len(listed) - len(files))
        if self.validation and len(train) and not len(validation):
            note += f"; too few images a class for validation={self.validation}: there are none"
        note += f"; no image is left of {' and '.join(gone)}" if gone else ""
        return Dataset(repr(self), classes, train, validation, test, note)

    def _lost(self, listed: list[ImageFile], files: list[ImageFile], classes: tuple[str, ...]) -> list[str]:
        """Return which classes of which part lost all their images.

        Raises InputError where one is to be learned: nobody would notice. Sets of an image a class may lose some.
        """
        lost = {(file.part, file.label) for file in listed} - {(file.part, file.label) for file in files}
        told = [f"{classes[label]!r}{f' of {part}' if part != WHOLE else ''}" for part, label in sorted(lost)]
        if told and self.test < 1 and self.drawn_from == "class":
            raise InputError(f"{self.path}: none of the files in {told[0]} is a readable image")
        return told

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
        key = cache_key((str(root), str(self.size), *facts))
        return cache_folder() / "decoded" / f"{root.stem[:NAMED]}-{key}.safetensors"

    def _divide(self, x: Tensor, y: Tensor, files: list[ImageFile]) -> tuple[Split, Split, Split]:
        """Return the training, validation and test splits; `files`: those of the rows."""
        given = {part: _rows(x, y, [file.part == part for file in files]) for part in (TRAIN, VALIDATION, TEST)}
        rest, test = (given[TRAIN], given[TEST]) if files[0].part != WHOLE else self._drawn(x, y)
        if len(given[VALIDATION]):
            return rest, given[VALIDATION], test
        held = self._draw(rest.y, self.validation)
        return rest.take(~held), rest.take(held), test

    def _drawn(self, x: Tensor, y: Tensor) -> tuple[Split, Split]:
        """Return what is not for the test, and what is."""
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


def _rows(x: Tensor, y: Tensor, chosen: list[bool]) -> Split:
    rows = torch.tensor(chosen)
    return Split(x[rows], y[rows], torch.arange(int(rows.sum())))
