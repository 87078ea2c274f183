"""Shared by the tests of defences: a small recipe."""

from collections.abc import Callable

import pytest

from sparring.recipe import Recipe

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
