"""The ways in which Sparring says no."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Something handed to Sparring cannot be used; the message is one line that names it and the fix."""


class TrainingError(RuntimeError):
    """Training cannot go on (it diverged, it was interrupted); the message says what is kept and what to try."""


class StoppedError(TrainingError):
    """Someone stopped the training; it can go on where it was."""


def missing(path: Path) -> InputError:
    """Return what to raise where nothing stands at `path`, in words that are the same everywhere."""
    return InputError(f"{path}: there is no such file or folder")


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Put the name of the argument before what is said against its value."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{argument}: {error}") from None
