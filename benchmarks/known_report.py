"""What the known report of "Latent interpolation" measured: its mixup's second softmax and its DeepFool, beside ours.

By hand, half an hour: `.venv/bin/python benchmarks/known_report.py`; needs MNIST. Four trainings of its network, ten
epochs each: standard and mixup, and both with a softmax before the loss, which takes another; mixup's code has that.
Their distances by DeepFool twice: as its tables have them (of normalised images that leave [0, 1], wrong predictions
and failures included), and as ours (of pixels in [0, 1], over the images first classified right); and what is left of
these when DDN and FMN look for nearer images, too.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import DDN, FMN, DeepFool, run
from sparring.core.randomness import seeded
from sparring.core.threat import L2
from sparring.data import Dataset, load
from sparring.evaluation.curve import predictions
from sparring.models import MODELS, assemble
from sparring.models.wrappers import normaliser
from speed import cpu_name

RESULTS = Path(__file__).parent / "results" / "known-report.json"
EPOCHS, BATCH, RATE, DECAY = 10, 128, 0.001, 0.9
MEAN, STD = 0.5, 0.5  # as its code normalises MNIST
STEPS, OVERSHOOT = 50, 0.02
IMAGES = 1000
PUBLISHED = {"standard": 3.378, "mixup, a second softmax": 4.090}  # at 50 epochs, in that code's own files


def trained(data: Dataset, *, mixup: bool, twice: bool) -> nn.Module:
    """Return its network after ten epochs; `twice`: with the softmax before the loss."""
    with seeded(0):
        net = assemble(normaliser("none", data.train), MODELS.parse("convnet()").build(data.shape, 10)).train()
        optimiser = torch.optim.Adam(net.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, DECAY)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(data.train)).split(BATCH):
                x, y = data.train.batch(rows)
                share = torch.rand(()) if mixup else torch.ones(())  # Beta(1, 1)
                order = torch.randperm(len(x))
                logits = net(share * x + (1 - share) * x[order])
                outputs = logits.softmax(1) if twice else logits
                loss = share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(outputs, y[order])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
    return net.eval()


def as_published(net: nn.Module, x: Tensor) -> float:
    """Return the mean length by DeepFool (arXiv:1511.04599) in normalised space, with nothing clipped or left out."""
    begun = (x - MEAN) / STD
    z, moved = begun.clone(), torch.zeros_like(begun)
    first = net(x).argmax(1)
    for _ in range(STEPS):
        leaf = z.detach().requires_grad_(True)
        logits = net(leaf * STD + MEAN)
        left = logits.argmax(1) == first
        if not bool(left.any()):
            break
        slopes = torch.stack(
            [torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)[0] for k in range(10)], 1
        )
        own = torch.arange(len(x)), first
        w = slopes - slopes[own][:, None]
        f = (logits - logits[own][:, None]).detach()
        away = f.abs() / w.flatten(2).norm(dim=2).clamp(min=1e-12)
        nearest = away.scatter(1, first[:, None], torch.inf).argmin(1)
        chosen = torch.arange(len(x)), nearest
        step = (away[chosen] + 1e-4)[:, None, None, None] * F.normalize(w[chosen].flatten(1), dim=1).view_as(x)
        moved = moved + torch.where(left[:, None, None, None], step, 0.0)
        z = begun + (1 + OVERSHOOT) * moved
    return float((1 + OVERSHOOT) * moved.flatten(1).norm(dim=1).mean())


def ours(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Return mean distances at which DeepFool fools, and the nearest of three attacks, over images classified right."""
    found = [run(attack, net, x, y, L2(torch.inf)) for attack in (DeepFool(), DDN(), FMN())]
    distances = torch.stack([each.distance[~each.skipped] for each in found])
    return {"ours": float(distances[0].mean()), "nearest": float(distances.amin(0).mean())}


def main() -> None:
    """Measure all, print it, and write it to benchmarks/results/known-report.json."""
    data = load("mnist()")
    test = data.test.take(torch.arange(IMAGES))
    x, y, rows = test.images(), test.y, {}
    kinds = {
        "standard": (False, False),
        "mixup": (True, False),
        "mixup, a second softmax": (True, True),
        "standard, a second softmax": (False, True),
    }
    for name, (mixup, twice) in kinds.items():
        net = trained(data, mixup=mixup, twice=twice)
        right = float((predictions(net, data.test.images()).argmax(1) == data.test.y).float().mean())
        rows[name] = {"accuracy": right, "as published": as_published(net, x), **ours(net, x, y)}
        if name in PUBLISHED:
            rows[name]["published"] = PUBLISHED[name]
        print(f"{name:24}", rows[name], flush=True)
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    about = {"epochs": EPOCHS, "images": IMAGES, "seed": 0}
    RESULTS.write_text(
        json.dumps({"machine": machine, "about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
