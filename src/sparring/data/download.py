"""Where published files are found: the SPARRING_DATA folder, then the cache folder, then the mirrors.

Nothing is used before its contents, whole and in memory, agree with the checksum written beside the file's name. A
download becomes a file of the cache folder in one step and only after that check, so half a file is never used.
"""

import gzip
import hashlib
import logging
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Literal, cast

from sparring.core.errors import InputError
from sparring.core.files import replacing
from sparring.core.progress import Bar
from sparring.data.dataset import PublishedFile, Source

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
GZIP = b"\x1f\x8b"
OVERHEAD = 1 << 16  # bytes by which packing may enlarge what cannot be packed

log = logging.getLogger("sparring")


@dataclass(frozen=True)
class FileStatus:
    """What is known of one published file: its `place` (None where missing) and `size` there in bytes."""

    file: str
    place: Path | None
    size: int
    state: Literal["ok", "missing", "corrupt"]
    problem: str = ""


class _WrongError(Exception):
    """What is wrong with a copy or a mirror, for a message that names it."""


def cache_folder() -> Path:
    """Return where downloads and decoded images are kept: SPARRING_CACHE, else the user's cache folder."""
    chosen = os.environ.get("SPARRING_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "sparring"


def data_folders() -> tuple[Path, ...]:
    """Return the folders in which data is looked for, in this order; raise InputError if SPARRING_DATA is none."""
    chosen = os.environ.get("SPARRING_DATA")
    if not chosen:
        return (cache_folder(),)
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise InputError(f"SPARRING_DATA: {folder} is not a folder; set it to the one that holds the data, or unset it")
    return folder, cache_folder()


def find(file: PublishedFile) -> Path | None:
    """Return the first copy of `file` in the data folders, not yet checked, or None."""
    places = (folder / name for folder in data_folders() for name in (file.path, f"{file.path}.gz"))
    try:
        return next((place for place in places if place.is_file()), None)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be looked at ({error.strerror})") from None


def contents(file: PublishedFile) -> bytes:
    """Return the checked contents of `file`, downloaded if there is no copy.

    Raises InputError when a copy in SPARRING_DATA is wrong, or when there is no copy and no mirror gives a right one.
    """
    place = find(file)
    if place is None:
        return _download(file)
    try:
        return _read(place, file)
    except _WrongError as fault:
        if not (file.mirrors and place.is_relative_to(cache_folder())):
            raise InputError(f"{place}: {fault}; put a right copy there or remove it") from None
        log.warning("%s: %s; it is downloaded again", place, fault)
        _remove(place)
        return _download(file)


def status(source: Source) -> list[FileStatus]:
    """Return the state of each published file of `source`; every copy is read and checked."""
    return [_status(file) for file in source.files()]


def fetch(source: Source) -> list[FileStatus]:
    """Download the published files of `source` that are missing, and return the state of all.

    Raises InputError as `contents` does, and when the disk is full.
    """
    for file in source.files():
        contents(file)
    return status(source)


def _status(file: PublishedFile) -> FileStatus:
    place = find(file)
    if place is None:
        return FileStatus(file.path, None, 0, "missing")
    try:
        _read(place, file)
    except _WrongError as fault:
        return FileStatus(file.path, place, place.stat().st_size, "corrupt", str(fault))
    return FileStatus(file.path, place, place.stat().st_size, "ok")


def _read(place: Path, file: PublishedFile) -> bytes:
    try:
        with place.open("rb") as stream:
            packed = stream.read(2) == GZIP and not file.path.endswith(".gz")
            stream.seek(0)
            data = _bounded(gzip.GzipFile(fileobj=stream) if packed else stream, file.size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _WrongError(f"not a whole gzip file ({error})") from None
    except OSError as error:
        raise _WrongError(f"cannot be read ({error.strerror or error})") from None
    _verify(data, file.checksum)
    return data


def _remove(place: Path) -> None:
    try:
        place.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{place}: is broken and cannot be removed ({error.strerror or error}); remove it") from None


def _bounded(stream: BinaryIO | gzip.GzipFile, size: int) -> bytes:
    data = stream.read(size + 1)
    if len(data) == size:
        return data
    found = f"more than {size}" if len(data) > size else f"{len(data)} instead of {size}"
    raise _WrongError(f"holds {found} bytes")


def _verify(data: bytes, checksum: str) -> None:
    algorithm, wanted = checksum.split(":")
    found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise _WrongError(f"wrong contents, {algorithm} {found[:12]}… instead of {wanted[:12]}…")


def _download(file: PublishedFile) -> bytes:
    tried = []
    for address in file.mirrors:
        try:
            return _from_mirror(address, file)
        except _WrongError as fault:
            log.warning("%s: %s", address, fault)
            tried.append(f"{address} ({fault})")
    looked = ", ".join(str(folder / file.path) for folder in data_folders())
    failed = f" and not to be had from {', '.join(tried)}" if tried else ""
    raise InputError(f"{file.path}: not found at {looked}{failed}; set SPARRING_DATA to a folder that holds it")


def _from_mirror(address: str, file: PublishedFile) -> bytes:
    place = (cache_folder() / file.path).with_name(address.rsplit("/", 1)[1])
    with replacing(place) as part:
        _transfer(address, part, file)
        return _read(part, file)


def _transfer(address: str, part: Path, file: PublishedFile) -> None:
    with _opened(address) as response, part.open("wb") as out:
        length = response.length or file.size  # type: ignore[attr-defined]  # an HTTPResponse, though typed as a stream
        with Bar(f"{file.path}, KiB", length // 1024) as bar:
            while chunk := _received(response):
                if out.tell() + len(chunk) > file.size + OVERHEAD:
                    raise _WrongError(f"sends more than {file.size} bytes")
                out.write(chunk)
                bar.advance(len(chunk) // 1024)


@contextmanager
def _opened(address: str) -> Iterator[BinaryIO]:
    request = urllib.request.Request(address, headers={"User-Agent": "sparring"})  # noqa: S310  # ours, not a user's
    with _network_faults():
        response = cast(BinaryIO, urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310  # as above
    with response:
        yield response


def _received(response: BinaryIO) -> bytes:
    with _network_faults():
        return response.read(CHUNK)


@contextmanager
def _network_faults() -> Iterator[None]:
    """Tell the network's errors from the disk's, since both are OSError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise _WrongError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _WrongError(str(getattr(error, "reason", error)) or type(error).__name__) from None
