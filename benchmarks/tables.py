"""Print the tables of `docs/` from the committed results: `python benchmarks/tables.py`. A test compares them."""

import json
from pathlib import Path
from typing import Any

from overview import overview
from sparring.core.records import load
from sparring.core.study_results import StudyResult
from study_tables import study_tables

RESULTS = Path(__file__).parent / "results"
FASTEST = "the fastest"
FIGURES = {"budget": "accuracy", "minimal": "median", "universal": "fooling"}
POINTS, SHARE = 0.002, 0.01  # how much worse a result may be and still count as equal: accuracy, distance
MEMORY_TARGET = 1.2


def speed() -> str:
    """Return the table of `make bench`."""
    record = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    lines = ["| what | measured | target | met |", "| --- " * 4 + "|"]
    for name, found in record["figures"].items():
        value, unit = next((found[key], unit) for key, unit in UNITS if key in found)
        met = "yes" if value <= found["target"] else "no"
        lines.append(f"| {name} | {value:.4g}{unit} | at most {found['target']:g}{unit} | {met} |")
    machine = record["machine"]
    return "\n".join([*lines, "", f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}."])


def training() -> dict[str, str]:
    """Return the tables of `make bench-training`; none before it has been run."""
    path = RESULTS / "training.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    steps = ["| step of | ours | bare passes | ours / bare | target | met |", "| --- " * 6 + "|"]
    for name, found in record["steps"].items():
        met = "yes" if found["ratio"] <= found["target"] else "no"
        cost = f"{1000 * found['ours_s']:.0f} ms | {1000 * found['bare_s']:.0f} ms"
        steps.append(f"| {name}: `{found['defence']}` | {cost} | {found['ratio']:.2f} | {found['target']:g} | {met} |")
    whole = [
        "| TRADES by | takes | ours / theirs | clean %, by seed | right under PGD-40 %, by seed |",
        "| --- " * 5 + "|",
    ]
    ours = record["trainings"]["ours"]["seconds"]
    for name, found in record["trainings"].items():
        ratio = "" if name == "ours" else f"{ours / found['seconds']:.2f}"
        left = (", ".join(f"{100 * value:.1f}" for value in found[kind]) for kind in ("clean", "robust"))
        whole.append(f"| {' | '.join((name, seconds(found['seconds']), ratio, *left))} |")
    machine = record["machine"]
    where = f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}."
    return {
        "benchmarks.md training, steps": "\n".join(steps),
        "benchmarks.md training, whole": "\n".join([*whole, "", where]),
    }


UNITS = (("ratio", " x bare PyTorch"), ("seconds", " s"), ("peak_mb", " MB"))


def photographs() -> dict[str, str]:
    """Return the tables of `make bench-masks`."""
    record = json.loads((RESULTS / "masks-speed.json").read_text(encoding="utf-8"))
    figures, machine = record["figures"], record["machine"]
    passes, universal, pca = figures["passes"], figures["universal"], figures["pca"]
    signs = f"{universal['random_signs']:.1%}"
    memory = [f"{pca[name] / 1000:.1f} GB" for name in ("peak_mb", "most_mb")]
    lines = [
        ("500 images to logits, beside bare passes", f"{passes['ratio']:.2f} x", f"at most {passes['target']:g} x"),
        (
            "a universal perturbation fitted on 500 images",
            seconds(universal["seconds"]),
            f"at most {universal['target']:g} s",
        ),
        (
            "the predictions that it changes on the other 500, at 10/255",
            f"{universal['fooling_rate']:.1%} (random signs {signs})",
            f"at least {universal['least_fooling_rate']:.0%}",
        ),
        (
            "PCA fitted on 10,000 images of CIFAR-10",
            f"{seconds(pca['seconds'])}, {memory[0]}",
            f"at most {pca['target']:g} s, {memory[1]}",
        ),
    ]
    speeds = ["| what | measured | target |", "| --- " * 3 + "|", *(f"| {' | '.join(line)} |" for line in lines)]
    courses = ["| one perturbation fools | of the images given | of others |", "| --- " * 3 + "|"]
    for task, found in figures["courses"].items():
        courses += [
            f"| {task}: {COURSES[name]} | {rates['given']:.0%} | {rates['others']:.0%} |"
            for name, rates in found.items()
        ]
    where = f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}."
    return {
        "benchmarks.md photographs, speed": "\n".join([*speeds, "", where]),
        "benchmarks.md photographs, courses": "\n".join(courses),
    }


COURSES = {"turning": "turning logits alone", "crossing": "climbing the rate alone", "both": "both, as it is"}


def recovery() -> dict[str, str]:
    """Return the tables of `make bench-recovery`."""
    record = json.loads((RESULTS / "recovery.json").read_text(encoding="utf-8"))
    whole, alone, machine, target = (record[name] for name in ("whole", "alone", "machine", "targets"))
    lines = [
        "| all training images of MNIST | measured | target |",
        "| --- " * 3 + "|",
        f"| time | {whole['minutes']:.1f} min | at most {target['minutes']:g} min |",
        f"| median PSNR | {whole['psnr']:.1f} dB | at least {target['psnr']:g} dB |",
        f"| a classifier says the same of them | {whole['agreement']:.1%} | at least {target['agreement']:.0%} |",
        f"| what mixing adds to an epoch, codes kept | {record['mixing']['ratio'] - 1:.1%} "
        f"| at most {target['mixing'] - 1:.0%} |",
    ]
    beside = [
        "| 12 images | an image takes | mean squared error | times faster |",
        "| --- " * 4 + "|",
        f"| 1,000 steps, one at a time | {seconds(alone['seconds'])} | {alone['error']:.4f} | 1 |",
        *(
            f"| {at['steps']} steps, all at once | {seconds(at['seconds'])} | {at['error']:.4f} | {at['faster']:.0f} |"
            for at in record["together"]
        ),
    ]
    where = f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}."
    return {
        "benchmarks.md recovery, whole": "\n".join(lines),
        "benchmarks.md recovery, beside": "\n".join([*beside, "", where]),
    }


def known_report() -> str:
    """Return the table of what the known report of "Latent interpolation" measured."""
    record = json.loads((RESULTS / "known-report.json").read_text(encoding="utf-8"))
    lines = [
        "| training | accuracy | distance as published | distance as ours | nearest of three attacks "
        "| the report's own, at 50 epochs |",
        "| --- " * 6 + "|",
    ]
    for training, row in record["rows"].items():
        published = f"{row['published']:.2f}" if "published" in row else "-"
        distances = (f"{row[name]:.2f}" for name in ("as published", "ours", "nearest"))
        figures = (f"{row['accuracy']:.1%}", *distances, published)
        lines.append(f"| {' | '.join((training, *figures))} |")
    return "\n".join(lines)


def race_targets(record: dict[str, Any]) -> str:
    """Return a line for each target: ours beside the peer that it names."""
    lines = [
        "| attack | on, within | ours | its result | peer | takes | its result | ours / peer | target | met "
        "| ours / bare passes |",
        "| --- " * 11 + "|",
    ]
    for key, row in record["rows"].items():
        ours, images = row["contestants"]["ours"], record["machine"]["images"]
        for name, target in row["targets"].items():
            peer_name = reference(row) if name == FASTEST else name
            if peer_name not in row["contestants"]:
                continue
            peer = row["contestants"][peer_name]
            ratio = ours["seconds"] / scaled(peer, images)
            met = ratio <= target and not worse(row["kind"], peer["there"], result(row, peer))
            cells = (
                *place(key, row), seconds(ours["seconds"]), shown(row, peer["there"]), peer_name, taken(peer, images),
                shown(row, result(row, peer)), f"{ratio:.3g}", f"{target:g}", "yes" if met else "no", bare(row, ours),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def race_contestants(record: dict[str, Any]) -> str:
    """Return a line for each contestant of each row, and below them the peers' settings."""
    lines = [
        "| attack | on, within | who | takes | result | verdicts unlike ours | passes an image, forward / back "
        "| in batches of |",
        "| --- " * 8 + "|",
    ]
    for key, row in record["rows"].items():
        for name, entry in row["contestants"].items():
            passes = f"{entry['forwards'] / entry['images']:.0f} / {entry['backwards'] / entry['images']:.0f}"
            figure = shown(row, result(row, entry))
            batch = str(entry["batch"] or "its choice")
            took = taken(entry, record["machine"]["images"])
            differ = "" if name == "ours" else str(entry.get("differ", ""))
            lines.append(f"| {' | '.join((*place(key, row), name, took, figure, differ, passes, batch))} |")
    machine = record["machine"]
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    circumstances = f"{where}, {machine['threads']} threads, torch {machine['torch']}, {machine['images']} images."
    return "\n".join([*lines, "", circumstances])


def race_memory(record: dict[str, Any]) -> str:
    """Return peak memory beside the leanest peer's."""
    lines = ["| attack | on, within | ours | leanest peer | ours / peer | target | met |", "| --- " * 7 + "|"]
    for key, row in record["rows"].items():
        peers = {n: mb for n, mb in row["memory"].items() if n != "nothing" and not n.startswith("ours")}
        if not peers:
            continue
        leanest = min(peers, key=peers.__getitem__)
        ratio = row["memory"]["ours"] / peers[leanest]
        cells = (
            *place(key, row), f"{row['memory']['ours']:.0f} MB", f"{leanest}, {peers[leanest]:.0f} MB", f"{ratio:.2f}",
            f"{MEMORY_TARGET:g}", "yes" if ratio <= MEMORY_TARGET else "no",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def reference(row: dict[str, Any]) -> str:
    """Return the fastest peer whose result is no weaker than ours; if all are weaker, the fastest of all."""
    peers = {n: e for n, e in row["contestants"].items() if not n.startswith("ours") and result(row, e) is not None}
    equal = {n: e for n, e in peers.items() if not worse(row["kind"], result(row, e), e["there"])} or peers
    return min(equal, key=lambda name: equal[name]["seconds"] / equal[name]["images"])


def worse(kind: str, one: float | None, other: float | None) -> bool:
    """Say whether one result is weaker than another, by more than counts as equal; any beats none."""
    if one is None or other is None:
        return one is None and other is not None
    if kind == "minimal":
        return one > other * (1 + SHARE)
    return one > other + POINTS if kind == "budget" else one <= other  # a universal perturbation must fool more


def result(row: dict[str, Any], entry: dict[str, Any]) -> float | None:
    """Return what the row is judged by; None for who fooled less than half, or was stopped with nothing to show."""
    value = entry.get(FIGURES[row["kind"]])
    return None if value is None else float(value)


def shown(row: dict[str, Any], value: float | None) -> str:
    """Return a result with its unit."""
    if value is None:
        return "none (half not fooled)" if row["kind"] == "minimal" else "none"
    if row["kind"] == "minimal":
        return f"median {value:.4f}"
    return f"{value * 100:.1f} % {'right' if row['kind'] == 'budget' else 'fooled'}"


def place(key: str, row: dict[str, Any]) -> tuple[str, str]:
    """Return the first two cells of a line."""
    _, model, threat = key.split(" | ")
    return f"`{row['attack']}`", f"{model}, {threat}"


def scaled(entry: dict[str, Any], images: int) -> float:
    """Return the seconds for all images; one that was stopped has had its time."""
    return float(entry["seconds"] if entry["stopped"] else entry["seconds"] * images / entry["images"])


def taken(entry: dict[str, Any], images: int) -> str:
    """Return the seconds, and how they came about."""
    if entry["stopped"]:
        return f"{seconds(entry['seconds'])}, then stopped"
    note = "" if entry["images"] == images else f" ({entry['images']} images in {seconds(entry['seconds'])})"
    return f"{seconds(scaled(entry, images))}{note}"


def seconds(value: float) -> str:
    """Return seconds to three figures."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def bare(row: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return our time over that of the passes alone, at the best batch size for them."""
    if not ours.get("needed_forwards"):
        return "-"
    forwards, backwards = ours["needed_forwards"], ours["needed_backwards"]
    costs = [forwards * c["forward"] + backwards * (c["both"] - c["forward"]) for c in row["bare"].values()]
    return f"{ours['seconds'] / min(costs):.2f}"


def race() -> dict[str, str]:
    """Return the tables of `make bench-attacks`; none before it has been run."""
    makers = {"targets": race_targets, "contestants": race_contestants, "memory": race_memory}
    found = {}
    for path in sorted(RESULTS.glob("attacks*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found |= {f"benchmarks.md {path.stem}, {name}": make(record) for name, make in makers.items()}
    return {where: table for where, table in found.items() if table.count("\n") > 1}


def audit() -> str:
    """Return what the audit added to the attacks' own seconds, in the studies that it was made in."""
    lines = ["| model | images | right under all attacks | attacks | audit | added |", "| --- " * 6 + "|"]
    for study in ("lenet-fgsm", "a3t-audited"):
        for row in load(StudyResult, RESULTS / f"{study}.json").rows:
            found = row.evaluation
            attacks = sum(each.seconds for each in found.attacked.values())
            checks = sum(each.seconds for each in found.audit)
            cost = f"{attacks:.0f} s | {checks:.1f} s | {checks / attacks:.1%}"
            name = f"[{row.name}](studies/{study.removesuffix('-audited')}.md)"
            lines.append(f"| {name} | {found.clean.n:,} | {found.robust.value:.1%} | {cost} |")
    return "\n".join(lines)


def report() -> str:
    """Return what a page costs."""
    record = json.loads((RESULTS / "report.json").read_text(encoding="utf-8"))
    found, machine = record["figures"], record["machine"]
    cost = f"{found['seconds']:.1f} s for {found['models']} models ({found['megabytes']:.1f} MB)"
    wanted = f"at most {found['target']:g} s wanted"
    return f"{cost}; {wanted}. {machine['cpu']}, {machine['threads']} threads."


def tables() -> dict[str, str]:
    """Return every table, by the page that shows it and its place there."""
    return {
        "../README.md overview": overview(RESULTS),
        **study_tables(RESULTS),
        "benchmarks.md speed": speed(),
        **training(),
        **photographs(),
        **recovery(),
        "benchmarks.md audit": audit(),
        "benchmarks.md report": report(),
        "benchmarks.md known report": known_report(),
        **race(),
    }


if __name__ == "__main__":
    for where, table in tables().items():
        print(f"{where}\n\n{table}\n")
