"""Shared by the tests of defences: a training that is broken off and goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from sparring.recipe import Recipe, fit

DIGITS = {
    "data": "digits()",
    "model": 'mlp(hidden=(32,), norm="batch")',
    "optimiser": "adam(lr=0.01)",
    "epochs": 3,
    "batch_size": 200,  # seven steps an epoch, the last of 57 images
}


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """Give a function of changed fields to a small recipe."""
    return lambda **changes: Recipe.of({**DIGITS, **changes})


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
