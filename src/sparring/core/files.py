"""Files that are never half written: everything is made beside its place and moved there in one step."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sparring.core.errors import InputError

log = logging.getLogger("sparring")
PART = ".part"  # of what is being written
TRIES = 10  # to make a folder that others take away


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; on success it becomes `path`, on failure it vanishes.

    A process that is killed leaves it behind, a hidden file in .part, which nothing takes for what is beside it.

    Raises InputError when the disk is full or the folder cannot be written; what stood at `path` is then still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}-", suffix=PART, dir=path.parent)
    except OSError as error:
        raise _refusal(path, error) from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`; only for who knows that no other writes there now."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


@contextmanager
def alone(place: Path, *, busy: str = "") -> Iterator[None]:
    """Let in one process at a time of those that name this place; others wait, and say why if there is a `busy` line.

    A folder that was made for the lock, and in which nothing else was written, is removed again.
    Raises InputError where its folder cannot be written.
    """
    lock = place.with_name(f".{place.name}.lock")
    held = FileLock(lock)
    made = _enter(held, place, busy)
    try:
        yield
    finally:
        with suppress(OSError):
            if made and [path.name for path in place.parent.iterdir()] == [lock.name]:
                lock.unlink()  # while it is held: who waits for it then finds that it is gone, and makes it anew
        held.release()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def _enter(held: FileLock, place: Path, busy: str) -> list[Path]:
    """Take the lock, and return the folders that had to be made for it, the innermost first."""
    for left in reversed(range(TRIES)):
        made = [folder for folder in place.parents if not folder.exists()]
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.acquire(blocking=not busy)
            except Timeout:
                log.warning("%s", busy)
                held.acquire()
            return made
        except OSError as error:  # it may be missing because who was in had made the folder, and took it away
            if not (isinstance(error, FileNotFoundError) and left):
                raise _refusal(place, error) from error
    raise AssertionError("the last try returns or raises")


def _refusal(path: Path, error: OSError) -> InputError:
    if error.errno == errno.ENOSPC:
        return InputError(f"{path}: the disk is full; nothing was lost, free some space and start again")
    return InputError(f"{path}: cannot be written ({error.strerror or error})")
