"""A step of each defence beside its bare passes, and a whole training beside other trainers: `make bench-training`.

First part: our step against the least that its formula needs, on the same network and batch: so many passes to the
input's gradient, and one training pass. Second part: TRADES, ours beside the authors' script and ART's trainer, from
the same first weights, on the same images for as many epochs, with three seeds; all are judged alike. Whoever is
measured takes turns;
figures are the shortest of the rounds.
Needs MNIST (SPARRING_DATA, or `sparring data fetch mnist`), and for the second part the peers (docs/benchmarks.md).
"""

import argparse
import copy
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import run
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import DEFENCES
from sparring.models import MODELS, assemble
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant
from speed import cpu_name, shortest_of_rounds

BATCH, STEPS = 128, 4
EPOCHS, IMAGES, JUDGED, SEEDS = 10, 10_000, 1000, (0, 1, 2)
TARGET, PEER_TARGET = 1.10, 0.7
Trainer = Callable[[nn.Module, Tensor, Tensor, int], None]
RESULTS = Path(__file__).parent / "results" / "training.json"


@dataclass(frozen=True)
class Row:
    """A defence and what its formula needs of each batch: input-gradient passes, forwards, and images trained on."""

    defence: str
    climbs: int
    forwards: int
    trained: int


ROWS = {
    "PGD-10": Row("adversarial(attack=pgd(steps=10), threat=linf(0.2))", 10, 0, 1),
    "TRADES-10": Row("trades(threat=linf(0.2))", 10, 1, 2),
    "MART-10": Row("mart(threat=linf(0.2), attack=pgd(steps=10))", 10, 0, 2),
    "A3T, FGSM": Row("a3t(threat=linf(0.2), layer='6')", 1, 0, 2),
    "FGSM, half clean": Row("adversarial(attack=fgsm(), threat=linf(0.2), mix=0.5)", 1, 0, 2),
    "standard": Row("standard()", 0, 0, 1),
}


def step_cost(row: Row, model: str, x: Tensor, y: Tensor) -> dict[str, float]:
    """Return the seconds of our step and of its bare passes, and their ratio."""
    defence = DEFENCES.parse(row.defence)
    state = defence.init(setup(model))
    for learner in state.learners.values():
        learner.network.train()
    generator = torch.Generator().manual_seed(0)
    bare = setup(model).learner(setup(model).classifier().train())
    twice = (torch.cat([x] * row.trained), torch.cat([y] * row.trained))

    def ours() -> None:
        for _ in range(STEPS):
            defence.step(state, x, y, progress=0.5, generator=generator)

    def passes() -> None:
        for _ in range(STEPS):
            bare_passes(bare, row, x, y, *twice)

    a, b = shortest_of_rounds(ours, passes)
    return {"ours_s": a / STEPS, "bare_s": b / STEPS, "ratio": a / b, "target": TARGET}


def bare_passes(learner: Learner, row: Row, x: Tensor, y: Tensor, both: Tensor, labels: Tensor) -> None:
    """Do what the formula needs, and nothing else."""
    net = learner.network
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        for _ in range(row.forwards):
            net(x)
    for _ in range(row.climbs):
        leaf = x.clone().requires_grad_(True)
        torch.autograd.grad(F.cross_entropy(net(leaf), y), leaf)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    learner.update(F.cross_entropy(net(both), labels))


def setup(model: str) -> Setup:
    """Return what a recipe would hand to a defence."""

    def classifier() -> nn.Module:
        torch.manual_seed(0)
        return assemble(nn.Identity(), MODELS.parse(model).build((1, 28, 28), 10))

    return Setup((1, 28, 28), 10, classifier, lambda net: Learner(net, SGD(lr=0.05).build(net), Constant()))


# ------------------------------------------------------------------------------------------------- whole trainings

EPS, STEP, CLIMBS, BETA = 0.2, 0.05, 10, 6.0


def ours(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> None:
    """Train by our TRADES."""
    attack = f"pgd(steps={CLIMBS}, rel_step_size={STEP / EPS}, loss='kl')"
    defence = DEFENCES.parse(f"trades(threat=linf({EPS}), beta={BETA}, attack={attack})")
    made = setup("cnn()")
    state = defence.init(Setup(made.shape, made.classes, lambda: net, made.learner))
    generator = torch.Generator().manual_seed(seed)
    net.train()
    for rows in batches(len(x), seed):
        defence.step(state, x[rows], y[rows], progress=0.0, generator=generator)


def authors(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> None:
    """Train by the authors' script, which asks for a GPU: here its `.cuda()` does nothing."""
    from trades import trades_loss  # github.com/yaodongyu/TRADES, beside the other peers

    optimiser = SGD(lr=0.05).build(net)
    net.train()
    with patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
        for rows in batches(len(x), seed):
            loss = trades_loss(net, x[rows], y[rows], optimiser, STEP, EPS, CLIMBS, BETA)
            loss.backward()
            optimiser.step()


class Whole(nn.Module):
    """A network as one module: of a Sequential, ART's trainer takes the first layer's output for predictions."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def art(net: nn.Module, x: Tensor, y: Tensor, seed: int) -> None:
    """Train by ART's trainer, with its own PGD."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.defences.trainer import AdversarialTrainerTRADESPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        Whole(net),
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        10,
        SGD(lr=0.05).build(net),
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=STEP, max_iter=CLIMBS, num_random_init=1, batch_size=BATCH, verbose=False
    )
    np.random.seed(seed)  # noqa: NPY002  # ART draws its batches and starts from it
    trainer = AdversarialTrainerTRADESPyTorch(classifier, attack, beta=BETA)
    trainer.fit(x.numpy(), np.asarray(y), batch_size=BATCH, nb_epochs=EPOCHS)


def batches(count: int, seed: int) -> list[Tensor]:
    """Return the rows of every batch of the training."""
    generator = torch.Generator().manual_seed(seed)
    return [rows for _ in range(EPOCHS) for rows in torch.randperm(count, generator=generator).split(BATCH)]


def whole(trainers: dict[str, Trainer]) -> dict[str, dict[str, Any]]:
    """Return each trainer's shortest seconds, and the accuracies of what each seed gave: clean and under PGD-40."""
    mnist = load("mnist()")
    part, test = mnist.train.take(slice(0, IMAGES)), mnist.test.take(slice(0, JUDGED))
    x, y, first = part.images(), part.y, setup("cnn()").classifier()
    found: dict[str, dict[str, Any]] = {}
    for seed in SEEDS:
        for name, train in trainers.items():
            net = copy.deepcopy(first)
            torch.manual_seed(seed)
            begin = time.perf_counter()
            try:
                train(net, x, y, seed)
            except ImportError as error:
                print(f"  without {name}: {error}")
                continue
            seconds = time.perf_counter() - begin
            judged = run("pgd(steps=40, loss='margin')", net.eval(), test.images(), test.y, f"linf({EPS})")
            entry = found.setdefault(name, {"seconds": seconds, "clean": [], "robust": []})
            entry["seconds"] = min(entry["seconds"], seconds)
            entry["clean"].append(float((net(test.images()).argmax(1) == test.y).float().mean()))
            entry["robust"].append(float((~judged.success).float().mean()))
            print(f"{name:20} seed {seed}", entry, flush=True)
    return found


def main() -> None:
    """Measure all, print it, and write it to benchmarks/results/training.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch likes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads or torch.get_num_threads())
    mnist = load("mnist()")
    x, y = mnist.train.batch(torch.arange(BATCH))
    steps = {}
    for name, row in ROWS.items():
        steps[name] = {"defence": str(DEFENCES.parse(row.defence)), **step_cost(row, "cnn()", x, y)}
        print(f"{name:20} {steps[name]['ratio']:.2f} of the bare passes", flush=True)
    trainings = whole({"ours": ours, "the authors' script": authors, "ART": art})
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    record = {"machine": machine, "steps": steps, "trainings": trainings, "target": PEER_TARGET}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
