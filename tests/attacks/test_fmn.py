"""What is special to FMN: no tie holds it, its radius follows success and failure, in three norms."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, FMN

NORMS = ("linf", "l2", "l1")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [2, 10])
def test_a_tie_on_the_boundary_is_stepped_over(norm: str, steps: int, linear: Callable) -> None:
    """The paper's first radius ends on the linear boundary itself, where the margin is 0 and no radius grows."""
    net = linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    x, y = torch.tensor([[[[0.75, 0.25]]]]), torch.tensor([0])  # all exact in binary: a tie is a tie
    found = run(FMN(steps=steps), net, x, y, f"{norm}(inf)")
    assert found.success.all()
    least = {"linf": 0.25, "l2": 0.125**0.5, "l1": 0.5}[norm]
    assert found.distance.item() == pytest.approx(least, rel=0.02)


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_bring_it_nearer(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    few, many = (run(FMN(steps=steps), net, data.x, data.y, f"{norm}(inf)") for steps in (5, 200))
    assert few.success.all()
    assert many.success.all()
    assert many.distance.sum() < few.distance.sum()


def test_a_step_is_one_forward_and_one_backward_and_the_last_image_is_looked_at(
    net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(FMN(steps=12), net, data.x, data.y, "linf(inf)")
    assert (found.forwards == 12 + 1).all()
    assert (found.backwards == 12).all()


@pytest.mark.parametrize(
    "text", ["fmn(steps=0)", "fmn(step_size=0)", "fmn(gamma=1)", "fmn(gamma=0.0001)", "fmn(step_size=inf)"]
)
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="fmn: "):
        ATTACKS.parse(text)
