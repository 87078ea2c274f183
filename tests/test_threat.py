"""Threat models: what they accept, what they measure, and what their names say."""

import math

import pytest
import torch

from sparring import L1, L2, InputError, Linf
from sparring.core.threat import THREATS, ThreatModel

X = torch.zeros(2, 1, 1, 3)
X_ADV = torch.tensor([[0.3, -0.4, 0.0], [0.0, 0.0, 0.0]]).view(2, 1, 1, 3)


@pytest.mark.parametrize(("threat", "distance"), [(Linf(1), 0.4), (L2(1), 0.5), (L1(1), 0.7)])
def test_distance_is_the_norm_of_the_difference(threat: ThreatModel, distance: float) -> None:
    assert threat.distance(X_ADV, X).tolist() == pytest.approx([distance, 0.0])
    assert threat.distance(X, X_ADV).tolist() == pytest.approx([distance, 0.0])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", ["-0.1", "-inf", "inf-inf"])
def test_an_eps_below_zero_or_none_at_all_is_refused(norm: str, eps: str) -> None:
    with pytest.raises(InputError, match=f"{norm}: eps must be at least 0"):
        THREATS.parse(f"{norm}({eps})")


def test_an_eps_in_8_bit_steps_is_told_how_to_be_written() -> None:
    with pytest.raises(InputError, match=r"at most 1, not 8.*did you mean linf\(8/255\)\?"):
        THREATS.parse("linf(8)")
    assert THREATS.parse("l2(8)") == L2(8.0)
    assert THREATS.parse("l1(12)") == L1(12.0)
    assert THREATS.parse("linf(1)") == Linf(1.0)


@pytest.mark.parametrize("threat", [Linf(0.0), Linf(8 / 255), Linf(math.inf), L2(0.5), L2(1e300), L1(12.0), L1(1 / 3)])
def test_the_name_reads_back_to_the_same_threat(threat: ThreatModel) -> None:
    assert THREATS.parse(repr(threat)) == threat
    assert THREATS.parse(str(threat)) == threat
    assert hash(THREATS.parse(repr(threat))) == hash(threat)


def test_threats_of_different_norms_differ() -> None:
    assert len({Linf(0.5), L2(0.5), L1(0.5), Linf(0.5)}) == 3
    assert Linf(0.5) != L2(0.5)


def test_reach_is_eps_or_the_whole_box() -> None:
    images = torch.zeros(2, 3, 4, 4)
    assert Linf(0.3).reach(images) == 0.3
    assert L2(0.3).reach(images) == 0.3
    assert [THREATS.parse(f"{norm}(inf)").reach(images) for norm in ("linf", "l2", "l1")] == [1.0, math.sqrt(48), 48.0]
    assert L2(100).reach(images) == math.sqrt(48)


def test_the_l1_step_spends_itself_on_the_strongest_pixel_that_can_still_move() -> None:
    x = torch.tensor([1.0, 0.5, 0.5]).view(1, 1, 1, 3)
    grad = torch.tensor([3.0, -2.0, 1.0]).view(1, 1, 1, 3)
    assert L1(1).steepest(grad).flatten().tolist() == [1.0, 0.0, 0.0]
    assert L1(1).ascent(x, grad, 0.3).flatten().tolist() == pytest.approx([0.0, -0.3, 0.0])
    assert L1(1).ascent(x, grad, 0.7).flatten().tolist() == pytest.approx([0.0, -0.5, 0.2])
    assert L1(1).ascent(x, grad, 9.0).flatten().tolist() == pytest.approx([0.0, -0.5, 0.5])


def test_linf_projection_cuts_each_pixel_on_its_own() -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    found = Linf(0.25).project(torch.tensor([-1.0, 0.9, 0.8]).view(1, 1, 1, 3), x)
    assert found.flatten().tolist() == pytest.approx([0.0, 0.75, 0.8])


def test_l2_projection_spends_what_the_box_cuts_on_the_other_pixels() -> None:
    # towards (1, 0.8) from the corner (0.9, 0.1): scaled and then cut, the point would be too near
    x = torch.tensor([0.9, 0.1]).view(1, 1, 1, 2)
    found = L2(0.5).project(x + torch.tensor([0.7, 0.7]).view(1, 1, 1, 2), x)
    assert (found - x).flatten().tolist() == pytest.approx([0.1, math.sqrt(0.25 - 0.01)], abs=1e-6)


def test_l1_projection_takes_the_same_from_all_and_drops_the_small() -> None:
    x = torch.zeros(1, 1, 1, 3)
    found = L1(0.5).project(torch.tensor([0.5, 0.4, 0.1]).view(1, 1, 1, 3), x)
    assert found.flatten().tolist() == pytest.approx([0.3, 0.2, 0.0], abs=1e-6)


@pytest.mark.parametrize("norm", [L2, L1])
def test_an_eps_whose_square_overflows_is_no_bound(norm: type[ThreatModel]) -> None:
    x, z = torch.rand(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    assert torch.allclose(norm(1e200).project(z, x), norm(math.inf).project(z, x))


@pytest.mark.parametrize("threat", [Linf(0.3), L2(0.3), L1(0.3), Linf(math.inf), L2(math.inf), L1(math.inf)])
def test_projection_writes_to_nothing_it_was_given(threat: ThreatModel) -> None:
    x, z = torch.rand(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    copies = x.clone(), z.clone()
    threat.project(z, x)
    threat.steepest(z)
    threat.ascent(x, z, 1.0)
    assert torch.equal(x, copies[0])
    assert torch.equal(z, copies[1])
