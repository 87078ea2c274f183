"""Latent recovery: all training images of MNIST, and beside a search on one image at a time: `make bench-recovery`.

Needs MNIST, a finished run of a generative model of it with an encoder (`--model`), and one of a classifier
(`--classifier`). The other search is the known code's: 1,000 steps of Adam on each image alone,
from what the same encoder says. Ours is timed to the same mean squared error on the same images. Last, what mixing adds
to an epoch once the codes are kept. By hand: a quiet machine, and a quarter of an hour.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.core.randomness import seeded
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import DEFENCES
from sparring.generative import GenerativeNetwork
from sparring.generative.quality import BATCH
from sparring.generative.recovery import RECOVERIES, recover
from sparring.generative.saved import load_generative
from sparring.models import MODELS, assemble
from sparring.models.saved import load as load_classifier
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant
from speed import cpu_name, shortest_of_rounds

RESULTS = Path(__file__).parent / "results" / "recovery.json"
ALONE, STEPS, RATE = 12, 1000, 0.05
TARGETS = {"minutes": 10.0, "psnr": 20.0, "agreement": 0.97, "faster": 50.0, "mixing": 1.15}


def one_at_a_time(network: GenerativeNetwork, x: Tensor) -> tuple[Tensor, float]:
    """Return the errors of 1,000 steps on each image alone, and the seconds an image."""
    errors, begin = [], time.perf_counter()
    for image in torch.split(x, 1):
        z = network.encode(image).detach().requires_grad_(True)
        optimiser = torch.optim.Adam([z], lr=RATE)
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = (network.decode(z) - image).square().mean()
            loss.backward()
            optimiser.step()
        errors.append(float(loss.detach()))
    return torch.tensor(errors), (time.perf_counter() - begin) / len(x)


def all_at_once(network: GenerativeNetwork, x: Tensor, y: Tensor, wanted: float) -> Iterator[dict[str, float]]:
    """Yield what ever more steps on all images together cost an image, until their mean error is as small."""
    for steps in (30, 100, 200, 400, 800, 1600):
        recovery = RECOVERIES.parse(f"recovery(steps={steps}, lr={0.05 if steps == 30 else 0.1})")
        begin = time.perf_counter()
        _, error = recover(network, x, y, recovery)
        found = {
            "steps": steps,
            "seconds": (time.perf_counter() - begin) / len(x),
            "error": float(error[:ALONE].mean()),
        }
        yield found
        if found["error"] <= wanted:
            return


def whole(network: GenerativeNetwork, classifier: torch.nn.Module, x: Tensor, y: Tensor, call: str) -> dict[str, float]:
    """Return the cost and the quality of recovering all images."""
    begin = time.perf_counter()
    z, error = recover(network, x, y, RECOVERIES.parse(call))
    seconds = time.perf_counter() - begin
    same = 0
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(x)), BATCH):
            again = network.decode(z[rows], y[rows])
            same += int((classifier(again).argmax(1) == classifier(x[rows]).argmax(1)).sum())
    psnr = -10 * error.log10()
    quantiles = psnr.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return {
        "images": len(x),
        "minutes": seconds / 60,
        "psnr": quantiles[1],
        "psnr_5": quantiles[0],
        "psnr_95": quantiles[2],
        "agreement": same / len(x),
    }


def mixing(model: str, runs: Path, recovery: str) -> float:
    """Return an epoch's time with mixing over one without, the codes at hand: of 20 batches each."""
    split = load("mnist()").train.take(torch.arange(2560))

    def stepping(call: str) -> object:
        def classifier() -> torch.nn.Module:
            with seeded(0):
                return assemble(torch.nn.Identity(), MODELS.parse("convnet()").build((1, 28, 28), 10)).train()

        defence = DEFENCES.parse(call)
        setup = Setup((1, 28, 28), 10, classifier, lambda net: Learner(net, Adam().build(net), Constant()), runs,
                      training=lambda: (split.x, split.y, split.ids))  # fmt: skip
        state, generator = defence.init(setup), torch.Generator().manual_seed(0)

        def epoch() -> None:
            for rows in torch.split(torch.arange(2560), 128):
                defence.step(state, *split.batch(rows), progress=0.0, generator=generator)

        return epoch

    plain, mixed = stepping("standard()"), stepping(f"latent_mix(model='{model}', recovery={recovery}, least_psnr=0)")
    a, b = shortest_of_rounds(mixed, plain)  # type: ignore[arg-type]  # functions without arguments
    return a / b


def main() -> None:
    """Measure all, print it, and write it to benchmarks/results/recovery.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a run of a generative model of MNIST with an encoder")
    parser.add_argument("--classifier", required=True, help="a run of a classifier of MNIST")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--recovery", default="recovery(steps=30)")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    network, classifier = (
        load_generative(options.runs / options.model),
        load_classifier(options.runs / options.classifier),
    )
    given = load("mnist()").split("train+validation").take(torch.arange(options.images))
    x, y = given.images(), given.y
    found: dict[str, Any] = {"whole": whole(network, classifier, x, y, options.recovery)}
    print(found["whole"], flush=True)
    errors, alone = one_at_a_time(network, x[:ALONE])
    found["alone"] = {"seconds": alone, "error": float(errors.mean())}
    print(found["alone"], flush=True)
    found["together"] = []
    for one in all_at_once(network, x[:500], y[:500], float(errors.mean())):
        found["together"].append({**one, "faster": alone / one["seconds"]})
        print(found["together"][-1], flush=True)
    found["mixing"] = {"ratio": mixing(options.model, options.runs, "recovery(steps=5)")}
    print(found["mixing"], flush=True)
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    about = {"generative": repr(network.about), "recovery": options.recovery}
    record = {"machine": machine, "about": about, **found, "targets": TARGETS}
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
