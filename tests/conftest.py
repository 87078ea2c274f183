"""Shared by all tests: tiny seeded networks, linear classifiers whose robustness is known, and images for them."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from pretend import PretendGenerator, Watching, fabric, present
from torch import Tensor, nn

from sparring.core import float64
from sparring.evaluation.audit import twins
from sparring.recipe import Recipe, fit, opening, run_of
from sparring.training import loop
from sparring.training.runs import Run

settings.register_profile("sparring", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("sparring")

OTHER_DEVICE = present()  # now, for torch counts its devices at the first backward pass of a process


CLASSES = 5
SHAPE = (1, 6, 6)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed every test, before its fixtures: one that draws a network must not fail by the luck of the draw."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a library under test may draw from
    torch.manual_seed(0)


class Linear(nn.Module):
    """Logits weight @ pixels + bias, as they stand."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.zeros(len(weight), dtype=weight.dtype) if bias is None else bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def _make_net(
    seed: int = 0, *, classes: int = CLASSES, shape: tuple[int, int, int] = SHAPE, dropout: float = 0.25
) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(shape[0], 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(4 * shape[1] * shape[2], classes),
        )
        for _ in range(10):  # running statistics that are not 0 and 1, and not those of a test's images
            net(torch.rand(16, *shape))
        with torch.no_grad():  # logits that differ more than an untrained network's
            net[-1].weight.mul_(4)
            net[-1].bias.sub_(net(torch.rand(64, *shape)).mean(0))
    return net.eval()


def _make_data(
    net: nn.Module, count: int = 8, *, shape: tuple[int, int, int] = SHAPE, seed: int = 1
) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, *shape, generator=generator)
    corner = torch.rand(x.shape, generator=generator)
    x = x.masked_fill(corner < 0.1, 0.0).masked_fill(corner > 0.9, 1.0)
    with torch.no_grad():
        logits = net(x)
    return SimpleNamespace(x=x, y=logits.argmax(1), wrong=logits.argmin(1), logits=logits)


@pytest.fixture(scope="session")
def make_net() -> Callable[..., nn.Sequential]:
    """Give a function of (seed, classes, shape, dropout) to a small network with batch norm and dropout."""
    return _make_net


@pytest.fixture(scope="session")
def make_data() -> Callable[..., SimpleNamespace]:
    """Give a function of (net, count, shape, seed) to images, some pixels at 0 and 1, that the net labels itself."""
    return _make_data


@pytest.fixture(scope="session")
def linear() -> Callable[..., nn.Module]:
    """Give a function of (weight (K, d), bias (K,)) to a linear classifier."""
    return Linear


@pytest.fixture
def net() -> nn.Sequential:
    return _make_net()


@pytest.fixture
def data(net: nn.Sequential) -> SimpleNamespace:
    """Eight images `x`, the net's own labels `y`, and `wrong` ones."""
    return _make_data(net)


def _break_off(recipe: Recipe, at: int, runs: Path, device: str = "auto") -> Run:
    calls, step = 0, loop.Monitor.step

    def dies(self: loop.Monitor, images: int) -> None:
        nonlocal calls
        calls += 1
        step(self, images)
        if calls == at:
            raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Monitor, "step", dies)
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(ZeroDivisionError):
            fit(recipe, runs=runs, device=device, quiet=True)
    return run_of(recipe, runs)


@pytest.fixture(scope="session")
def break_off() -> Callable[..., Run]:
    """Give a function of (recipe, at, runs, device) that lets a training die after so many steps, each one saved."""
    return _break_off


@pytest.fixture
def same_after_a_break(tmp_path: Path, break_off: Callable[..., object]) -> Callable[[Recipe, int], None]:
    """Give a function that trains a recipe twice, once broken off after so many steps, and asserts the same bits."""

    def compare(recipe: Recipe, at: int) -> None:
        whole = fit(recipe, runs=tmp_path / "whole", quiet=True)
        break_off(recipe, at, tmp_path / "broken")
        resumed = fit(recipe, runs=tmp_path / "broken", quiet=True)
        a, b = whole.model.state_dict(), resumed.model.state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)
        figures = [[epoch.metrics for epoch in fitted.run.read_metrics()] for fitted in (whole, resumed)]
        assert figures[0] == figures[1]
        extras = [fitted.run.read_checkpoint()["state"]["extra"] for fitted in (whole, resumed)]
        assert _same(*extras)

    return compare


def _same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Give a device that is not the CPU, "pretend", on which recipes can train and models be attacked."""
    monkeypatch.setattr(torch, "Generator", PretendGenerator)
    monkeypatch.setattr(opening, "Fabric", fabric)
    monkeypatch.setattr(opening, "DEVICES", (*opening.DEVICES, OTHER_DEVICE.type))
    monkeypatch.setattr(twins, "Fabric", fabric)
    monkeypatch.setattr(float64, "WITHOUT", (*float64.WITHOUT, OTHER_DEVICE.type))
    with Watching():
        yield OTHER_DEVICE
