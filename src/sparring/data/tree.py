"""Trees of files, read in memory: a directory, a zip, or a folder inside one of them. Nothing is unpacked to disk."""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sparring.core.errors import InputError

CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # what operating systems leave behind, besides hidden files
DRIVE = re.compile("[A-Za-z]:")  # other names may have a colon
DEEPEST = 6  # folders below the root; a loop of symbolic links ends here
LARGEST = 1 << 28  # bytes of one file in a zip; an image of more is a bomb


@dataclass(frozen=True)
class Tree:
    """Files and folders by their path below the root, such as "cat/1.png"; hidden ones and clutter are left out."""

    place: str  # the root, for messages
    files: Mapping[str, str]  # with a stamp each, which changes when the file does
    folders: frozenset[str]
    read: Callable[[str], bytes]

    def top(self) -> list[str]:
        """Return the names of the folders that lie directly in the root, sorted."""
        return sorted(name for name in self.folders if "/" not in name)

    def has_folders(self, folder: str) -> bool:
        """Return whether `folder` holds folders itself."""
        return any(name.startswith(f"{folder}/") for name in self.folders)

    def below(self, folder: str) -> "Tree":
        """Return the part of the tree that lies in `folder`, as a tree of its own."""
        start = f"{folder}/"
        files = {name.removeprefix(start): stamp for name, stamp in self.files.items() if name.startswith(start)}
        folders = frozenset(name.removeprefix(start) for name in self.folders if name.startswith(start))
        return Tree(f"{self.place}/{folder}", files, folders, lambda name: self.read(start + name))


def open_tree(root: Path, stack: ExitStack) -> Tree:
    """Return the tree of a directory or a .zip file, which stays open until `stack` closes.

    Raises InputError when it cannot be read, or when the zip is broken, encrypted or names files outside itself.
    """
    if root.is_dir():
        return _directory(root)
    try:  # zipfile says ValueError for a NUL in the path, and a kind of RuntimeError for a newer version of the format
        archive = stack.enter_context(zipfile.ZipFile(root))
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{root}: not a readable zip file ({error}); give a directory of images or a whole zip"
        ) from None
    return _zipped(root, archive)


def _directory(root: Path) -> Tree:
    files: dict[str, str] = {}
    folders: set[str] = set()
    try:
        for name, entry in _walk(root, "", DEEPEST):
            if entry.is_dir():
                folders.add(name)
            elif entry.is_file():
                facts = entry.stat()
                files[name] = f"{facts.st_size}:{facts.st_mtime_ns}"
            else:
                raise InputError(f"{entry.path}: neither a file nor a folder (a broken link?); remove it")
    except OSError as error:
        raise InputError(f"{error.filename or root}: cannot be read ({error.strerror or error})") from None
    return Tree(str(root), files, frozenset(folders), lambda name: _read_file(root / name))


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not _hidden(entry.name)]
    for entry in shown:
        yield prefix + entry.name, entry
        if depth and entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _zipped(root: Path, archive: zipfile.ZipFile) -> Tree:
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        parts = _inside(info.filename, root)
        if any(map(_hidden, parts)):
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + info.is_dir()))
        if not info.is_dir():
            members["/".join(parts)] = info
    files = {name: f"{info.file_size}:{info.CRC:08x}" for name, info in members.items()}
    return Tree(str(root), files, frozenset(folders), lambda name: _read_member(archive, members[name], root))


def _inside(name: str, root: Path) -> list[str]:
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or DRIVE.fullmatch(parts[0]) or ".." in parts:
        raise InputError(f"{root}: member {name!r} points outside the zip; do not trust this file")
    return [part for part in parts if part not in ("", ".")]


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, root: Path) -> bytes:
    if info.file_size > LARGEST:
        raise InputError(f"{root}: member {info.filename!r} holds {info.file_size} bytes, too many for an image")
    try:  # zipfile says RuntimeError for an encrypted member, and a kind of it for a compression that it does not know
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{root}: member {info.filename!r} cannot be read ({error}); make the zip again") from None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in CLUTTER
