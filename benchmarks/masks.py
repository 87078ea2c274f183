"""Speed on photographs: `make bench-masks`. A network of ImageNet images, a universal perturbation, and PCA of many.

Needs the ImageNet sample with SqueezeNet's weights, and CIFAR-10 as an image folder, below SPARRING_DATA; what they
decode to is cached before anything is timed. By hand: a quiet machine and half an hour. Names as arguments
measure only these, and leave the others' figures as they are.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from sparring.attacks import Universal, craft, fooling_rate
from sparring.attacks.universal import TURNING
from sparring.core.threat import Linf
from sparring.data import load
from sparring.data.dataset import Split
from sparring.evaluation.curve import predictions
from sparring.models import MODELS, assemble
from sparring.models.wrappers import normaliser
from sparring.recipe import Recipe, fit
from speed import cpu_name, shortest_of_rounds

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "masks-speed.json"
IMAGES = 'folder("imagenet-sample/images.zip", test=0.5, validation=0.0, drawn_from="whole")'
MODEL = 'squeezenet(weights="imagenet-sample/squeezenet1_0.safetensors")'
WITHIN = Linf(10 / 255)
CNN = {  # the standard row of latent-mixing
    "data": "mnist()",
    "model": "cnn()",
    "optimiser": "adam(lr=0.001)",
    "schedule": "step(every=1, by=0.9)",
    "epochs": 10,
    "batch_size": 128,
}
PCA = """
import resource, time
from sparring.core.trainable import Setup
from sparring.data import load
from sparring.defences.masks import PCA
split = load('folder("cifar10")').train
setup = Setup((3, 32, 32), 10, None, None, training=lambda: (split.x, split.y, split.ids))
begin = time.perf_counter()
axes, seconds = PCA(variance=0.99, examples=10_000).fit(setup).axes, time.perf_counter() - begin
print(len(axes), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def squeezenet() -> nn.Module:
    """Return the network as it was released."""
    model = MODELS.parse(MODEL)
    network = model.build((3, 224, 224), 1000)
    model.fill(network)
    return assemble(normaliser("none", load(IMAGES).train), network).eval()


def passes(model: nn.Module) -> dict[str, float]:
    """All judged images from the folder to logits, against passes over tensors in batches that suit a bare loop."""
    tensors = load(IMAGES).test.images().split(25)

    def bare() -> None:
        with torch.inference_mode():
            for batch in tensors:
                model(batch)

    a, b = shortest_of_rounds(lambda: predictions(model, load(IMAGES).test.images()), bare, rounds=2)
    return {"ours_s": a, "bare_s": b, "ratio": a / b, "target": 1.1}


def universal(model: nn.Module) -> dict[str, float]:
    """One perturbation fitted on half of the images, judged on the other half."""
    data, begin = load(IMAGES), time.perf_counter()
    fitted = Universal().fit(model, data.train.x, data.train.y, WITHIN)
    seconds = time.perf_counter() - begin
    x, y = data.test.images(), data.test.y
    before, rates = predictions(model, x), {}
    signs = Universal(method="random_signs").fit(model, data.train.x, data.train.y, WITHIN)
    for name, attack in (("fooling_rate", fitted), ("random_signs", signs)):
        rates[name] = fooling_rate(before, predictions(model, craft(attack, model, x, y, WITHIN, seed=0)))
    return {"seconds": seconds, "target": 300.0, **rates, "least_fooling_rate": 0.6}


def courses(model: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
    """Each course of a universal perturbation alone, and both: what it fools of the images it is given, and of others.

    Photographs: seven in ten of those to fit on are given. Digits: 1,000 of those that the networks were trained on.
    """
    photographs, digits = load(IMAGES).train, load("mnist()").train
    given = torch.arange(len(photographs)) % 10 < 7
    tasks = {
        "SqueezeNet, photographs, linf(10/255)": (model, WITHIN, photographs.take(given), photographs.take(~given))
    }
    halves = (digits.take(torch.arange(1000)), digits.take(torch.arange(1000, 2000)))
    for name, recipe in (("LeNet", Recipe.read(HERE / "models" / "lenet.toml")), ("CNN", Recipe.of(CNN))):
        tasks[f"{name}, MNIST, linf(0.2)"] = (fit(recipe, runs=HERE.parent / "runs").model, Linf(0.2), *halves)
    return {about: _courses(*task) for about, task in tasks.items()}


def _courses(net: nn.Module, within: Linf, given: Split, others: Split) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, share in (("turning", 1.0), ("crossing", 0.0), ("both", TURNING)):
        with mock.patch("sparring.attacks.universal.TURNING", share):
            fitted = Universal().fit(net, given.x, given.y, within)
        found[name] = {}
        for whose, split in (("given", given), ("others", others)):
            x = split.images()
            after = predictions(net, craft(fitted, net, x, split.y, within, seed=0))
            found[name][whose] = fooling_rate(predictions(net, x), after)
        print(name, found[name], flush=True)
    return found


def pca(_: nn.Module) -> dict[str, float]:
    """Fit on 10,000 images of CIFAR-10, in a process of its own."""
    load('folder("cifar10")')
    done = subprocess.run([sys.executable, "-c", PCA], capture_output=True, text=True, check=True)
    components, seconds, peak = map(float, done.stdout.split())
    return {"seconds": seconds, "target": 60.0, "peak_mb": peak, "most_mb": 3000.0, "components": components}


def main(*names: str) -> None:
    """Measure all, or what is named, print it, and write it to benchmarks/results/masks-speed.json."""
    model = squeezenet()
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    record = {"machine": machine, "figures": {}}
    if names:
        record = json.loads(RESULTS.read_text(encoding="utf-8"))
    for measure in (passes, universal, courses, pca):
        if not names or measure.__name__ in names:
            record["figures"][measure.__name__] = found = measure(model)
            print(measure.__name__, found, flush=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
