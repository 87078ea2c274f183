"""What is special to universal perturbations: one for all images, fitted on some, judged on others, beyond chance."""

import copy
import random
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, Oracle, Universal, fooling_rate
from sparring.attacks.adaptation import EOT_DRAWS
from sparring.attacks.universal import _Task
from sparring.core.threat import THREATS

METHODS = ("gradient", "deepfool")
THREAT_SPECS = ("linf(0.2)", "l2(1)", "l1(4)")

every_method = pytest.mark.parametrize("method", METHODS)
every_threat = pytest.mark.parametrize("threat", THREAT_SPECS)


def small(method: str, **settings: object) -> Universal:
    return Universal(**({"method": method, "epochs": 4, "minibatch": 16, "rel_step_size": 0.5} | settings))


def rate_of(attack: Universal, net: nn.Module, x: Tensor, threat: str) -> float:
    """Give the share of predictions on `x` that the fitted attack changes."""
    with torch.no_grad():
        before = net(x)
    found = run(attack, net, x, before.argmax(1), threat)  # labelled by the net, so that none is skipped
    with torch.no_grad():
        return fooling_rate(before, net(found.x))


# -------------------------------------------------------------------------------------------------------- closed form


@every_method
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_of_two_linear_classes_it_finds_the_direction(norm: str, method: str, linear: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 16, generator=generator)
    away = weight[1] - weight[0]
    x = 0.4 + 0.2 * torch.rand(64, 1, 4, 4, generator=generator)
    scores = x.flatten(1) @ away
    eps = {"linf": 0.05, "l2": 0.2, "l1": 0.3}[norm]
    best = eps * {"linf": away.sign(), "l2": away / away.norm(), "l1": torch.zeros(16)}[norm]
    if norm == "l1":
        place = away.abs().argmax()
        best[place] = eps * away[place].sign()
    gain = float(best @ away)
    # all are of class 0, and by more than the best perturbation can undo for half of them
    net = linear(weight, torch.tensor([float(scores.max()) + 0.01 * gain, 0.0]))
    x = x[scores > scores.max() - 2 * gain]
    fitted = small(method).fit(net, x, torch.zeros(len(x)).long(), f"{norm}({eps})")
    assert torch.allclose(fitted.delta.flatten(), best, atol=0.02 * eps)
    reached = x.flatten(1) @ (away) + gain > net.bias[0]
    assert 0 < reached.sum() < len(x)
    found = run(fitted, net, x, torch.zeros(len(x)).long(), f"{norm}({eps})")
    sure = (x.flatten(1) @ away + gain - net.bias[0]).abs() > 0.03 * gain
    assert torch.equal(found.success[sure], reached[sure])


@pytest.mark.parametrize(("turning", "left_out"), [(1.0, "crossing"), (0.0, "turning")])
@pytest.mark.parametrize("towards", [None, 1])
def test_each_course_alone_finds_the_direction(
    towards: int | None, turning: float, left_out: str, linear: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 16, generator=generator)
    net = linear(weight, torch.tensor([50.0, 0.0]))  # too far away for the perturbation to fool any
    x = 0.4 + 0.2 * torch.rand(64, 1, 4, 4, generator=generator)
    monkeypatch.setattr("sparring.attacks.universal.TURNING", turning)
    monkeypatch.setattr(_Task, left_out, lambda *_: pytest.fail(f"{left_out} was asked"))
    fitted = small("gradient", towards=towards).fit(net, x, torch.zeros(64).long(), "linf(0.05)")
    assert torch.allclose(fitted.delta.flatten(), 0.05 * (weight[1] - weight[0]).sign(), atol=1e-6)


def test_six_rounds_in_ten_turn_and_four_climb(
    net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("turning", "crossing"):
        course = getattr(_Task, name)
        monkeypatch.setattr(_Task, name, lambda *of, course=course, name=name: (asked.append(name), course(*of))[1])
    Universal(epochs=10, minibatch=len(data.x), enough=1.0).fit(net, data.x, data.y, "linf(0.001)")
    assert asked == ["turning"] * 6 + ["crossing"] * 4


def test_the_second_course_starts_from_nothing_too(
    net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: dict[str, Tensor] = {}
    for name in ("turning", "crossing"):
        course = getattr(_Task, name)

        def watched(task: _Task, image: Tensor, rows: Tensor, course: Callable = course, name: str = name) -> Tensor:
            starts.setdefault(name, image)
            return course(task, image, rows)

        monkeypatch.setattr(_Task, name, watched)
    small("gradient").fit(net, data.x, data.y, "linf(0.1)")
    assert [bool((start == 0.5).all()) for start in starts.values()] == [True, True]


@every_method
def test_towards_a_class_it_leads_there(method: str, linear: Callable) -> None:
    generator = torch.Generator().manual_seed(3)
    net = linear(torch.randn(4, 16, generator=generator))
    x = 0.4 + 0.2 * torch.rand(40, 1, 4, 4, generator=generator)
    for towards in range(4):
        fitted = small(method, towards=towards).fit(net, x, torch.zeros(40).long(), "linf(0.4)")
        with torch.no_grad():
            assert net((x + fitted.delta).clamp(0, 1)).argmax(1).eq(towards).float().mean() > 0.95


# ---------------------------------------------------------------------------------------------- one, small, and strong


@every_method
@every_threat
def test_it_is_one_for_all_images_and_within_eps(
    threat: str, method: str, net: nn.Module, data: SimpleNamespace, make_data: Callable
) -> None:
    within = THREATS.parse(threat)
    fitted = small(method).fit(net, data.x, data.y, threat)
    delta = fitted.delta
    assert delta.shape == (1, *data.x.shape[1:])
    assert within.distance(delta, torch.zeros_like(delta)) <= within.eps * (1 + 1e-5)
    others = make_data(net, 5, seed=9)
    found = fitted.perturb(Oracle(net, torch.arange(5)), others.x, others.y, within)
    assert torch.allclose(found, (others.x + delta).clamp(0, 1), atol=1e-6)


@every_method
@every_threat
def test_on_held_out_images_it_fools_more_than_random_signs_of_its_size(
    threat: str, method: str, make_net: Callable, make_data: Callable
) -> None:
    net = make_net(seed=2)
    seen, held_out = make_data(net, 64, seed=1), make_data(net, 64, seed=2)
    learned, signs = (
        rate_of(small(m).fit(net, seen.x, seen.y, threat), net, held_out.x, threat) for m in (method, "random_signs")
    )
    assert learned > signs + 0.25


def test_large_images_are_asked_in_portions_and_find_the_same(
    net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = small("gradient").fit(net, data.x, data.y, "l2(1)").delta
    monkeypatch.setattr("sparring.attacks.crafting.CPU_EXAMPLES", 8)
    handle = net.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    portions = small("gradient").fit(net, data.x, data.y, "l2(1)").delta
    handle.remove()
    assert max(asked) == 8
    torch.testing.assert_close(portions, whole, atol=1e-5, rtol=1e-3)


@every_threat
def test_the_control_spends_all_of_eps_on_all_pixels_alike(threat: str, net: nn.Module, data: SimpleNamespace) -> None:
    within = THREATS.parse(threat)
    one, other = (
        Universal(method="random_signs").fit(net, data.x, data.y, threat, seed=seed).delta.flatten(1) for seed in (0, 1)
    )
    assert within.distance(one, torch.zeros_like(one)).item() == pytest.approx(within.eps, rel=1e-5)
    assert one.abs().amax() == pytest.approx(float(one.abs().amin()))
    assert 0 < (one > 0).sum() < one.numel()
    assert not torch.equal(one, other)


def test_the_fooling_rate_is_the_share_of_predictions_changed_whatever_the_labels() -> None:
    before = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    after = torch.tensor([[9.0, 1.0], [0.0, 1.0], [0.0, 7.0], [0.0, 1.0]])
    assert fooling_rate(before, after) == 0.25
    assert fooling_rate(before, before) == 0.0


# ------------------------------------------------------------------------------------------------------------ fitting


@every_method
def test_labels_play_no_part_and_the_seed_does(method: str, net: nn.Module, data: SimpleNamespace) -> None:
    attack = small(method, minibatch=3)
    one = attack.fit(net, data.x, data.y, "linf(0.1)", seed=4).delta
    torch.rand(3)  # whatever the global state is
    assert torch.equal(one, attack.fit(net, data.x, data.wrong, "linf(0.1)", seed=4).delta)
    assert not torch.equal(one, attack.fit(net, data.x, data.y, "linf(0.1)", seed=5).delta)


def state(net: nn.Module) -> list[object]:
    return [
        {name: value.clone() for name, value in net.state_dict().items()},
        [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in net.parameters()],
        [m.training for m in net.modules()],
        torch.get_rng_state(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002  # the global state is what must not move
        random.getstate(),
    ]


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.mark.parametrize("method", [*METHODS, "random_signs"])
@pytest.mark.parametrize("fails", [False, True])
def test_fitting_leaves_no_trace(fails: bool, method: str, net: nn.Module, data: SimpleNamespace) -> None:
    net.train()
    net[0].eval()
    first = next(net.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    if fails:
        calls = []
        net.register_forward_pre_hook(lambda *_: calls.append(1) or (1 / 0 if len(calls) == 1 else None))
    before, images = state(net), data.x.clone()
    with pytest.raises(ZeroDivisionError) if fails else torch.enable_grad():
        small(method).fit(net, data.x, data.y, "linf(0.1)")
    assert same(before, state(net))
    assert torch.equal(images, data.x)


def test_batch_norm_in_train_mode_changes_nothing(net: nn.Module, data: SimpleNamespace) -> None:
    one, other = (
        small("gradient").fit(copy.deepcopy(net).train(mode), data.x, data.y, "linf(0.1)").delta
        for mode in (True, False)
    )
    assert torch.equal(one, other)


def test_it_learns_from_no_more_examples_than_it_may(net: nn.Module, make_data: Callable) -> None:
    data, sizes = make_data(net, 40), []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    Universal(epochs=2, minibatch=4, examples=10).fit(net, data.x, data.y, "linf(0.1)")
    assert sizes == [10, *(2 * [4, 4, 2])]  # once clean; twice two minibatches, and those held out to count the fooled


def test_the_round_is_kept_that_fools_most_of_those_held_out(
    net: nn.Module, make_data: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def rate(_: object, image: Tensor, *, held_out: bool) -> float:
        assert held_out
        seen.append(image)
        return (0.2, 0.9, 0.3, 0.1)[len(seen) - 1]

    monkeypatch.setattr(_Task, "fooling_rate", rate)
    data = make_data(net, 20)
    fitted = small("gradient").fit(net, data.x, data.y, "linf(0.1)")
    assert torch.equal(fitted.delta, 2 * seen[1] - 1)
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize("count", [1, 4, 5])
def test_of_few_images_all_are_fitted_on_or_one_is_held_out(count: int, net: nn.Module, make_data: Callable) -> None:
    data, seen = make_data(net, count), []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    Universal(epochs=1).fit(net, data.x, data.y, "linf(0.1)")
    fitted_on, judged_on = seen[1:]
    assert (len(fitted_on), len(judged_on)) == ((4, 1) if count == 5 else (count, count))
    if count == 5:
        assert not any(torch.equal(x, fitted_on[place]) for x in judged_on for place in range(4))


def test_a_bad_image_is_named_by_its_place_among_those_given(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 20)
    data.x[3, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"x\[3\] has pixels outside \[0, 1\] \(NaN\)"):
        Universal().fit(net, data.x, data.y, "linf(0.1)")


def test_units_and_offset_of_the_logits_change_nothing(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 40)

    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = net(x)
            return 64 * z + 32

    one, other = (small("gradient").fit(of, data.x, data.y, "linf(0.1)").delta for of in (net, Other()))
    assert float((one - other).abs().mean()) < 0.001


def test_those_held_out_alone_do_not_end_it(
    net: nn.Module, make_data: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def rate(_: object, image: Tensor, *, held_out: bool = False) -> float:
        asked.append(held_out)
        return 0.9 if held_out or len(asked) > 4 else 0.2  # of all images, from the third epoch on

    monkeypatch.setattr(_Task, "fooling_rate", rate)
    data = make_data(net, 20)
    small("gradient", enough=0.5).fit(net, data.x, data.y, "linf(0.1)")
    assert asked == 3 * [True, False]


def test_the_fooling_rate_is_of_all_images_or_of_those_held_out(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 20)
    task = _Task.of(net, data.x, THREATS.parse("linf(0.9)"), 0, None)
    image = task.random_signs()
    fooled = net((data.x + 2 * image - 1).clamp(0, 1)).argmax(1) != net(data.x).argmax(1)
    assert task.fitting == 16
    assert task.fooling_rate(image) == pytest.approx(float(fooled.double().mean()))
    assert task.fooling_rate(image, held_out=True) == pytest.approx(float(fooled[16:].double().mean()))


def test_it_ends_when_enough_are_fooled(net: nn.Module, make_data: Callable) -> None:
    data, sizes = make_data(net, 16), []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    attack = Universal(epochs=5, minibatch=16, enough=0.3)
    fitted = attack.fit(net, data.x, data.y, "linf(0.9)")
    assert len(sizes) < 1 + 2 * 5
    assert rate_of(fitted, net, data.x, "linf(0.9)") >= 0.3


@every_method
def test_fitting_keeps_the_best_of_all_epochs(method: str, net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 32)
    rates = [
        rate_of(
            small(method, epochs=5, enough=enough, minibatch=8).fit(net, data.x, data.y, "linf(0.1)"),
            net,
            data.x,
            "linf(0.1)",
        )
        for enough in (0.01, 1.0)
    ]
    assert rates[1] >= rates[0] > 0


def test_images_as_bytes_are_the_same_images(net: nn.Module, data: SimpleNamespace) -> None:
    pixels = (data.x * 255).round().to(torch.uint8)
    one, other = (small("gradient").fit(net, x, data.y, "linf(0.1)").delta for x in (pixels, pixels.float() / 255))
    assert torch.equal(one, other)


def test_nothing_to_climb_is_no_accident(linear: Callable) -> None:
    net, x = linear(torch.zeros(3, 4)), torch.rand(6, 1, 2, 2)
    for method in METHODS:
        fitted = small(method).fit(net, x, torch.zeros(6).long(), "l2(0.5)")
        assert bool(fitted.delta.isfinite().all())


# ------------------------------------------------------------------------------------------------ fitted and unfitted


def test_unfitted_it_says_so_and_so_it_does_of_other_images(
    net: nn.Module, data: SimpleNamespace, make_net: Callable, make_data: Callable
) -> None:
    with pytest.raises(InputError, match="universal: fit it first"):
        run("universal()", net, data.x, data.y, "linf(0.1)")
    fitted = small("gradient").fit(net, data.x, data.y, "linf(0.1)")
    large = make_net(shape=(1, 9, 9))
    others = make_data(large, shape=(1, 9, 9))
    with pytest.raises(InputError, match=r"fitted to images \(1, 6, 6\), not \(1, 9, 9\)"):
        run(fitted, large, others.x, others.y, "linf(0.1)")


def test_what_was_fitted_is_no_part_of_the_call_string(net: nn.Module, data: SimpleNamespace) -> None:
    attack = small("gradient", towards=2)
    fitted = attack.fit(net, data.x, data.y, "linf(0.1)")
    assert attack.delta is None
    assert fitted == attack == ATTACKS.parse(repr(fitted))
    assert hash(fitted) == hash(attack)
    with pytest.raises(InputError, match="unknown argument 'delta'"):
        ATTACKS.parse("universal(delta=none)")


def test_at_another_eps_the_same_perturbation_is_held_to_it(net: nn.Module, data: SimpleNamespace) -> None:
    fitted = small("gradient").fit(net, data.x, data.y, "linf(0.2)")
    for eps in (0.05, 0.4):
        found = run(fitted, net, data.x, data.y, f"linf({eps})")
        assert torch.allclose(found.x, (data.x + fitted.delta.clamp(-eps, eps)).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        "universal(epochs=0)",
        "universal(minibatch=0)",
        "universal(examples=0)",
        "universal(rel_step_size=0)",
        "universal(rel_step_size=inf)",
        "universal(enough=0)",
        "universal(enough=1.1)",
    ],
)
def test_settings_that_can_learn_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="universal: "):
        ATTACKS.parse(spec)


def test_bad_examples_are_refused(net: nn.Module, data: SimpleNamespace) -> None:
    with pytest.raises(InputError, match="8 images and 3 labels"):
        small("gradient").fit(net, data.x, data.y[:3], "linf(0.1)")
    with pytest.raises(InputError, match="outside"):
        small("gradient").fit(net, data.x * 255, data.y, "linf(0.1)")
    with pytest.raises(InputError, match="towards"):
        small("gradient", towards=9).fit(net, data.x, data.y, "linf(0.1)")


def test_of_a_random_model_a_minibatch_takes_one_draw_an_image(net: nn.Module, data: SimpleNamespace) -> None:
    class Noisy(nn.Module):
        adaptive = frozenset({"eot"})
        images = 0

        def forward(self, x: Tensor) -> Tensor:
            Noisy.images += len(x)
            return x + 0.1 * torch.randn_like(x)

    count, epochs = len(data.x), 3
    fitted = Universal(epochs=epochs, minibatch=8).fit(nn.Sequential(Noisy(), net), data.x, data.y, "linf(0.3)")
    assert fitted.fitted
    assert Noisy.images <= EOT_DRAWS * count + epochs * 2 * count  # what it says of the images; gradients and rates
