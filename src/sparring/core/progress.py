"""Progress on standard error, by the main process: a bar on a terminal, after two seconds; a line a minute in a log."""

import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
PATIENCE = 2.0  # seconds of silence before a bar is worth its line
MINUTE = 60.0  # seconds between lines where there is no terminal


def has_terminal() -> bool:
    """Whether this process may draw on a terminal: the main one, whose standard error is one."""
    return sys.stderr.isatty() and _is_main()


def _is_main() -> bool:
    return multiprocessing.parent_process() is None


class Bar:
    """One bar over `total` units of work; as a context manager it cleans up after itself."""

    def __init__(self, description: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(description, total=total)
        self._wanted = has_terminal()
        self._logs = not self._wanted and _is_main()
        self._since = time.monotonic()  # it began, or last wrote a line
        self._shown = False

    def advance(self, amount: int = 1) -> None:
        """Count `amount` units as done."""
        self._progress.advance(self._task, amount)
        silent = time.monotonic() - self._since
        if self._wanted and not self._shown and silent > PATIENCE:
            self._progress.start()
            self._shown = True
        elif self._logs and silent > MINUTE:
            of = self._progress.tasks[self._task]
            self._progress.console.print(f"{of.description}  {of.completed:g}/{of.total:g}", highlight=False)
            self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._progress.stop()


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` while a bar counts them."""
    with Bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
