"""The peak memory of a contestant, each in a process of its own that has imported nothing but what it needs."""

import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from contest import Contender, Entry, Found, Problem

IMAGES = 250


def nothing(problem: Problem, batch: int) -> Found:
    """Look at one batch once: what everyone needs."""
    with torch.no_grad():
        problem.model(problem.x[: batch or IMAGES])
    return Found(problem.x)


def memory(entries: Mapping[str, Entry]) -> dict[str, float]:
    """Return the peak resident memory (MB) of each contestant on `IMAGES` images, and of who does nothing."""
    first = next(iter(entries.values()))
    found = {}
    for name, entry in {"nothing": replace(first, contender=nothing), **entries}.items():
        found[name] = _in_its_own_process(entry.contender, entry.problem.first(IMAGES), entry.batch)
        print(f"  {name:20} {found[name]:.0f} MB", flush=True)
    return found


def _in_its_own_process(contender: Contender, problem: Problem, batch: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.write_bytes(pickle.dumps((torch.get_num_threads(), contender, problem, batch)))
        done = subprocess.run([sys.executable, __file__, work], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _child(work: Path) -> None:
    warnings.filterwarnings("ignore")
    threads, contender, problem, batch = pickle.loads(work.read_bytes())  # written by the parent a moment ago
    torch.set_num_threads(threads)
    contender(problem, batch)
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage's peak would include the parent's
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
