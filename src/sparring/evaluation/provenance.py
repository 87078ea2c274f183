"""Where a record comes from: versions, device, threads, seconds, and the command that makes it again."""

import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from sparring.core.results import Provenance

PACKAGES = ("sparring", "torch", "numpy", "lightning-fabric")


class Stopwatch:
    """Starts when made; `provenance` reads it."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._begin, 3)

    def provenance(self, *, seed: int, device: str) -> Provenance:
        """Return the record of what ran here since the start."""
        versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        return Provenance(self._started, self.seconds, seed, device, torch.get_num_threads(), versions, command())


def command() -> str:
    """Return the command line as a user would type it; empty inside somebody's own Python."""
    program = Path(sys.argv[0]).name
    return " ".join([program, *sys.argv[1:]]) if program == "sparring" else ""
