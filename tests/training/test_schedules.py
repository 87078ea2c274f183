"""Schedules against their definitions, and optimisers; what neither can be is refused."""

import math

import pytest

from sparring.core.errors import InputError
from sparring.training.optimisers import OPTIMISERS
from sparring.training.schedules import SCHEDULES, Cosine, HalveOnPlateau, OneCycle, Step


def test_halve_on_plateau_halves_after_each_epoch_whose_loss_rose() -> None:
    schedule = HalveOnPlateau()
    factors = [
        schedule.factor(progress=0.5, losses=losses) for losses in ([], [3], [3, 2], [3, 2, 2.5], [3, 2, 2.5, 2.6])
    ]
    assert factors == [1, 1, 1, 0.5, 0.25]
    falling = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert [HalveOnPlateau(every=2).factor(progress=0, losses=falling[:n]) for n in range(6)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
    ]
    assert HalveOnPlateau(every=2).factor(progress=0, losses=[1, 2]) == 0.25  # both reasons count


def test_step_multiplies_every_so_many_epochs() -> None:
    schedule = Step(every=2, by=0.1)
    assert [schedule.factor(progress=0, losses=[1.0] * n) for n in range(5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_falls_from_one_to_its_end() -> None:
    schedule = Cosine(end=0.2)
    assert schedule.factor(progress=0, losses=[]) == 1
    assert schedule.factor(progress=0.5, losses=[]) == pytest.approx(0.6)
    assert schedule.factor(progress=1, losses=[]) == pytest.approx(0.2)
    assert Cosine(warmup=0.5).factor(progress=0.25, losses=[]) == pytest.approx(0.5)


def test_one_cycle_rises_to_its_peak_and_falls_to_its_end() -> None:
    schedule = OneCycle(peak=0.25, start=0.1, end=0.05)
    assert [schedule.factor(progress=p, losses=[]) for p in (0, 0.25, 1)] == pytest.approx([0.1, 1, 0.05])


@pytest.mark.parametrize("schedule", [kind() for kind in SCHEDULES], ids=str)
def test_every_factor_is_positive_and_finite_before_the_end(schedule: Step) -> None:
    for part in range(1000):
        factor = schedule.factor(progress=part / 1000, losses=[1.0] * (part // 100))
        assert math.isfinite(factor)
        assert factor > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("sgd(lr=-0.1)", "sgd: lr must be more than 0"),
        ("sgd(lr=inf)", "sgd: lr must be more than 0, and finite"),
        ("sgd(momentum=1.5)", "sgd: momentum is a share"),
        ("sgd(momentum=-0.1)", "sgd: momentum is a share"),
        ("sgd(momentum=0, nesterov=true)", "sgd: nesterov looks ahead"),
        ("sgd(weight_decay=-1)", "sgd: weight_decay must be at least 0"),
        ("adam(betas=(1.0, 2.0))", "adam: betas are shares"),
        ("adam(weight_decay=-1)", "adam: weight_decay must"),
        ("adamw(betas=(-0.1, 0.9))", "adamw: betas are shares"),
        ("adamw(weight_decay=inf)", "adamw: weight_decay must"),
        ("adamw(lr=0)", "adamw: lr must"),
    ],
)
def test_optimisers_that_cannot_be_are_refused(call: str, says: str) -> None:
    with pytest.raises(InputError, match=f"^{says}"):
        OPTIMISERS.parse(call)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("step(by=-1)", "step: by is a factor"),
        ("step(every=0)", "step: every must"),
        ("cosine(warmup=1.0)", "cosine: warmup is a share"),
        ("cosine(warmup=-0.5)", "cosine: warmup is a share"),
        ("cosine(end=-0.1)", "cosine: end is a factor"),
        ("one_cycle(start=-1)", "one_cycle: start is a factor"),
        ("one_cycle(end=-1)", "one_cycle: end is a factor"),
        ("one_cycle(peak=1)", "one_cycle: peak is a share"),
    ],
)
def test_schedules_that_cannot_be_are_refused(call: str, says: str) -> None:
    with pytest.raises(InputError, match=f"^{says}"):
        SCHEDULES.parse(call)
