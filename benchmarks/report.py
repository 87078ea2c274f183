"""What a report costs: `make bench-report ARGUMENTS=RESULTS.json`, a study's results with their images beside them.

The first ten rows are written as a page with images and figures, five times, each time in a new process, so that what
is imported counts; the least is kept. By hand: a quiet machine and a minute.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from speed import cpu_name

RESULTS = Path(__file__).parent / "results" / "report.json"
ROUNDS, TARGET = 5, 3.0
WRITE = """
import sys, tempfile, time
from dataclasses import replace
from pathlib import Path
from sparring import report
from sparring.core.records import load
from sparring.core.study_results import StudyResult
result = load(StudyResult, Path(sys.argv[1]))
result = replace(result, rows=result.rows[:10])
with tempfile.TemporaryDirectory() as folder:
    begin = time.perf_counter()
    page = report.write(result, Path(folder))
    print(len(result.rows), time.perf_counter() - begin, page.stat().st_size / 2**20)
"""


def main(record: str) -> None:
    """Measure, print, and write to benchmarks/results/report.json."""
    command = [sys.executable, "-c", WRITE, record]
    done = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(ROUNDS)]
    models, seconds, megabytes = min([float(value) for value in out.split()] for out in done)
    figures = {"models": int(models), "seconds": seconds, "target": TARGET, "megabytes": megabytes}
    print(figures)
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    RESULTS.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
