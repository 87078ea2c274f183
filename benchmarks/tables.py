"""Print the tables of `docs/` from the committed results: `python benchmarks/tables.py`. A test compares them."""

import json
from pathlib import Path

from sparring.core.results import Curve, Estimate, StudyResult, load

RESULTS = Path(__file__).parent / "results"


def percent(value: Estimate | None) -> str:
    """Return a share in per cent with its interval; a dash where there was nothing to measure."""
    if value is None or value.n == 0:
        return "-"
    return f"{value.value:.2%} ({value.low:.2%} to {value.high:.2%})".replace("%", " %")


def figures(result: StudyResult) -> str:
    """Return the paper's figures beside ours, a line each."""
    lines = ["| row | figure | published | compatibility | honest | within tolerance |", "| --- " * 6 + "|"]
    for row in result.rows:
        for f in row.figures:
            published = "-" if f.published is None else f"{f.published:.2%}".replace("%", " %")
            met = {None: "", True: "yes", False: "no"}[f.reproduced]
            lines.append(
                f"| {row.name} | {f.name} | {published} | {percent(f.compatibility)} | {percent(f.honest)} | {met} |"
            )
    return "\n".join(lines)


def attacks(result: StudyResult) -> str:
    """Return what each attack leaves of each row."""
    lines = ["| row | attack | accuracy | passes back, mean |", "| --- " * 4 + "|"]
    for row in result.rows:
        for name, attacked in row.evaluation.attacked.items():
            lines.append(f"| {row.name} | `{name}` | {percent(attacked.accuracy)} | {attacked.backwards:.1f} |")
    return "\n".join(lines)


def curves(result: StudyResult, *, sweep: bool) -> str:
    """Return accuracy against eps, a line a row: by the paper's protocol (`sweep`) or in the worst case."""
    of: dict[str, Curve] = {
        row.name: (row.sweep if sweep else row.evaluation.curves)[0] for row in result.rows if row.sweep
    }
    grid = [point.eps for point in next(iter(of.values())).points]
    lines = [f"| row | {' | '.join(f'{eps:g}' for eps in grid)} |", "| --- " * (len(grid) + 1) + "|"]
    for name, curve in of.items():
        lines.append(f"| {name} | {' | '.join(f'{p.accuracy.value * 100:.1f}' for p in curve.points)} |")
    return "\n".join(lines)


def speed() -> str:
    """Return the table of `make bench`."""
    record = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    lines = ["| what | measured | target |", "| --- " * 3 + "|"]
    for name, found in record["figures"].items():
        value, unit = next((found[key], unit) for key, unit in UNITS if key in found)
        lines.append(f"| {name} | {value:.3g}{unit} | at most {found['target']:g}{unit} |")
    machine = record["machine"]
    return "\n".join([*lines, "", f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}."])


UNITS = (("ratio", " x bare PyTorch"), ("seconds", " s"), ("peak_mb", " MB"))


def tables() -> dict[str, str]:
    """Return every table, by the page that shows it and its place there."""
    lenet = load(StudyResult, RESULTS / "lenet-fgsm.json")
    return {
        "studies/lenet-fgsm.md figures": figures(lenet),
        "studies/lenet-fgsm.md attacks": attacks(lenet),
        "studies/lenet-fgsm.md sweep": curves(lenet, sweep=True),
        "studies/lenet-fgsm.md curve": curves(lenet, sweep=False),
        "benchmarks.md speed": speed(),
    }


if __name__ == "__main__":
    for place, table in tables().items():
        print(f"{place}\n\n{table}\n")
