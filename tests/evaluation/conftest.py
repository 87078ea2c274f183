"""Small classifiers of the built-in digits: standard, robust, and of many kinds; trained once a process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.core.threat import Linf
from sparring.data import load
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import LossDefence
from sparring.defences.standard import Standard
from sparring.defences.trades import TRADES

THREAT = Linf(0.1)
INNER = PGD(steps=5, rel_step_size=0.4)
DEFENCES: dict[str, LossDefence] = {
    "standard": Standard(),
    "pgd": Adversarial(attack=INNER, threat=THREAT),
    "trades": TRADES(threat=THREAT, attack=PGD(steps=5, rel_step_size=0.4, loss="kl")),
}


@dataclass(frozen=True, kw_only=True)
class Noisy(LossDefence):
    """Trains on images with Gaussian noise; honest, and no more robust than that makes it."""

    name = "noisy"

    def loss(self, net, x, y, *, progress, generator):
        noise = torch.randn(x.shape, generator=generator) * 0.15
        return nn.functional.cross_entropy(net((x + noise).clamp(0, 1)), y), {}


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def build(kind: str, classes: int) -> nn.Module:
    pixels = 64
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 64), nn.ReLU(), nn.Linear(64, classes))
    if kind == "resnet":
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), Block(8), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, classes)
        )
    norm = [nn.BatchNorm2d(16)] if kind == "cnn with batch norm" else []
    layers = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        *norm,
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, classes))


def examples(classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and test images with labels: digits, the first of them, or blots about random prototypes."""
    if classes > 10:
        generator = torch.Generator().manual_seed(0)
        prototypes = torch.rand(classes, 1, 8, 8, generator=generator)
        y = torch.arange(1600) % classes
        x = (prototypes[y] + 0.15 * torch.randn(1600, 1, 8, 8, generator=generator)).clamp(0, 1)
        return x[:1500], y[:1500], x[1500:], y[1500:]
    digits = load("digits()")
    x, y, x_test, y_test = digits.train.images(), digits.train.y, digits.test.images(), digits.test.y
    return x[y < classes], y[y < classes], x_test[y_test < classes][:100], y_test[y_test < classes][:100]


@cache
def trained(kind: str, defence: str, classes: int = 10) -> nn.Module:
    x, y, _, _ = examples(classes)
    way = Noisy() if defence == "noisy" else DEFENCES[defence]
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        net = build(kind, classes)
        generator, optimiser = torch.Generator().manual_seed(0), torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(10):
            for rows in torch.randperm(len(x), generator=generator).split(64):
                net.train()
                loss, _ = way.loss(net, x[rows], y[rows], progress=0.5, generator=generator)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    net.zero_grad(set_to_none=True)
    return net.eval()


@pytest.fixture(scope="session")
def classifier() -> Callable[..., nn.Module]:
    """Give a function of (kind, defence, classes) to a trained classifier."""
    return trained


@pytest.fixture(scope="session")
def judged() -> Callable[[int], tuple[Tensor, Tensor]]:
    """Give a function of the number of classes to the test images and labels, at most 100."""
    return lambda classes=10: examples(classes)[2:]
