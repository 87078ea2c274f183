"""What is special to DeepFool: exact on a linear model, cheap in passes, and no stall before the boundary."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, DeepFool

NORMS = ("linf", "l2")


class Root(nn.Module):
    """Two classes: the second where the pixels' mean root is above `level`; every tangent promises that too soon."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        lead = x.flatten(1).sqrt().mean(1) - self.level
        return torch.stack([-lead, lead], dim=1)


class Mirage(nn.Module):
    """Three classes of two pixels: the second seems near until the first pixel passes 0.55, the third is honest."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x - 0.5).flatten(1).T
        bent = torch.where(first < 0.05, first, 0.05 + 0.01 * (first - 0.05))
        return torch.stack([torch.zeros_like(bent), bent - 0.1, second - 0.2], dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_the_total_is_overshot_once_whatever_the_number_of_steps(norm: str, linear: Callable) -> None:
    """Overshooting each step apart stalls before the boundary or goes too far: the fault of two peers."""
    net = linear(torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]))
    x, y = torch.tensor([[[[0.6, 0.6], [0.4, 0.4]]]]), torch.tensor([0])
    least = {"linf": 0.1, "l2": 0.2}[norm]  # a lead of 0.4, over gradients of four ones
    for overshoot in (0.02, 0.5):
        found = run(DeepFool(overshoot=overshoot), net, x, y, f"{norm}(inf)")
        assert least < found.distance.item() < least * (1 + overshoot) * 1.0001


@pytest.mark.parametrize("norm", NORMS)
def test_a_boundary_that_bends_away_is_crossed_all_the_same(norm: str) -> None:
    x, y = torch.full((3, 1, 4, 4), 0.1), torch.zeros(3).long()
    found = run(DeepFool(overshoot=0), Root(0.5), x, y, f"{norm}(inf)")
    least = {"linf": 0.15, "l2": 0.6}[norm]  # from 0.1 to 0.25, each pixel
    assert found.success.all()
    assert found.distance == pytest.approx(torch.full((3,), least), rel=0.01)


def test_a_boundary_that_has_moved_off_is_given_up_for_the_one_that_is_nearer_now() -> None:
    x, y = torch.full((2, 1, 1, 2), 0.5), torch.zeros(2).long()
    found = run(DeepFool(), Mirage(), x, y, "l2(inf)")
    assert found.success.all()
    assert (found.distance < 0.22).all()  # one step the wrong way, 0.06, and 0.2 the right way; else beyond 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_an_example_costs_no_more_than_its_steps_and_one_look_at_every_class(
    norm: str, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(DeepFool(), net, data.x, data.y, f"{norm}(inf)")
    assert found.success.all()
    assert (found.forwards < 30).all()
    # the peers take a gradient of every class at each step
    assert (found.backwards <= found.forwards * (data.logits.shape[1] - 1)).all()
    assert found.backwards.sum() < 3 * found.forwards.sum()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_classified_wrongly_already_costs_nothing_and_stays(
    norm: str, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(DeepFool(), net, data.x, data.wrong, f"{norm}(inf)")
    assert found.success.all()
    assert torch.equal(found.x, data.x)
    assert (found.backwards == 0).all()


def test_two_candidates_look_only_at_the_runner_up(linear: Callable) -> None:
    """Of three classes, the third's boundary is nearer than the runner-up's: one pixel is steep for it."""
    net = linear(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 100.0]]), torch.tensor([0.4, 0.0, -50.6]))
    x, y = torch.tensor([[[[0.3, 0.5]]]]), torch.tensor([0])  # behind by 0.1 with a slope of 1, by 1 with one of 100
    far, near = (run(DeepFool(candidates=c), net, x, y, "l2(inf)").distance.item() for c in (2, 3))
    assert far == pytest.approx(0.1, rel=0.03)
    assert near == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize("norm", NORMS)
def test_pixels_at_the_border_are_not_counted_on(norm: str, linear: Callable) -> None:
    """A pixel at 1 cannot go up: whoever counts on it falls short at every step."""
    net = linear(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 1.0]]), torch.tensor([10.2, 0.0]))
    x, y = torch.tensor([[[[1.0, 1.0, 0.0]]]]), torch.tensor([0])
    found = run(DeepFool(steps=5), net, x, y, f"{norm}(inf)")
    assert found.success.all()
    assert found.distance.item() == pytest.approx(0.2, rel=0.03)


def test_with_a_target_only_its_boundary_counts(net: nn.Module, data: SimpleNamespace) -> None:
    found = run(DeepFool(), net, data.x, data.y, "l2(inf)", target=data.wrong)
    assert found.success.all()
    with torch.no_grad():
        assert torch.equal(net(found.x).argmax(1), data.wrong)
    free = run(DeepFool(), net, data.x, data.y, "l2(inf)")
    assert (found.distance >= free.distance * 0.98).all()


@pytest.mark.parametrize("text", ["deepfool(steps=0)", "deepfool(overshoot=-0.1)", "deepfool(candidates=1)"])
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="deepfool: "):
        ATTACKS.parse(text)
