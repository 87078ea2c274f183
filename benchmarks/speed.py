"""Sparring beside bare PyTorch on the same work in the same run: `make bench`. Trust the ratios, not the seconds.

Ours and theirs take turns, so that a machine that slows down slows both; each figure is the shortest of the rounds,
since what other work on the machine adds is never negative.
Needs MNIST (SPARRING_DATA, or `sparring data fetch mnist`).
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from sparring.attacks import PGD, craft, run
from sparring.core.threat import Linf
from sparring.data import Dataset, load
from sparring.models import MODELS, assemble
from sparring.models.wrappers import normaliser
from sparring.recipe import Recipe, fit

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "speed.json"
TRAINED_ON = {"mlp()": 55_000, "lenet()": 8_000}  # images an epoch: a few seconds each


def shortest_of_rounds(*works: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return the least seconds of each piece of work, done in turns."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, seconds, strict=True):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
    return [min(times) for times in seconds]


def training(model: str, mnist: Dataset) -> dict[str, float]:
    """One epoch through Sparring's loop (checkpoint, metrics and all) against the shortest loop in PyTorch."""
    limit, batch_size = TRAINED_ON[model], 128
    split = mnist.train.sample(limit, 0)

    def bare() -> None:
        net = classifier(model, mnist).train()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for rows in torch.randperm(limit).split(batch_size):
            x, y = split.x[rows].float() / 255, split.y[rows]
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()

    def ours() -> None:
        recipe = Recipe.of({"data": "mnist()", "model": model, "epochs": 1, "limit": limit, "batch_size": batch_size})
        with tempfile.TemporaryDirectory() as runs:
            fit(recipe, runs=runs, quiet=True, dataset=mnist)

    a, b = shortest_of_rounds(ours, bare)
    return {"ours_s": a, "bare_s": b, "ratio": a / b, "target": 1.10}


def pgd(model: str, mnist: Dataset) -> dict[str, float]:
    """PGD-40 on every example to the end against 40 bare forward and input-gradient passes."""
    count, batch_size = (500 if model == "lenet()" else 5_000), 250
    net = classifier(model, mnist).eval()
    part = mnist.test.sample(count, 0)
    x, y = part.images(), part.y
    attack, threat = PGD(steps=40), Linf(0.1)

    def bare() -> None:
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            for _ in range(40):
                leaf = images.clone().requires_grad_(True)
                torch.autograd.grad(F.cross_entropy(net(leaf), labels), leaf)

    def ours() -> None:
        for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            craft(attack, net, images, labels, threat, seed=0)

    def stopping() -> None:
        run(attack, net, x, y, threat, batch_size=batch_size)

    a, b, c = shortest_of_rounds(ours, bare, stopping)
    return {"ours_s": a, "bare_s": b, "ratio": a / b, "target": 1.15, "with_early_stop_ratio": c / b}


def classifier(model: str, mnist: Dataset) -> nn.Module:
    """Return the classifier as a recipe makes it."""
    return assemble(normaliser("none", mnist.train), MODELS.parse(model).build(mnist.shape, 10))


def fresh_process(code: str) -> tuple[float, float]:
    """Return the seconds and the peak memory (MB) of a Python process of its own."""
    begin = time.perf_counter()
    tail = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, int(done.stdout.splitlines()[-1]) / 1024


def start_and_memory() -> dict[str, dict[str, float]]:
    """How long a user waits for help and for MNIST, and what a LeNet training on all of it needs."""
    helps = [fresh_process("import sys; sys.argv = ['sparring', '--help']\nfrom sparring.cli import app\n"
                           "try: app()\nexcept SystemExit: pass")[0] for _ in range(ROUNDS)]  # fmt: skip
    loads = shortest_of_rounds(lambda: load("mnist()"))[0]
    recipe = {"data": "mnist()", "model": "lenet()", "epochs": 1, "train_on": "train+validation"}
    code = (
        "import tempfile\nfrom sparring.recipe import Recipe, fit\n"
        f"fit(Recipe.of({recipe!r}), runs=tempfile.mkdtemp(), quiet=True)"
    )
    return {
        "help": {"seconds": min(helps), "target": 0.5},
        "mnist_ready": {"seconds": loads, "target": 1.0},
        "lenet_run_memory": {"peak_mb": fresh_process(code)[1], "target": 1500},
    }


def main() -> None:
    """Measure all, print the table, and write it to benchmarks/results/speed.json."""
    mnist = load("mnist()")
    found: dict[str, dict[str, float]] = {}
    for model in ("mlp()", "lenet()"):
        found[f"train {model}"] = training(model, mnist)
        found[f"pgd-40 {model}"] = pgd(model, mnist)
    found |= start_and_memory()
    for name, figures in found.items():
        print(f"{name:20}", "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    record = {"machine": machine, "python": platform.python_version(), "figures": found}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def cpu_name() -> str:
    """Return the processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
