"""Files that are never half written: everything is made beside its place and moved there in one step."""

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sparring.core.errors import InputError

log = logging.getLogger("sparring")
PART = ".part"  # of what is being written


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

    Raises InputError where its folder cannot be written.
    """
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=not busy)
        except Timeout:
            log.warning("%s", busy)
            lock.acquire()
    except OSError as error:
        raise _refusal(place, error) from error
    try:
        yield
    finally:
        lock.release()


def _refusal(path: Path, error: OSError) -> InputError:
    if error.errno == errno.ENOSPC:
        return InputError(f"{path}: the disk is full; nothing was lost, free some space and start again")
    return InputError(f"{path}: cannot be written ({error.strerror or error})")
