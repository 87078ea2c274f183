"""What is special to Auto-PGD: its checks and step sizes, its losses and targets, and its form for L1."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import APGD, ATTACKS, Oracle
from sparring.attacks.apgd import Halving, Sparse, likeliest
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import cross_entropy, dlr, margin
from sparring.core.threat import THREATS

NORMS = ("linf", "l2", "l1")
CHECKS = [0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99]  # section 3.2 of the paper, of all steps


def slow_apgd(
    net: nn.Module, x: Tensor, start: Tensor, norm: str, eps: float, steps: int, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, list[float]]:
    """Run algorithm 1 of the paper on one image (1, C, H, W); give the best image and the step sizes in eps."""
    threat = THREATS.parse(f"{norm}({eps})")

    def look(image: Tensor) -> tuple[float, Tensor]:
        at = image.clone().requires_grad_()
        value = loss(net(at)).sum()
        (grad,) = torch.autograd.grad(value, at)
        return float(value.detach()), grad

    checks = [int(steps * p + 1e-9) for p in CHECKS]
    images, (value, grad) = [start], look(start)
    values, size, sizes = [value], 2.0, [2.0]
    best, best_value, best_grad, image = start, value, grad, start
    last_check, last_size, last_best = 0, size, best_value
    for k in range(1, steps + 1):
        z = threat.project(image + size * eps * threat.steepest(grad), x)
        new = z if k == 1 else threat.project(image + 0.75 * (z - image) + 0.25 * (image - images[-2]), x)
        images[-1] = image  # where a check went back, that is where the step began
        value, grad = look(new)
        if value > best_value:
            best, best_value, best_grad = new, value, grad
        values.append(value)
        images.append(new)
        image = new
        if k in checks:
            rose = sum(values[i + 1] > values[i] for i in range(last_check, k))
            halve = rose <= 0.75 * (k - last_check) or (last_size == size and last_best == best_value and last_check)
            last_check, last_size, last_best = k, size, best_value
            if halve:
                size, image, grad = size / 2, best, best_grad
        sizes.append(size)
    return best, sizes


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "margin"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3)])
def test_the_full_course_is_that_of_a_slow_loop(
    norm: str, eps: float, loss: str, net: nn.Module, data: SimpleNamespace
) -> None:
    threat, steps = THREATS.parse(f"{norm}({eps})"), 100
    start = threat.random_start(data.x, torch.rand(8, 37, generator=torch.Generator().manual_seed(2)))
    with frozen(net):
        oracle = Oracle(net, torch.arange(8), start=start)
        found = APGD(steps=steps, loss=loss).perturb(oracle, data.x, data.y, threat, stop=False)
    measure = {"cross_entropy": cross_entropy, "dlr": dlr, "margin": margin}[loss]
    for i in range(8):
        y = data.y[i : i + 1]
        expected, sizes = slow_apgd(
            net, data.x[i : i + 1], start[i : i + 1], norm, eps, steps, lambda logits, y=y: measure(logits, y)
        )
        assert sizes[-1] <= 0.125  # steps were halved many times
        with torch.no_grad():
            reached, wanted = (measure(net(image), y) for image in (found[i : i + 1], expected))
        assert torch.allclose(reached, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [100, 50, 10, 3, 1])
def test_step_sizes_are_halved_at_the_papers_checks_where_nothing_pays(steps: int) -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    climb = Halving(x, x, THREATS.parse("l2(0.1)"), steps, None)
    halved, size = [], 0.2
    for step in range(steps + 1):
        climb.note(torch.tensor([-float(step), float(step)]), torch.ones_like(x), torch.zeros(2, 3))
        climb.check(step, 0.75)
        if climb.step_size[0].item() < size - 1e-9:
            halved.append(step)
            size = climb.step_size[0].item()
    assert climb.step_size[1].item() == pytest.approx(0.2)  # where every step pays, none is halved
    if steps == 100:
        assert halved == [round(100 * p) for p in CHECKS]
    assert size == pytest.approx(0.2 / 2 ** len(halved))


def test_where_steps_rise_but_find_no_new_best_the_second_check_in_a_row_halves() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)
    climb = Halving(x, x, THREATS.parse("l2(0.1)"), 100, None)
    sizes = {}
    value = 10.0
    for step in range(58):
        value = 10.0 if step == 0 else (-100.0 if step == 1 else value + 1)  # a fall, and then a climb far below
        climb.note(torch.tensor([value]), torch.ones_like(x), torch.zeros(1, 3))
        climb.check(step, 0.75)
        sizes[step] = climb.step_size.item()
    assert sizes[22] == pytest.approx(0.2)  # all but one of the steps rose
    assert sizes[41] == pytest.approx(0.1)  # so did all these, but none was better than at the check before
    assert sizes[57] == pytest.approx(0.1)  # and steps are not halved twice in a row for that


def test_a_check_goes_back_to_the_best_image_and_its_gradient() -> None:
    x = torch.zeros(2, 1, 1, 1)
    climb = Halving(x, x, THREATS.parse("l2(1)"), 100, None)
    for step in range(23):
        climb.x_adv = torch.full_like(x, step / 100)
        falls = step % 2 == 0  # to and fro: only half of the steps rise; the second example always rises
        climb.note(torch.tensor([-float(step) if falls else 50.0 - step, float(step)]), climb.x_adv + 1, x[:, :, 0, 0])
        climb.check(step, 0.75)
    assert climb.x_adv.flatten().tolist() == pytest.approx([0.01, 0.22])
    assert climb.grad.flatten().tolist() == pytest.approx([1.01, 1.22])


# ------------------------------------------------------------------------------------------------------------ targets


@pytest.mark.parametrize(("classes", "climbs"), [(2, 1), (3, 2), (4, 3), (12, 9)])
def test_targeted_dlr_makes_for_each_other_class_and_costs_exactly(classes: int, climbs: int, linear: Callable) -> None:
    net = linear(torch.zeros(classes, 4), 100.0 - torch.arange(float(classes)))
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()
    found = run('apgd(steps=7, loss="targeted_dlr")', net, x, y, "linf(0.1)")
    assert found.backwards.tolist() == [climbs * 7] * 3
    more = 0 if climbs == 9 else 1  # the logits that show that there are not so many classes
    assert found.forwards.tolist() == [climbs * (1 + 8) + more] * 3
    other = run('apgd(steps=7, loss="targeted_dlr", restarts=2, targets=1)', net, x, y, "linf(0.1)")
    assert other.forwards.tolist() == [2 * (1 + 8)] * 3


@pytest.mark.parametrize(
    ("norm", "forwards", "backwards"), [("linf", 11, 10), ("l2", 11, 10), ("l1", 13, 10)]
)  # in L1 each of three balls is looked at once more at its end
def test_a_climb_costs_exactly(norm: str, forwards: int, backwards: int, linear: Callable) -> None:
    net = linear(torch.zeros(3, 4), torch.tensor([9.0, 1.0, 0.0]))
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()
    for loss in ("cross_entropy", "dlr", "margin"):
        found = run(APGD(steps=10, loss=loss), net, x, y, f"{norm}(0.1)")
        assert found.forwards.tolist() == [forwards] * 3
        assert found.backwards.tolist() == [backwards] * 3


@pytest.mark.parametrize("classes", [2, 3, 4, 9])
def test_targeted_dlr_fools_networks_of_few_classes(classes: int, make_net: Callable, make_data: Callable) -> None:
    net = make_net(classes=classes)
    data = make_data(net)
    for norm, eps in (("linf", 0.7), ("l2", 4.0), ("l1", 20.0)):
        found = run('apgd(steps=40, loss="targeted_dlr")', net, data.x, data.y, f"{norm}({eps})")
        assert found.success.all()


def test_a_class_that_the_nearest_one_hides_is_found(linear: Callable) -> None:
    # class 1 is nearest at first but can never win; class 3 can
    weight = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [0.0, 1.0]])
    net = linear(weight, torch.tensor([1.0, 0.9, -5.0, 0.35]))
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    found = run('apgd(steps=20, loss="targeted_dlr")', net, x, y, "l1(0.3)")
    assert found.success.item()
    assert found.logits.argmax(1).item() == 3


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr", "targeted_dlr"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.7), ("l2", 4.0), ("l1", 30.0)])
def test_with_room_enough_a_given_target_is_reached(
    loss: str, norm: str, eps: float, net: nn.Module, data: SimpleNamespace
) -> None:
    target = (data.y + 2) % 5
    found = run(APGD(steps=60, loss=loss), net, data.x, data.y, f"{norm}({eps})", target=target)
    assert found.success.all()
    assert torch.equal(found.logits.argmax(1), target)
    assert found.backwards.max() <= 60  # one climb: there is but one target


def test_the_likeliest_others_leave_out_the_label() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    assert likeliest(logits, torch.tensor([0, 0])).tolist() == [[2, 1], [1, 2]]


# ---------------------------------------------------------------------------------------------------- success and L1


class Lead(nn.Module):
    """Two classes: the sum of the left pixels, against a lead of class 0 that the right pixel gives in full numbers."""

    def forward(self, x: Tensor) -> Tensor:
        lead = x[:, 0, 0, -1].detach() * 100  # no gradient, so no attack moves it
        return torch.stack([lead, x[:, 0, 0, :-1].sum(1)], dim=1)


def test_an_example_costs_nothing_after_its_first_success() -> None:
    x = torch.zeros(3, 1, 1, 5)
    x[:, 0, 0, -1] = torch.tensor([0.002, 0.5, 0.003])
    start = x.clone()
    start[2, 0, 0, :-1] = 0.1  # fools already
    found = run(APGD(steps=20), Lead(), x, torch.zeros(3).long(), "linf(0.1)", start=start)
    assert found.success.tolist() == [True, False, True]
    assert found.backwards.tolist() == [2, 20, 1]
    assert found.forwards.tolist() == [2, 21, 1]


def test_an_image_that_fools_is_kept_though_another_has_the_higher_loss() -> None:
    class Valley(nn.Module):
        """Class 1 wins below 0.3; from there on class 2 takes from class 0 what it can, and never wins."""

        def forward(self, x: Tensor) -> Tensor:
            at = x.flatten(1).sum(1)
            nil = torch.zeros_like(at)
            return torch.stack([nil, 10 * (0.3 - at).clamp(max=0.01), (1 - 10 * (0.9 - at)).clamp(max=-1e-4)], dim=1)

    x, y = torch.full((1, 1, 1, 1), 0.6), torch.tensor([0])
    found = run(APGD(steps=40), Valley(), x, y, "linf(0.4)", start=torch.full_like(x, 0.25))
    assert found.success.item()
    assert found.forwards.item() == 1


def test_restarts_keep_the_worst_and_begin_elsewhere(net: nn.Module, data: SimpleNamespace) -> None:
    for norm, eps in (("linf", 0.02), ("l2", 0.1), ("l1", 0.3)):
        threat = THREATS.parse(f"{norm}({eps})")
        values = []
        for restarts in (1, 4):
            oracle = Oracle(net, torch.arange(8))
            found = APGD(steps=3, restarts=restarts).perturb(oracle, data.x, data.y, threat, stop=False)
            with torch.no_grad():
                values.append(cross_entropy(net(found), data.y))
        assert bool((values[1] >= values[0] - 1e-6).all())
        assert bool((values[1] > values[0] + 1e-6).any())


def test_random_starts_lie_on_the_surface_of_the_ball(linear: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    honest = Oracle.value_and_gradient
    monkeypatch.setattr(Oracle, "value_and_gradient", lambda self, x, loss: asked.append(x) or honest(self, x, loss))
    x, y = torch.full((4, 1, 6, 6), 0.5), torch.zeros(4).long()
    net = linear(torch.zeros(2, 36), torch.tensor([1.0, 0.0]))
    for norm, eps, ball in (("linf", 0.1, 0.1), ("l2", 0.5, 0.5), ("l1", 0.4, 1.2)):  # in L1 of 3 eps at first
        asked.clear()
        run("apgd(steps=10)", net, x, y, f"{norm}({eps})")
        distance = THREATS.parse(f"{norm}({eps})").distance(asked[0], x)
        assert torch.allclose(distance, torch.tensor(ball), rtol=1e-4)
        assert not torch.equal(asked[0][0], asked[0][1])


@pytest.mark.parametrize(
    ("steps", "balls"),
    [(100, [30, 30, 40]), (50, [15, 15, 20]), (10, [3, 3, 4]), (4, [1, 1, 2]), (3, [1, 1, 1]), (2, [2]), (1, [1])],
)
def test_in_l1_the_climb_goes_through_balls_of_3_2_and_1_eps(steps: int, balls: list[int]) -> None:
    found = APGD(steps=steps)._balls(THREATS.parse("l1(2)"))
    assert [count for _, count in found] == balls
    assert [ball.eps for ball, _ in found] == [6.0, 4.0, 2.0][-len(balls) :]
    for threat in ("linf(0.1)", "l2(1)", "l1(inf)", "l1(0)"):
        assert APGD(steps=steps)._balls(THREATS.parse(threat)) == [(THREATS.parse(threat), steps)]


def test_in_l1_steps_spread_evenly_over_as_many_pixels_as_the_best_image_changes_less_a_third() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.full((2, 1, 10, 10), 0.5)
    start = x.clone()
    start.view(2, -1)[0, :30] += 0.1
    start.view(2, -1)[1, :3] += 0.1
    climb = Sparse(x, start, THREATS.parse("l1(4)"), 30, None)
    grad = torch.randn(2, 1, 10, 10, generator=generator)
    climb.note(torch.zeros(2), grad, torch.zeros(2, 3))
    before = climb.x_adv.clone()
    climb.move(1, THREATS.parse("l1(100)"))
    step = (climb.x_adv - before).flatten(1)
    assert (step != 0).sum(1).tolist() == [20, 2]
    for row, count in ((0, 20), (1, 2)):
        largest = grad.flatten(1)[row].abs().topk(count).indices
        moved = torch.zeros(100)
        moved[largest] = grad.flatten(1)[row].sign()[largest] * 4 / count
        assert torch.allclose(
            (before.flatten(1)[row] + moved).clamp(0, 1) - before.flatten(1)[row], step[row], atol=1e-6
        )


def test_in_l1_a_best_image_that_got_sparser_is_gone_back_to_with_full_steps_and_others_step_less_far() -> None:
    x = torch.full((2, 1, 2, 5), 0.5)
    climb = Sparse(x, x + 0.1, THREATS.parse("l1(4)"), 30, None)
    climb.note(torch.zeros(2), torch.ones_like(x), torch.zeros(2, 3))
    sparse = x.clone()
    sparse[0, 0, 0] += 0.1  # the first example's new image changes 5 pixels, the second's all 10
    sparse[1] += 0.2
    climb.x_adv = sparse.clone()
    climb.note(torch.ones(2), torch.ones_like(x), torch.zeros(2, 3))
    climb.step_size /= 2
    climb.x_adv = x.clone()
    climb.check(1, 0.75)
    assert climb.step_size.flatten().tolist() == pytest.approx([4.0, 2 / 1.5])
    assert torch.equal(climb.x_adv[0], sparse[0])
    assert torch.equal(climb.x_adv[1], x[1])
    for step in range(2, 20):
        climb.check(step, 0.75)
    assert climb.step_size[1].item() == pytest.approx(0.4)  # a tenth of the first at least


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr", "targeted_dlr"])
@pytest.mark.parametrize("norm", NORMS)
def test_plateaus_and_no_bound_are_survived(norm: str, loss: str, linear: Callable) -> None:
    flat = linear(torch.zeros(4, 4), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    x, y = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(2).long()
    for eps in (0.1, math.inf):
        found = run(APGD(steps=6, loss=loss), flat, x, y, f"{norm}({eps})")
        assert bool(found.x.isfinite().all())
        assert not found.success.any()


@pytest.mark.parametrize(
    "spec",
    [
        "apgd(steps=0)",
        "apgd(restarts=0)",
        "apgd(targets=0)",
        "apgd(rho=1.5)",
        "apgd(rho=-0.1)",
        "apgd(rho=inf-inf)",
    ],
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="apgd: "):
        ATTACKS.parse(spec)
