"""What is special to FAB: the steps of its paper, what they cost, targets and restarts."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, FAB, Oracle, craft
from sparring.attacks.hyperplane import landing
from sparring.core.threat import THREATS

NORMS = ("linf", "l2", "l1")
ORDER = {"linf": math.inf, "l2": 2, "l1": 1}


def slow_fab(net: nn.Module, x: Tensor, y: int, norm: str, *, steps: int, rival: int | None = None) -> Tensor:
    """Run the paper's algorithm 1 on one image (1, C, H, W), with the gradients of all classes; give the nearest."""

    def length(delta: Tensor) -> float:
        return float(torch.linalg.vector_norm(delta.flatten(), ord=ORDER[norm]))

    def onto(point: Tensor, w: Tensor, gap: float) -> Tensor:
        return landing(norm, point.view(1, 1, -1), w.view(1, -1), torch.tensor([[[gap]]])).view_as(x) - point

    dual = {"linf": 1, "l2": 2, "l1": math.inf}[norm]
    point, best = x, x + 100
    for _ in range(steps):
        at = point.clone().requires_grad_()
        logits = net(at)[0]
        boundaries = []
        for k in range(len(logits)) if rival is None else [rival]:
            if k != y:
                lead = logits[y] - logits[k]
                (grad,) = torch.autograd.grad(-lead, at, retain_graph=True)
                dist = abs(float(lead.detach())) / (float(torch.linalg.vector_norm(grad.flatten(), ord=dual)) + 1e-12)
                boundaries.append((dist, float(lead.detach()), grad))
        _, lead, w = min(boundaries, key=lambda boundary: boundary[0])
        near, far = onto(point, w, lead), onto(x, w, lead + float((w * (point - x)).sum()))
        a, b = max(length(near), 1e-8), max(length(far), 1e-8)
        alpha = min(a / (a + b), 0.1)
        point = ((1 - alpha) * (point + 1.05 * near) + alpha * (x + 1.05 * far)).clamp(0, 1)
        with torch.no_grad():
            fooled = int(net(point).argmax()) != y
        if fooled:
            best = point if length(point - x) < length(best - x) else best
            point = x + 0.9 * (point - x)
    return best


@pytest.mark.parametrize("norm", NORMS)
def test_the_full_course_is_that_of_a_slow_loop(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    found = run(FAB(steps=8), net, data.x, data.y, f"{norm}(inf)")
    for i in range(len(data.x)):
        expected = slow_fab(net, data.x[i : i + 1], int(data.y[i]), norm, steps=8)
        assert torch.allclose(found.x[i : i + 1], expected, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_each_target_is_made_for_in_the_order_of_the_clean_logits(
    norm: str, net: nn.Module, data: SimpleNamespace
) -> None:
    second = data.logits.scatter(1, data.y[:, None], -math.inf).argsort(1, descending=True)
    for targets in (1, 2):
        found = run(FAB(steps=6, targets=targets), net, data.x, data.y, f"{norm}(inf)")
        for i in range(len(data.x)):
            image = data.x[i : i + 1]
            ends = [
                slow_fab(net, image, int(data.y[i]), norm, steps=6, rival=int(second[i, k])) for k in range(targets)
            ]
            best = min(ends, key=lambda end: float(torch.linalg.vector_norm((end - image).flatten(), ord=ORDER[norm])))
            assert torch.allclose(found.x[i : i + 1], best, atol=1e-4)


def test_with_two_classes_all_forms_are_one(linear: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 9, generator=generator)
    x = torch.rand(4, 1, 3, 3, generator=generator)
    net = linear(weight, -weight.sum(1) / 2)
    y = net(x).argmax(1).detach()
    for norm in NORMS:
        plain = run(FAB(steps=5), net, x, y, f"{norm}(inf)")
        for other in (FAB(steps=5, targets=1), FAB(steps=5, targets=9)):
            found = run(other, net, x, y, f"{norm}(inf)")
            assert torch.equal(found.x, plain.x)
            assert torch.equal(found.backwards, plain.backwards)
        assert torch.allclose(run(FAB(steps=5), net, x, y, f"{norm}(inf)", target=1 - y).x, plain.x)


def stubborn(linear: Callable) -> tuple[nn.Module, Tensor, Tensor]:
    weight = torch.zeros(3, 4)
    weight[1] += 0.1
    return linear(weight, torch.tensor([100.0, 0.0, -1.0])), torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()


@pytest.mark.parametrize(
    ("spec", "target", "forwards", "backwards"),
    [
        ("fab(steps=7)", None, 1 + 14, 7 * 3),  # the clean logits; at each step one gradient a class, and one check
        ("fab(steps=7, restarts=3)", None, 3 * (1 + 14), 3 * 7 * 3),
        ("fab(steps=7, targets=1)", None, 1 + 14, 7),
        ("fab(steps=7, targets=9)", None, 2 * (1 + 14) + 1, 2 * 7),  # of 9 targets only 2 exist
        ("fab(steps=7, targets=2, restarts=2)", None, 4 * (1 + 14), 4 * 7),
        ("fab(steps=7, targets=9)", 2, 14, 7),
    ],
)
def test_the_full_course_costs_exactly(
    spec: str, target: int | None, forwards: int, backwards: int, linear: Callable
) -> None:
    net, x, y = stubborn(linear)
    towards = None if target is None else torch.full((3,), target)
    found = run(spec, net, x, y, "linf(0.1)", target=towards)
    assert not found.success.any()
    assert found.forwards.tolist() == [forwards] * 3
    assert found.backwards.tolist() == [backwards] * 3


def test_an_example_within_eps_costs_no_more_and_one_beyond_is_followed_to_the_end(linear: Callable) -> None:
    net = linear(torch.tensor([[0.0] * 4, [1.0] * 4]), torch.tensor([0.5, 0.0]))
    x = torch.zeros(2, 1, 2, 2)
    x[0] += 0.1  # 0.025 from the boundary, the other 0.125
    found = run("fab(steps=9, targets=1)", net, x, torch.zeros(2).long(), "linf(0.05)")
    assert found.success.tolist() == [True, False]
    assert found.backwards.tolist() == [1, 9]
    assert found.forwards.tolist() == [3, 19]


def test_a_given_target_is_reached_past_other_classes(linear: Callable) -> None:
    # one grey line: class 0, then 1, then 2
    net = linear(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0.0, -0.3, -0.9]))
    x, y = torch.zeros(1, 1, 1, 1), torch.tensor([0])
    for norm in NORMS:
        found = run("fab(steps=20)", net, x, y, f"{norm}(inf)", target=torch.tensor([2]))
        assert found.success.item()
        assert 0.6 < found.distance.item() < 0.64
        assert run("fab(steps=20)", net, x, y, f"{norm}(inf)").distance.item() < 0.32


@pytest.mark.parametrize("targets", [0, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_more_restarts_and_more_targets_never_do_worse(
    norm: str, targets: int, net: nn.Module, data: SimpleNamespace
) -> None:
    one = run(FAB(steps=5, targets=targets), net, data.x, data.y, f"{norm}(inf)")
    for more in (FAB(steps=5, targets=targets, restarts=3), FAB(steps=5, targets=targets and 4)):
        assert bool((run(more, net, data.x, data.y, f"{norm}(inf)").distance <= one.distance + 1e-6).all())


@pytest.mark.parametrize("eps", [0.2, math.inf])
@pytest.mark.parametrize("norm", NORMS)
def test_restarts_begin_within_half_of_eps_and_of_what_was_reached(
    norm: str, eps: float, net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    honest = FAB._follow
    monkeypatch.setattr(FAB, "_follow", lambda self, *args: starts.append(args[3]) or honest(self, *args))
    threat = THREATS.parse(f"{norm}({eps})")
    first = run(FAB(steps=5), net, data.x, data.y, f"{norm}(inf)").distance
    craft(FAB(steps=5, restarts=2), net, data.x, data.y, threat, seed=0)
    assert torch.equal(starts[1], data.x)
    moved = threat.distance(starts[2], data.x)
    assert bool((moved <= first.clamp(max=eps) / 2 + 1e-6).all())
    assert bool((moved > 0).all())


def test_the_best_images_lie_beyond_the_boundary_by_the_overshoot_at_most(linear: Callable) -> None:
    net = linear(torch.tensor([[0.0] * 4, [1.0, 2.0, 3.0, 4.0]]), torch.tensor([6.0, 0.0]))
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    truth = {"linf": 1 / 10, "l2": 1 / math.sqrt(30), "l1": 1 / 4}
    for norm in NORMS:
        one = run("fab(steps=1)", net, x, y, f"{norm}(inf)")
        assert one.distance.item() == pytest.approx(1.05 * truth[norm], rel=1e-4)
        assert run("fab(steps=60)", net, x, y, f"{norm}(inf)").distance.item() <= 1.01 * truth[norm]


def test_a_plateau_is_survived(linear: Callable) -> None:
    net = linear(torch.zeros(4, 4), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    for norm in NORMS:
        for spec in ("fab(steps=3)", "fab(steps=3, targets=2)"):
            oracle = Oracle(net, torch.arange(2))
            x = torch.rand(2, 1, 2, 2)
            found = ATTACKS.parse(spec).perturb(oracle, x, torch.zeros(2).long(), THREATS.parse(f"{norm}(0.1)"))
            assert torch.equal(found, x)


@pytest.mark.parametrize(
    "spec",
    [
        "fab(steps=0)",
        "fab(restarts=0)",
        "fab(targets=-1)",
        "fab(alpha_max=1.5)",
        "fab(beta=-0.1)",
        "fab(beta=inf-inf)",
        "fab(eta=0.9)",
        "fab(eta=inf)",
    ],
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="fab: "):
        ATTACKS.parse(spec)
