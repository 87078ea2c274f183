"""What is special to C&W: its loss, its bisection, pixels at 0 and 1, confidence, each example's own pace."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, CW
from sparring.attacks.cw import _Search


def slow_cw(net: nn.Module, x: Tensor, y: Tensor, *, steps: int, const: float, step_size: float) -> Tensor:
    """Run one descent of the paper's loss on one image (1, C, H, W) with autograd through tanh; give the nearest."""
    w = torch.atanh((2 * x - 1) * (1 - 1e-4)).requires_grad_()
    adam = torch.optim.Adam([w], lr=step_size)
    best, least = x, float("inf")
    for _ in range(steps):
        x_adv = (torch.tanh(w) + 1) / 2
        logits = net(x_adv)[0]
        lead = logits[y] - torch.cat([logits[:y], logits[y + 1 :]]).max()
        distance = float((x_adv - x).detach().norm())
        if lead < 0 and distance < least:
            best, least = x_adv.detach(), distance
        loss = (x_adv - x).square().sum() + const * lead.clamp(min=0)
        (w.grad,) = torch.autograd.grad(loss.sum(), w)
        adam.step()
    return best


def test_a_descent_is_that_of_a_slow_loop(net: nn.Module, data: SimpleNamespace) -> None:
    found = run(CW(steps=9, search_steps=1, initial_const=3.0), net, data.x, data.y, "l2(inf)")
    assert found.success.sum() >= len(data.x) / 2
    for i in torch.nonzero(found.success).flatten().tolist():
        slow = slow_cw(net, data.x[i : i + 1], data.y[i : i + 1], steps=9, const=3.0, step_size=0.1)
        assert torch.allclose(found.x[i : i + 1], slow, atol=1e-4)


def test_const_is_bisected_for_each_example_apart() -> None:
    """Through aliased arrays ART's lower bound becomes the new const, and it doubles for ever."""
    search = _Search(torch.full((2, 1, 1, 1), 0.5), CW(steps=1, search_steps=9), torch.full((2,), 0.01))
    truth = torch.tensor([0.05, 300.0])  # the least const that succeeds
    seen = []
    for _ in range(9):
        seen.append(search.const.clone())
        search.step(torch.zeros(2, 1, 1, 1), search.image())
        search.check(torch.zeros(2), search.const >= truth)
    first, second = torch.stack(seen).T.tolist()
    assert first == pytest.approx([0.01, 0.1, 0.055, 0.0325, 0.04375, 0.049375, 0.0521875, 0.05078125, 0.050078125])
    assert second == pytest.approx([0.01, 0.1, 1, 10, 100, 1000, 550, 325, 212.5])


def test_pixels_at_exactly_0_and_1_move(linear: Callable) -> None:
    """Where atanh is infinite torchattacks moves no pixel, and on MNIST nothing happens."""
    net = linear(torch.stack([torch.zeros(16), torch.ones(16)]), torch.tensor([4.0, 0.0]))
    x, y = torch.zeros(1, 1, 4, 4), torch.tensor([0])
    found = run(CW(), net, x, y, "l2(inf)")
    assert found.success.all()
    assert found.distance.item() == pytest.approx(1.0, rel=0.02)  # each of 16 pixels by a quarter
    dark = run(CW(), linear(-net.weight.detach(), torch.tensor([-12.0, 0.0])), 1 - x, y, "l2(inf)")
    assert dark.success.all()
    assert dark.distance.item() == pytest.approx(1.0, rel=0.02)


def test_confidence_is_the_margin_of_what_is_found(net: nn.Module, data: SimpleNamespace) -> None:
    for target in (None, data.wrong):
        found = run(CW(confidence=1.0), net, data.x, data.y, "l2(inf)", target=target)
        assert found.success.any()
        with torch.no_grad():
            logits = net(found.x)[found.success]
        wanted = (data.y if target is None else target)[found.success][:, None]
        of_wanted = logits.gather(1, wanted).squeeze(1)
        other = logits.scatter(1, wanted, -torch.inf).amax(1)
        lead = of_wanted - other if target is not None else other - of_wanted
        assert (lead > 0.999).all()
        assert lead.median() < 1.5


def test_an_example_goes_at_its_own_pace(net: nn.Module, data: SimpleNamespace) -> None:
    """A stop rule on the batch's summed loss makes a result depend on batch-mates."""
    together = run(CW(steps=30), net, data.x, data.y, "l2(inf)")
    alone = run(CW(steps=30), net, data.x, data.y, "l2(inf)", batch_size=1)
    assert torch.equal(together.forwards, alone.forwards)
    assert torch.allclose(together.distance, alone.distance, rtol=1e-3)
    assert len(together.forwards.unique()) > 1


def test_more_descents_come_nearer(net: nn.Module, data: SimpleNamespace) -> None:
    few, many = (run(CW(search_steps=steps), net, data.x, data.y, "l2(inf)") for steps in (3, 9))
    both = few.success & many.success
    assert (many.distance <= few.distance)[both].all()
    assert many.distance[both].mean() < few.distance[both].mean()


@pytest.mark.parametrize(
    "text",
    [
        "cw(steps=0)",
        "cw(search_steps=0)",
        "cw(step_size=0)",
        "cw(initial_const=0)",
        "cw(initial_const=inf)",
        "cw(confidence=-1)",
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="cw: "):
        ATTACKS.parse(text)
