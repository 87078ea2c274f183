"""What the audit adds to a verdict, and what a report costs: `make bench-verdict ARGUMENTS="--run RUN --record FILE"`.

`--run`: a run folder, judged on all test images of its data by `evaluate`'s own attacks; what was judged is kept in the
run's folder, and goes on after a stop. `--record`: a study's results.json, whose first ten rows are written as a page
with images and figures, in a new process each time. Either alone leaves the other's figures as they are. By hand: a
quiet machine, and for a network that holds up to an hour.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from sparring import Recipe, evaluate, load
from sparring.core.results import Evaluation
from speed import cpu_name

RESULTS = Path(__file__).parent / "results" / "verdict.json"
ROUNDS = 5
TARGETS = {"audit": 0.25, "report_s": 3.0}
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


def audit(run: Path, threat: str) -> dict[str, float | str]:
    """Judge a run, and say which part of the seconds is whose."""
    data = Recipe.read(run / "recipe.toml").data
    found = evaluate(load(run), data, threat, folder=run / "evaluations" / "benchmark")
    return {"model": run.name, "threat": threat, "target": TARGETS["audit"], **shares(found)}


def shares(found: Evaluation) -> dict[str, float]:
    """Return the seconds of the attacks and of the audit, the audit's of theirs, and of the whole."""
    attacks = sum(each.seconds for each in found.attacked.values())
    checks = sum(each.seconds for each in found.audit)
    return {
        "images": found.clean.n,
        "robust": found.robust.value,
        "attacks_s": attacks,
        "audit_s": checks,
        "audit": checks / attacks,
        "whole_s": found.provenance.seconds,
    }


def page(record: Path) -> dict[str, float]:
    """Write a report of ten models, the libraries that draw it imported anew each time."""
    command = [sys.executable, "-c", WRITE, str(record)]
    done = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(ROUNDS)]
    models, seconds, megabytes = min([float(value) for value in out.split()] for out in done)
    return {"models": models, "report_s": seconds, "target": TARGETS["report_s"], "megabytes": megabytes}


def main() -> None:
    """Measure what is given, print it, and write it to benchmarks/results/verdict.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--threat", default="linf(0.1)")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"] if RESULTS.exists() else {}
    if options.run:
        figures["audit"] = audit(options.run, options.threat)
    if options.record:
        figures["report"] = page(options.record)
    print(figures)
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    RESULTS.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
