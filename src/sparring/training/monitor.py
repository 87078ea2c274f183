"""What a person sees of training: a live line on a terminal, one line an epoch in a log, or nothing."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sparring.core.progress import has_terminal
from sparring.core.study_results import EpochMetrics


class Monitor:
    """Shows the epoch, its metrics so far, images a second and the time left; on standard error."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not has_terminal(),
        )
        self._title, self._epochs, self._steps, self._images, self._begin = title, 0, 0, 0, time.monotonic()
        self._task = self._progress.add_task(title, total=None, figures="")

    def begin(self, epochs: int, steps: int, epoch: int, step: int) -> None:
        """Set the length of training, and where it goes on from."""
        self._epochs, self._images, self._begin = epochs, 0, time.monotonic()
        self._steps = epoch * steps + step
        self._progress.update(self._task, total=epochs * steps, completed=self._steps)

    def step(self, images: int) -> None:
        """Count one step over so many images; the bar follows at the next `show`."""
        self._images += images
        self._steps += 1

    def show(self, epoch: int, means: dict[str, float]) -> None:
        """Show the running means of an epoch."""
        description = f"{self._title}  epoch {epoch + 1}/{self._epochs}"
        self._progress.update(self._task, description=description, figures=self._figures(means), completed=self._steps)

    def epoch(self, done: EpochMetrics) -> None:
        """Leave one line for a finished epoch."""
        width = len(str(self._epochs))
        self._console.print(
            f"{self._title}  epoch {done.epoch + 1:{width}}/{self._epochs}  "
            f"{self._figures(done.metrics)}  {done.seconds:.1f} s",
            soft_wrap=True,
        )

    def _figures(self, means: dict[str, float]) -> str:
        rate = self._images / max(time.monotonic() - self._begin, 1e-9)
        shown = [f"{n} {v:.1%}" if "accuracy" in n else f"{n} {v:.4f}" for n, v in means.items()]
        return "  ".join([*shown, f"{rate:,.0f} images/s"])

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
