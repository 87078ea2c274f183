"""Sparring's attacks beside the peers', on the same models and images in one run: `make bench-attacks`.

Contestants take turns; each figure is the shortest of the rounds (as many for all of a row). Rows that are in the
results already are left alone, so that a benchmark that was stopped goes on; `--again` measures them anew.
Needs MNIST (SPARRING_DATA, or `sparring data fetch mnist`) and the peers (docs/benchmarks.md); a peer that is not
installed is left out with a word.
"""

import argparse
import json
import math
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from contest import Entry, Problem, bare, judge, measure, stands
from memory import memory
from rows import ROWS, Contestant, Ours, Row
from sparring.core.files import replacing
from sparring.core.threat import THREATS
from sparring.data import load
from sparring.recipe import Recipe, fit
from speed import cpu_name

HERE = Path(__file__).parent
ROUNDS = ((10.0, 3), (30.0, 2), (math.inf, 1))  # a row whose round takes at most so many seconds is run so often
FITTED_ON = 1000  # training images that a universal perturbation may learn from
FIGURES = {"budget": "accuracy", "minimal": "median", "universal": "fooling"}  # what a row is judged by
BARE_BATCHES = (50, 100, 250)


def main() -> None:
    """Measure what is asked for and not yet known, and write it down row by row."""
    options = arguments()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads or torch.get_num_threads())
    record = opened(options)
    rows = options.only.split(",") if options.only else [name for name, row in ROWS.items() if not row.apart]
    for model in options.models.split(","):
        problem = problem_of(model, options)
        for name in rows:
            for threat in ROWS[name].threats.get(model, ()):
                key = f"{name} | {model} | {threat}"
                if options.again or key not in record["rows"]:
                    within = replace(problem, threat=THREATS.parse(threat))
                    record["rows"][key] = measured(key, ROWS[name], model, within, options)
                    with replacing(options.out) as file:
                        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"rows, comma between: {', '.join(ROWS)}")
    parser.add_argument("--models", default="lenet,robust_cnn", help="recipes in benchmarks/models")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=0, help="rounds of every row; 0: as its length allows")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch likes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds for a peer, at most")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are in the results")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "attacks.json")
    return parser.parse_args()


def opened(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results so far, or an empty record; results of other circumstances are not mixed in."""
    machine = {
        "cpu": cpu_name(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "images": options.images,
    }
    if not options.out.exists():
        return {"machine": machine, "rows": {}}
    record: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8"))
    if record["machine"] != machine:
        sys.exit(f"{options.out} was measured under {record['machine']}, not {machine}: give another --out")
    return record


def problem_of(name: str, options: argparse.Namespace) -> Problem:
    """Return a model, trained if need be, and its images; the threat is for each row to say."""
    recipe = Recipe.read(HERE / "models" / f"{name}.toml")
    data = load(recipe.data)
    model = fit(recipe, runs=options.runs, dataset=data).model.to(options.device)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    test, train = data.test.take(slice(0, options.images)), data.train.take(slice(0, FITTED_ON))
    tensors = (part.to(options.device) for part in (test.images(), test.y, train.images(), train.y))
    x, y, fit_x, fit_y = tensors
    return Problem(model, x, y, THREATS.parse("linf(0)"), fit_x, fit_y)


def measured(key: str, row: Row, model: str, problem: Problem, options: argparse.Namespace) -> dict[str, Any]:
    """Return all that is found out about one row: contestants, bare passes, memory."""
    print(f"\n{key}", flush=True)
    bare(problem.first(min(BARE_BATCHES)), min(BARE_BATCHES))  # whoever is first should not pay for a cold start
    first = key.endswith(f"| {row.threats[model][0]}")
    peers = {each.name: on(each, model) for each in row.peers if installed(each)}
    entries: dict[str, Entry] = {
        ours_name(precision): Entry(Ours(row.ours, precision), problem, 0, math.inf) for precision in row.precisions
    }
    limit = min(row.limits.get(model, math.inf), options.limit)
    for name, each in peers.items():
        part = problem.first(each.images or len(problem.x))
        entries[name] = Entry(each.peer, part, best_batch(each, row, part), limit)
    found, rounds = contest(entries, row, options.repeats)
    return {
        "attack": row.ours,
        "kind": row.kind,
        "targets": row.targets.get(model, {}),
        "rounds": rounds,
        "contestants": found,
        "settings": {name: f"{each.peer.attack} {dict(each.peer.settings)}" for name, each in peers.items()},
        "bare": {str(batch): bare(problem, batch) for batch in BARE_BATCHES},
        "memory": memory(entries) if first and row.memory and not options.no_memory else {},
    }


def contest(entries: dict[str, Entry], row: Row, repeats: int) -> tuple[dict[str, dict[str, Any]], int]:
    """Let all run in turns; return each one's shortest round, and how many there were.

    `there`: what our images, the first contestant's, achieve on the images that a contestant had; `differ`: on how many
    of these one of the two breaks the model and the other does not.
    """
    found: dict[str, dict[str, Any]] = {}
    ours = next(iter(entries.values())).problem.x
    total, rounds = 0.0, 0
    while rounds < (repeats or next(often for most, often in ROUNDS if total <= most * rounds)):
        for number, (name, entry) in enumerate(entries.items()):
            result, x_adv = measure(entry.contender, entry.problem, entry.batch, row.kind, entry.limit)
            ours = x_adv if number == 0 and x_adv is not None else ours
            total += result["seconds"]
            count = len(entry.problem.x)
            there = judge(entry.problem, ours[:count], row.kind)[FIGURES[row.kind]]
            stopped = result["seconds"] >= entry.limit
            result |= {"images": count, "batch": entry.batch, "stopped": stopped, "there": there}
            if row.kind == "budget" and x_adv is not None:
                verdicts = (stands(entry.problem, images[:count]) for images in (ours, x_adv))
                result["differ"] = int(torch.ne(*verdicts).sum())
            if name not in found or result["seconds"] < found[name]["seconds"]:
                found[name] = result
            print(f"  {name:20}", {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in result.items()}, flush=True)
        rounds += 1
    return found, rounds


def on(each: Contestant, model: str) -> Contestant:
    """Return the contestant with its settings for a model."""
    return replace(each, peer=each.peer.having(each.own.get(model, {})))


def ours_name(precision: str) -> str:
    """Return what the table calls us."""
    return "ours" if precision == "32-true" else f"ours, {precision}"


def installed(each: Contestant) -> bool:
    """Say whether a peer can be had; tell the reader if not."""
    try:
        each.peer.load()
    except ImportError as error:
        print(f"  without {each.name}: {error}")
        return False
    return True


def best_batch(each: Contestant, row: Row, problem: Problem) -> int:
    """Return the batch size at which a peer is fastest on the same images, by its short settings."""
    if len(each.batches) == 1:
        return each.batches[0]
    peer, part = each.peer.having(each.short), problem.first(max(each.batches))
    trials = {batch: measure(peer, part, batch, row.kind, math.inf)[0]["seconds"] for batch in each.batches}
    return min(trials, key=trials.__getitem__)


if __name__ == "__main__":
    main()
