"""What is special to PGD: by the book in every norm, restarts that keep the worst, momentum, and its losses."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError, run
from sparring.attacks import ATTACKS, PGD, Oracle, craft
from sparring.attacks.losses import cross_entropy, dlr, margin, objective
from sparring.core.randomness import uniform
from sparring.core.threat import THREATS

NORMS = ("linf", "l2", "l1")


def slow_pgd(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    steps: int,
    rel_step_size: float = 0.1,
    momentum: float = 0.0,
    start: Tensor | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> list[Tensor]:
    """Run PGD in Linf on one image at a time, by `backward`, and give the images of all steps, first to last."""
    rows = []
    for i in range(len(x)):
        image = x[i : i + 1]
        iterates = [image if start is None else start[i : i + 1]]
        velocity = torch.zeros_like(image)
        for _ in range(steps):
            at = iterates[-1].clone().requires_grad_()
            loss(net(at), y[i : i + 1]).sum().backward()
            velocity = momentum * velocity + at.grad / at.grad.abs().sum().clamp(min=1e-30)
            moved = at.detach() + rel_step_size * eps * velocity.sign()
            moved = torch.maximum(torch.minimum(moved, image + eps), image - eps)
            iterates.append(moved.clamp(0, 1))
        rows.append(torch.cat(iterates))
    return list(torch.stack(rows, dim=1))


def first_fooled(net: nn.Module, iterates: list[Tensor], y: Tensor) -> Tensor:
    """Give the number of the first image that fools, (N,); one more than there are where none does."""
    with torch.no_grad():
        fooled = torch.stack([net(x).argmax(1) != y for x in iterates])
    return torch.where(fooled.any(0), fooled.int().argmax(0), len(iterates))


@pytest.mark.parametrize("momentum", [0.0, 0.75])
@pytest.mark.parametrize("random_start", [False, True])
def test_the_full_course_in_linf_is_that_of_a_slow_loop(
    random_start: bool, momentum: float, net: nn.Module, data: SimpleNamespace
) -> None:
    start = None
    if random_start:
        noise = uniform(3, torch.arange(len(data.x)), 0, 37)[:, :36].view_as(data.x)
        start = (data.x + 0.1 * (2 * noise - 1)).clamp(0, 1)
    attack = PGD(steps=6, momentum=momentum, random_start=random_start)
    found = craft(attack, net, data.x, data.y, THREATS.parse("linf(0.1)"), seed=3)
    expected = slow_pgd(net, data.x, data.y, 0.1, steps=6, momentum=momentum, start=start)[-1]
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
def test_an_attack_gives_the_first_image_that_fools_as_a_slow_loop_does(
    loss: str, net: nn.Module, data: SimpleNamespace
) -> None:
    steps = 12
    iterates = slow_pgd(net, data.x, data.y, 0.1, steps=steps, loss=lambda logits, y: objective(loss, logits, y, None))
    first = first_fooled(net, iterates, data.y)
    found = run(PGD(steps=steps, loss=loss, random_start=False), net, data.x, data.y, "linf(0.1)")
    assert 0 < found.success.sum() < len(data.x)
    assert torch.equal(found.success, first <= steps)
    assert found.forwards.tolist() == (first + 1).clamp(max=steps + 1).tolist()
    for i in found.success.nonzero().squeeze(1).tolist():
        assert torch.allclose(found.x[i], iterates[int(first[i])][i], atol=1e-6)


class Bump(nn.Module):
    """Two classes; the second, which never wins, does best where the only pixel is 0.58."""

    def forward(self, x: Tensor) -> Tensor:
        height = 1 - (x.flatten(1).sum(1) - 0.58).abs()
        return torch.stack([torch.full_like(height, 5.0), height], dim=1)


@pytest.mark.parametrize(("steps", "last"), [(1, 0.6), (2, 0.5), (3, 0.6), (4, 0.5)])
def test_an_example_that_resists_is_given_its_worst_image_and_training_gets_the_last(steps: int, last: float) -> None:
    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    attack = PGD(steps=steps, rel_step_size=0.5, random_start=False)  # 0.1 a step: to and fro across the bump
    found = run(attack, Bump(), x, y, "linf(0.2)")
    assert found.x.item() == pytest.approx(0.6)
    assert not found.success.any()
    assert craft(attack, Bump(), x, y, THREATS.parse("linf(0.2)"), seed=0).item() == pytest.approx(last)


def test_momentum_zero_is_plain_pgd(net: nn.Module, data: SimpleNamespace) -> None:
    for norm in NORMS:
        plain, zero = (
            run(attack, net, data.x, data.y, f"{norm}(0.3)") for attack in (PGD(steps=5), PGD(steps=5, momentum=0.0))
        )
        assert torch.equal(plain.x, zero.x)
    other = run(PGD(steps=5, momentum=0.9), net, data.x, data.y, "linf(0.3)")
    assert not torch.equal(other.x, run(PGD(steps=5), net, data.x, data.y, "linf(0.3)").x)


@pytest.mark.parametrize("norm", NORMS)
def test_without_stopping_it_takes_exactly_its_steps_and_returns_the_last_image(
    norm: str, net: nn.Module, data: SimpleNamespace
) -> None:
    threat = THREATS.parse(f"{norm}(2)" if norm == "l1" else f"{norm}(0.3)")
    oracle = Oracle(net, torch.arange(len(data.x)))
    attack = PGD(steps=7, random_start=False)
    found = attack.perturb(oracle, data.x, data.y, threat, stop=False)
    assert oracle.backwards.tolist() == [7] * len(data.x)
    assert oracle.forwards.tolist() == [7] * len(data.x)
    image = data.x
    for _ in range(7):
        at = image.clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(net(at), data.y, reduction="sum"), at)
        image = threat.project(image + threat.ascent(image, grad, 0.1 * threat.eps), data.x)
    assert torch.allclose(found, image, atol=1e-5)


def test_restarts_keep_the_worst_not_the_last(net: nn.Module, data: SimpleNamespace) -> None:
    threat = THREATS.parse("linf(0.05)")
    ids, size = torch.arange(len(data.x)), data.x[0].numel()
    ends = []
    for restart in range(4):
        noise = uniform(0, ids, restart, size + 1)[:, :size].view_as(data.x)
        start = (data.x + 0.05 * (2 * noise - 1)).clamp(0, 1)
        ends.append(slow_pgd(net, data.x, data.y, 0.05, steps=2, start=start)[-1])
    with torch.no_grad():
        losses = torch.stack([cross_entropy(net(x), data.y) for x in ends])
    worst = losses.argmax(0)
    assert (worst != 3).any()  # else the last would do
    found = craft(PGD(steps=2, restarts=4), net, data.x, data.y, threat, seed=0)
    assert torch.allclose(found, torch.stack(ends)[worst, ids], atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
def test_more_restarts_and_more_steps_never_do_worse(loss: str, net: nn.Module, data: SimpleNamespace) -> None:
    for norm, eps in (("linf", 0.04), ("l2", 0.3), ("l1", 1.0)):
        for less, more in (({}, {"restarts": 4}), ({"steps": 3}, {"steps": 9})):
            one, other = (
                run(PGD(**({"steps": 5, "loss": loss} | extra)), net, data.x, data.y, f"{norm}({eps})")
                for extra in (less, more)
            )
            assert bool((other.success >= one.success).all())
            both = ~other.success
            value, higher = (objective(loss, found.logits, data.y, None) for found in (one, other))
            assert bool((higher >= value - 1e-5)[both].all())


def test_margin_restarts_climb_towards_each_other_class(linear: Callable) -> None:
    # class 1 is nearest at first but can never win; class 3 can; a climb that follows the nearest finds only class 1
    weight = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [0.0, 1.0]])
    net = linear(weight, torch.tensor([1.0, 0.9, -5.0, 0.35]))
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    assert not run(PGD(loss="margin", random_start=False), net, x, y, "l1(0.3)").success.any()
    found = run(PGD(loss="margin", random_start=False, restarts=3), net, x, y, "l1(0.3)")
    assert found.success.all()
    assert found.logits.argmax(1).item() == 3


# ----------------------------------------------------------------------------------------------------------- targeted


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.7), ("l2", 4.0), ("l1", 30.0)])
def test_with_room_enough_every_target_is_reached(
    loss: str, norm: str, eps: float, net: nn.Module, data: SimpleNamespace
) -> None:
    for shift in (1, 2):
        target = (data.y + shift) % 5
        found = run(PGD(steps=60, loss=loss), net, data.x, data.y, f"{norm}({eps})", target=target)
        assert found.success.all()
        assert torch.equal(found.logits.argmax(1) == target, found.success)


def test_a_targeted_attack_goes_on_past_other_wrong_classes(linear: Callable) -> None:
    # one grey line: class 0, then 1, then 2
    net = linear(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0.0, -0.3, -0.9]))
    x, y = torch.zeros(1, 1, 1, 1), torch.tensor([0])
    found = run(PGD(steps=20, random_start=False), net, x, y, "linf(0.9)", target=torch.tensor([2]))
    assert found.success.item()
    assert found.x.item() > 0.6
    assert run(PGD(steps=20, random_start=False), net, x, y, "linf(0.9)").logits.argmax(1).item() == 1


# ----------------------------------------------------------------------------------------------------- the DLR's edges


def test_dlr_with_few_classes_is_the_margin_and_no_constant() -> None:
    two, y = torch.tensor([[3.0, 1.0]], requires_grad=True), torch.tensor([0])
    assert dlr(two, y).item() == margin(two, y).item() == -2.0
    assert torch.autograd.grad(dlr(two, y).sum(), two)[0].abs().sum() > 0
    three = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    assert dlr(three, y).item() == pytest.approx(-2 / 3)
    assert dlr(three, y, torch.tensor([2])).item() == margin(three, y, torch.tensor([2])).item() == -3.0
    assert torch.autograd.grad(dlr(three, y, torch.tensor([2])).sum(), three)[0].abs().sum() > 0


@pytest.mark.parametrize(("classes", "targeted"), [(2, False), (3, False), (2, True), (3, True), (4, True)])
def test_the_dlr_loss_fools_networks_of_few_classes(
    classes: int, targeted: bool, make_net: Callable, make_data: Callable
) -> None:
    net = make_net(classes=classes)
    data = make_data(net)
    target = (data.y + 1) % classes if targeted else None
    found = run('pgd(loss="dlr", steps=60)', net, data.x, data.y, "linf(0.7)", target=target)
    assert found.success.all()
    assert bool(found.x.isfinite().all())


def test_the_dlr_loss_is_finite_where_logits_tie(linear: Callable) -> None:
    net = linear(torch.zeros(4, 4))
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2).long()
    for target in (None, torch.tensor([1, 2])):
        found = run('pgd(loss="dlr", steps=3)', net, x, y, "linf(0.1)", target=target)
        assert bool(found.x.isfinite().all())
        assert not found.success.any()


# ------------------------------------------------------------------------------------------------------- no bound, &c.


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("norm", NORMS)
def test_without_a_bound_everything_falls_and_stays_finite(
    norm: str, loss: str, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(PGD(steps=20, loss=loss), net, data.x, data.y, f"{norm}(inf)")
    assert bool(found.x.isfinite().all())
    assert bool(found.distance.isfinite().all())
    assert found.success.float().mean() >= 0.75
    plain = run(PGD(steps=20, loss=loss, random_start=False), net, data.x, data.y, f"{norm}(inf)")
    assert bool(plain.x.isfinite().all())
    assert plain.success.float().mean() >= 0.5


def test_gradients_that_vanish_leave_the_image_in_the_ball(linear: Callable) -> None:
    net = linear(torch.zeros(3, 4), torch.tensor([1.0, 0.0, -1.0]))
    x, y = torch.rand(2, 1, 2, 2), torch.zeros(2).long()
    for norm in NORMS:
        for momentum in (0.0, 0.9):
            found = run(PGD(steps=3, momentum=momentum), net, x, y, f"{norm}(0.2)")
            assert bool(found.x.isfinite().all())
            assert found.distance.max() <= 0.2 + 1e-6


@pytest.mark.parametrize(
    "spec",
    [
        "pgd(steps=0)",
        "pgd(restarts=0)",
        "pgd(steps=-3)",
        "pgd(rel_step_size=0)",
        "pgd(rel_step_size=-0.1)",
        "pgd(rel_step_size=inf-inf)",
        "pgd(momentum=-1)",
        "pgd(momentum=inf-inf)",
    ],
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="pgd: "):
        ATTACKS.parse(spec)
