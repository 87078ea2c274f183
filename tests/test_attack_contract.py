"""Every attack in the catalogue, under every norm: in ball and box, no trace left, seeded, honestly counted."""

import copy
import importlib
import inspect
import math
import pkgutil
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparring.attacks
from sparring import Adversarial
from sparring.attacks import ATTACKS, Attack, Crafting, Oracle, prepared
from sparring.attacks.losses import cross_entropy, dlr, log_odds, margin, succeeded
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.threat import THREATS
from sparring.models.perturber import Perturber, PerturberNetwork

SMALL = {
    "pgd": "pgd(steps=4, restarts=2)",
    "apgd": "apgd(steps=8)",
    "fab": "fab(steps=6)",
    "square": "square(queries=40)",
    "cw": "cw(steps=20, search_steps=3)",
    "autoattack": "autoattack(steps=6, queries=20)",
    "targeted": "targeted(steps=8)",
    "hopskipjump": "hopskipjump(steps=3, evaluations=8)",
    "transfer": "transfer(surrogate='twin', attack=mifgsm(steps=4))",
    "universal": "universal(epochs=3, minibatch=8)",
    "learned": "learned(run='game')",
}  # where the defaults are slow; every other attack runs with its defaults
EXTRA = (
    'targeted(steps=5, restarts=2, towards="least_likely")',
    'universal(method="deepfool", epochs=1, minibatch=8)',
    'universal(method="random_signs")',
    "transfer(surrogate='twin', attack=universal(epochs=1))",
    'pgd(steps=4, restarts=3, loss="margin")',
    'pgd(steps=4, loss="dlr", momentum=0.9, random_start=False)',
    'pgd(steps=4, restarts=2, loss="kl")',
    "uniform_noise(draws=4)",
    'apgd(steps=6, loss="targeted_dlr", targets=3, restarts=2)',
    "fab(steps=5, targets=3)",
    "learned(run='gradient')",
)
SPECS = (*(SMALL.get(attack.name, f"{attack.name}()") for attack in ATTACKS), *EXTRA)
GRADIENT_FREE = ("uniform_noise", "square", "hopskipjump")
AT_SIGHT = ("universal", "learned")  # what perturbs by what it has learnt, whatever the model or the target
BOUNDS = {"linf": (0.0, 0.02, 0.9, math.inf), "l2": (0.0, 0.1, 4.0, math.inf), "l1": (0.0, 0.3, 20.0, math.inf)}
THREAT_SPECS = [f"{norm}({eps})" for norm, bounds in BOUNDS.items() for eps in bounds]
MIDDLE = ("linf(0.1)", "l2(0.7)", "l1(3)")  # where each attack of the net succeeds on some examples only


def attacks_in(spec: str, threat: str) -> bool:
    return threat.partition("(")[0] in ATTACKS.parse(spec).norms


def pairs(threats: Sequence[str]) -> list[tuple[str, str]]:
    return [(spec, threat) for spec in SPECS for threat in threats if attacks_in(spec, threat)]


def usual(spec: str) -> str:
    """Give a threat under which this attack works on the net of these tests."""
    return next(threat for threat in MIDDLE if attacks_in(spec, threat))


def ready(attack: Attack | str, model: nn.Module, x: Tensor, threat: object) -> Attack:
    """Fit what learns on images of its own, and give a transfer a twin of the model as its surrogate."""
    twin = copy.deepcopy(model)
    noise = torch.rand(24, *x.shape[1:], generator=torch.Generator().manual_seed(2)).to(x.dtype)

    def perturber(run: str) -> PerturberNetwork:
        with seeded(0):
            sees = "gradient" if run == "gradient" else "image"
            return Perturber(hidden=(24,), sees=sees).build(tuple(x.shape[1:])).to(x.dtype).eval()

    return prepared(
        ATTACKS.parse(attack),
        twin,
        threat,
        examples=lambda: (noise, torch.zeros(24).long()),
        load=lambda _: twin,
        load_perturber=perturber,
    )


def run(
    attack: Attack | str, model: nn.Module, x: Tensor, y: Tensor, threat: object, **settings: object
) -> Adversarial:
    return sparring.run(ready(attack, model, x, threat), model, x, y, threat, **settings)


def craft(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: object, **settings: object) -> Tensor:
    return sparring.attacks.craft(ready(attack, model, x, threat), model, x, y, threat, **settings)


every_attack = pytest.mark.parametrize("spec", SPECS)
every_attack_and_threat = pytest.mark.parametrize(("spec", "threat"), pairs(THREAT_SPECS))
every_attack_and_norm = pytest.mark.parametrize(("spec", "threat"), pairs(MIDDLE))


class BoomError(Exception):
    """What a model may throw."""


class Counting(nn.Module):
    """Passes images on and counts its rows; throws at call number `fail_at`."""

    def __init__(self, net: nn.Module, fail_at: int = 0) -> None:
        super().__init__()
        self.net, self.fail_at = net, fail_at
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        if len(self.batches) == self.fail_at:
            raise BoomError
        return self.net(x)


class Shifted(nn.Module):
    """Another network's logits, permuted and shifted."""

    def __init__(self, net: nn.Module, *, by: float = 0.0, order: Tensor | None = None) -> None:
        super().__init__()
        self.net, self.by, self.order = net, by, order

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x) + self.by
        return logits if self.order is None else logits[:, self.order]


def length(delta: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(delta.double().flatten(1), ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)


def slack(norm: str, eps: float, pixels: int) -> float:
    """Give 1e-6 of eps, and half a step of float32 just below 1 for each pixel; at eps 0 nothing may move."""
    if eps in (0.0, math.inf):
        return 0.0
    return 1e-6 * eps + 2.0**-25 * pixels ** {"linf": 0, "l2": 0.5, "l1": 1}[norm]


# ------------------------------------------------------------------------------------------- ball, box, shape, type


@every_attack_and_threat
def test_images_are_in_the_ball_and_in_the_box_with_shape_and_type_kept(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(spec, net, data.x, data.y, threat)
    within = THREATS.parse(threat)
    assert found.x.shape == data.x.shape
    assert found.x.dtype == data.x.dtype
    assert bool(((found.x >= 0) & (found.x <= 1)).all())
    moved = length(found.x.double() - data.x.double(), within.name)
    assert moved.max() <= within.eps + slack(within.name, within.eps, data.x[0].numel())
    assert torch.allclose(found.distance.double(), moved, rtol=1e-5, atol=1e-6)


@every_attack
def test_an_eps_of_zero_changes_no_bit(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    for norm in ATTACKS.parse(spec).norms:
        found = run(spec, net, data.x, data.y, f"{norm}(0)")
        assert torch.equal(found.x, data.x)
        assert not found.success.any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5)])
@every_attack_and_norm
def test_any_image_shape_will_do(
    spec: str, threat: str, shape: tuple[int, int, int], make_net: Callable, make_data: Callable
) -> None:
    net = make_net(shape=shape)
    data = make_data(net, 3, shape=shape)
    found = run(spec, net, data.x, data.y, threat)
    assert found.x.shape == data.x.shape
    within = THREATS.parse(threat)
    assert found.distance.max() <= within.eps + 1e-5


@every_attack_and_norm
def test_double_precision_images_stay_double(spec: str, threat: str, net: nn.Module, data: SimpleNamespace) -> None:
    found = run(spec, net.double(), data.x.double(), data.y, threat)
    assert found.x.dtype == torch.float64
    within = THREATS.parse(threat)
    assert length(found.x - data.x.double(), within.name).max() <= within.eps * (1 + 1e-6)


# --------------------------------------------------------------------------------------------------- nothing is left


def traces(model: nn.Module) -> dict[str, object]:
    """Give all that an attack could leave behind on a model and in the world."""
    hooks = {
        f"{name}.{key}": len(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if "hook" in key and isinstance(value, dict)
    }
    return {
        "grads": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: m.training for n, m in model.named_modules()},
        "state": {n: t.clone() for n, t in model.state_dict().items()},
        "momentum": {n: m.momentum for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._NormBase)},
        "hooks": hooks,
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002  # the global state is what must not move
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same(before: object, after: object, where: str = "") -> None:
    if isinstance(before, dict):
        assert before.keys() == after.keys(), where
        for key in before:
            assert_same(before[key], after[key], f"{where}/{key}")
    elif isinstance(before, tuple) and not isinstance(before[0], int):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            assert_same(one, other, f"{where}/{i}")
    elif isinstance(before, Tensor | np.ndarray):
        assert np.array_equal(np.asarray(before), np.asarray(after)), where
    else:
        assert before == after, where


def untidy(net: nn.Module) -> nn.Module:
    """Put a network into a state that is easily lost: mixed modes, some gradients, a frozen parameter, a hook."""
    net.train()
    norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eval()
    parameters = list(net.parameters())
    parameters[0].grad = torch.full_like(parameters[0], 0.1)
    parameters[1].requires_grad_(False)
    next(m for m in net.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(lambda *_: None)
    return net


@every_attack_and_norm
def test_run_leaves_no_trace_on_the_model_and_the_global_random_states(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    before = traces(untidy(net))
    run(spec, net, data.x, data.y, threat, batch_size=5)
    assert_same(before, traces(net))


@pytest.mark.parametrize("statistics", ["eval", "train"])
@every_attack_and_norm
def test_craft_leaves_no_trace_on_the_model_and_the_global_random_states(
    spec: str, threat: str, statistics: str, make_net: Callable, data: SimpleNamespace
) -> None:
    net = make_net(dropout=0.0)
    before = traces(untidy(net))
    craft(ATTACKS.parse(spec), net, data.x, data.y, THREATS.parse(threat), seed=0, statistics=statistics)
    assert_same(before, traces(net))


@pytest.mark.parametrize("statistics", ["eval", "train"])
def test_craft_draws_nothing_from_the_global_random_state_where_a_net_has_dropout(
    statistics: str, net: nn.Module, data: SimpleNamespace
) -> None:
    before = torch.get_rng_state()
    attack, threat = ATTACKS.parse("fgsm()"), THREATS.parse("linf(0.1)")
    one, other = (craft(attack, net, data.x, data.y, threat, seed=0, statistics=statistics) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, other)


@pytest.mark.parametrize("momentum", [0.1, None])
@every_attack
def test_craft_with_the_batchs_statistics_moves_no_running_ones(
    spec: str, momentum: float | None, make_net: Callable, make_data: Callable
) -> None:
    net = make_net(dropout=0.0)
    data = make_data(net)
    net[1].momentum = momentum
    before = traces(net.train())
    craft(ATTACKS.parse(spec), net, data.x, data.y, THREATS.parse(usual(spec)), seed=0, statistics="train")
    assert_same(before, traces(net))


def test_craft_with_the_batchs_statistics_moves_no_running_ones_even_when_activations_overflow(
    make_net: Callable, make_data: Callable
) -> None:
    net = make_net(dropout=0.0)
    data = make_data(net)
    with torch.no_grad():
        net[0].weight.fill_(3e38)
    before = traces(net)
    craft(ATTACKS.parse("fgsm()"), net, data.x, data.y, THREATS.parse("linf(0.1)"), seed=0, statistics="train")
    assert_same(before, traces(net))


def test_craft_with_the_batchs_statistics_moves_no_instance_norm_either() -> None:
    net = nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), nn.Flatten(), nn.Linear(36, 3))
    x = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    before = traces(net)
    craft(
        ATTACKS.parse("fgsm()"),
        net,
        x,
        torch.tensor([0, 1, 2, 0]),
        THREATS.parse("linf(0.1)"),
        seed=0,
        statistics="train",
    )
    assert_same(before, traces(net))


def test_craft_with_the_batchs_statistics_really_uses_them(make_net: Callable, make_data: Callable) -> None:
    net = make_net(dropout=0.0)
    data = make_data(net)
    threat = THREATS.parse("linf(0.1)")
    crafted = {
        mode: craft(ATTACKS.parse("fgsm()"), net, data.x, data.y, threat, seed=0, statistics=mode)
        for mode in ("eval", "train")
    }
    assert not torch.equal(crafted["eval"], crafted["train"])
    for mode, images in crafted.items():
        twin = make_net(dropout=0.0).train(mode == "train")
        x = data.x.clone().requires_grad_()
        nn.functional.cross_entropy(twin(x), data.y, reduction="sum").backward()
        assert torch.allclose(images, (data.x + 0.1 * x.grad.sign()).clamp(0, 1), atol=1e-6)


def test_craft_changes_the_examples_that_are_already_wrong_too(net: nn.Module, data: SimpleNamespace) -> None:
    x_adv = craft(ATTACKS.parse("pgd(steps=3)"), net, data.x, data.wrong, THREATS.parse("linf(0.1)"), seed=0)
    assert bool(((x_adv - data.x).flatten(1).abs().amax(1) > 0.05).all())


def test_crafted_images_carry_no_graph(net: nn.Module, data: SimpleNamespace) -> None:
    for attack in map(ATTACKS.parse, SPECS):
        threat = THREATS.parse("l2(0.5)" if "l2" in attack.norms else "linf(0.1)")
        assert not craft(attack, net, data.x, data.y, threat, seed=0).requires_grad


@every_attack
def test_a_model_that_throws_in_the_middle_is_restored(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    for fail_at in (1, 2):
        model = Counting(untidy(net), fail_at)
        before = traces(model)
        with pytest.raises(BoomError):
            run(spec, model, data.x, data.y, usual(spec))
        assert_same(before, traces(model))


def test_a_model_that_throws_while_training_images_are_made_is_restored(
    make_net: Callable, data: SimpleNamespace
) -> None:
    model = Counting(untidy(make_net(dropout=0.0)), fail_at=3)
    before = traces(model)
    with pytest.raises(BoomError):
        craft(ATTACKS.parse("pgd()"), model, data.x, data.y, THREATS.parse("linf(0.1)"), seed=0, statistics="train")
    assert_same(before, traces(model))


@every_attack_and_norm
def test_images_and_labels_that_were_handed_over_are_not_written_to(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    ids = torch.arange(len(data.x))
    given = (data.x, data.y, data.wrong, ids)
    copies, versions = [t.clone() for t in given], [t._version for t in given]
    found = run(spec, net, data.x, data.y, threat, ids=ids)
    run(spec, net, data.x, data.y, threat, target=data.wrong, ids=ids)
    craft(ATTACKS.parse(spec), net, data.x, data.y, THREATS.parse(threat), seed=0)
    assert all(torch.equal(t, c) for t, c in zip(given, copies, strict=True))
    assert [t._version for t in given] == versions
    found.x.zero_()  # and what came back is not a view of what was given
    assert torch.equal(data.x, copies[0])


@every_attack
def test_images_that_want_a_gradient_get_none_and_results_carry_no_graph(
    spec: str, net: nn.Module, data: SimpleNamespace
) -> None:
    x = data.x.clone().requires_grad_()
    found = run(spec, net, x, data.y, usual(spec))
    assert x.grad is None
    assert x.requires_grad
    assert not any(value.requires_grad for value in vars(found).values())
    assert torch.equal(found.x, run(spec, net, data.x, data.y, usual(spec)).x)


@every_attack
def test_attacks_work_where_gradients_are_switched_off(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    expected = run(spec, net, data.x, data.y, usual(spec))
    with torch.no_grad():
        found = run(spec, net, data.x, data.y, usual(spec))
    assert torch.equal(found.x, expected.x)


# ---------------------------------------------------------------------------------------------- seeds and batch-mates


@every_attack_and_norm
def test_the_same_seed_gives_the_same_bits(spec: str, threat: str, net: nn.Module, data: SimpleNamespace) -> None:
    one = run(spec, net, data.x, data.y, threat, seed=3)
    torch.rand(5)  # whatever the global state is
    net.train()
    other = run(spec, net, data.x, data.y, threat, seed=3)
    for name, value in vars(one).items():
        assert torch.equal(value, vars(other)[name]), name


@every_attack_and_norm
def test_another_seed_gives_other_images_where_the_attack_draws_noise(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    honest = Oracle.uniform
    monkeypatch.setattr(Oracle, "uniform", lambda self, *shape: calls.append(shape) or honest(self, *shape))
    one = run(spec, net, data.x, data.y, threat, seed=1)
    other = run(spec, net, data.x, data.y, threat, seed=2)
    assert torch.equal(one.x, other.x) != bool(calls)


def assert_alike(found: Adversarial, whole: Adversarial, rows: Tensor) -> None:
    assert torch.equal(found.success, whole.success[rows])
    assert torch.equal(found.skipped, whole.skipped[rows])
    assert torch.equal(found.forwards, whole.forwards[rows])
    assert torch.equal(found.backwards, whole.backwards[rows])
    assert torch.allclose(found.x, whole.x[rows], atol=1e-5, rtol=0)
    assert torch.allclose(found.logits, whole.logits[rows], atol=1e-4, rtol=1e-5)


@every_attack_and_norm
def test_batch_size_and_batch_mates_and_their_order_change_nothing(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    ids = torch.arange(len(data.x)) * 7 + 100
    y = torch.where(torch.arange(len(data.x)) % 4 == 3, data.wrong, data.y)
    whole = run(spec, net, data.x, y, threat, ids=ids, seed=5)
    for batch_size in (1, 3):
        assert_alike(run(spec, net, data.x, y, threat, ids=ids, seed=5, batch_size=batch_size), whole, torch.arange(8))
    for rows in (torch.tensor([6, 2, 7, 0, 5, 1, 4, 3]), torch.tensor([5]), torch.tensor([1, 6, 7])):
        assert_alike(run(spec, net, data.x[rows], y[rows], threat, ids=ids[rows], seed=5), whole, rows)


# -------------------------------------------------------------------------------------------------- skips and counts


@every_attack_and_norm
def test_what_is_already_wrong_is_left_alone_at_no_cost(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    wrong = torch.tensor([1, 4, 5])
    y = data.y.clone()
    y[wrong] = data.wrong[wrong]
    found = run(spec, net, data.x, y, threat)
    assert found.skipped.nonzero().squeeze(1).tolist() == wrong.tolist()
    assert found.success[wrong].all()
    assert torch.equal(found.x[wrong], data.x[wrong])
    for cost in (found.distance, found.forwards, found.backwards):
        assert not cost[wrong].any()
    everything = run(spec, net, data.x, data.wrong, threat)
    assert everything.skipped.all()
    assert torch.equal(everything.x, data.x)


@every_attack_and_norm
def test_the_ledger_counts_every_row_that_the_model_saw(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    y = torch.where(torch.arange(len(data.x)) % 4 == 3, data.wrong, data.y)
    model = Counting(net)
    found = run(spec, model, data.x, y, threat, batch_size=5)
    judged = len(data.x) + int((~found.skipped).sum())  # once clean, and once more what was attacked
    assert sum(model.batches) == int(found.forwards.sum()) + judged


def stubborn(linear: Callable) -> tuple[nn.Module, Tensor, Tensor]:
    """Three examples that cannot be fooled, however hard one tries."""
    weight = torch.zeros(3, 4)
    weight[1] += 0.1
    return linear(weight, torch.tensor([100.0, 0.0, -1.0])), torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()


@pytest.mark.parametrize(
    ("spec", "forwards", "backwards"),
    [
        ("fgsm()", 1, 1),
        ("uniform_noise()", 0, 0),
        ("uniform_noise(draws=3)", 3, 0),
        ("mifgsm(steps=7)", 8, 7),
        ("targeted(steps=7)", 1 + 8, 7),  # a forward to choose the target
        ("targeted(steps=7, restarts=2)", 18, 14),
        ("hopskipjump()", 100, 0),  # random images, of which none fools
        ("transfer(surrogate='twin', attack=pgd())", 0, 0),
        ("universal(epochs=1)", 0, 0),
        ("learned(run='game')", 0, 0),
        ("learned(run='gradient')", 1, 1),
        ("pgd(steps=7)", 8, 7),
        ("pgd(steps=7, restarts=3)", 24, 21),
        ('pgd(steps=7, loss="margin")', 8, 7),
        ('pgd(steps=7, restarts=3, loss="margin")', 24 + 2, 21),  # a forward to choose each later restart's class
        ('pgd(steps=7, restarts=2, loss="dlr")', 16, 14),
    ],
)
def test_the_full_course_costs_exactly(spec: str, forwards: int, backwards: int, linear: Callable) -> None:
    found = run(spec, *stubborn(linear), usual(spec))
    assert not found.success.any()
    assert found.forwards.tolist() == [forwards] * 3
    assert found.backwards.tolist() == [backwards] * 3


class Lead(nn.Module):
    """Two classes: the sum of the left pixels, against a lead of class 0 that the right pixel gives in full numbers."""

    def forward(self, x: Tensor) -> Tensor:
        lead = x[:, 0, 0, -1].detach() * 100  # no gradient, so no attack moves it
        return torch.stack([lead, x[:, 0, 0, :-1].sum(1)], dim=1)


def test_pgd_stops_paying_for_an_example_at_its_first_success() -> None:
    x = torch.zeros(4, 1, 1, 5)  # each step moves four pixels by 0.1, and so class 1 up by 0.4
    x[:, 0, 0, -1] = torch.tensor([0.002, 0.010, 0.014, 0.5])  # fooled after 1, 3 and 4 steps, and never
    model = Counting(Lead())
    spec = "pgd(steps=6, rel_step_size=0.1, random_start=False)"
    found = run(spec, model, x, torch.zeros(4).long(), "linf(1)")
    assert found.success.tolist() == [True, True, True, False]
    assert found.backwards.tolist() == [2, 4, 5, 6]  # what a step gave is judged by the next gradient's forward
    assert found.forwards.tolist() == [2, 4, 5, 7]
    assert model.batches == [4, 4, 4, 3, 3, 2, 1, 1, 4]  # clean, six gradients, the last image, the judge


@pytest.mark.parametrize("most", [1, 4, 30])
@every_attack_and_norm
def test_a_budget_of_passes_is_never_overdrawn_and_costs_nothing_else(
    spec: str, threat: str, most: int, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(spec, net, data.x, data.y, threat, crafting=Crafting(max_forwards=most))
    assert found.forwards.max() <= most
    within = THREATS.parse(threat)
    assert length(found.x - data.x, within.name).max() <= within.eps * (1 + 1e-5)
    with torch.no_grad():
        assert torch.equal(found.success, net(found.x).argmax(1) != data.y)
    whole = run(spec, net, data.x, data.y, threat)
    afforded = whole.forwards.max() <= most
    if afforded:
        assert torch.equal(found.x, whole.x)


# ------------------------------------------------------------------------------------------------ successes are real


@every_attack_and_norm
def test_success_is_what_a_forward_pass_of_ones_own_says(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    y = torch.where(torch.arange(len(data.x)) % 4 == 3, data.wrong, data.y)
    found = run(spec, net.train(), data.x, y, threat)
    with torch.no_grad():
        logits = net.eval()(found.x)
    assert torch.equal(found.success, logits.argmax(1) != y)
    assert torch.allclose(found.logits, logits, atol=1e-5)
    assert found.logits.dtype == torch.float32


@every_attack
def test_success_is_judged_in_float32_under_autocast(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = run(spec, net, data.x, data.y, usual(spec))
    with torch.no_grad():
        logits = net(found.x)
    assert found.x.dtype == torch.float32
    assert torch.equal(found.logits, logits)
    assert torch.equal(found.success, logits.argmax(1) != data.y)


@dataclass(frozen=True, kw_only=True)
class Liar(Attack):
    """Hands back whatever it was given, whether allowed or not."""

    name = "liar"
    source = "nowhere"
    kind = "budget"
    lie: str = "far"

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: object, **_: object) -> Tensor:
        far = {"far": 3.0, "very far": 1e8, "farthest": 1e30, "infinite": math.inf, "nan": math.nan, "below": -3.0}
        return x + far[self.lie]


@pytest.mark.parametrize("lie", ["far", "very far", "farthest", "infinite", "nan", "below"])
@pytest.mark.parametrize("threat", ["linf(0.02)", "l2(0.1)", "l1(0.3)", "l1(20)", "l2(inf)"])
def test_an_attack_that_breaks_the_rules_is_held_to_them(
    lie: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    found = run(Liar(lie=lie), net, data.x, data.y, threat)
    within = THREATS.parse(threat)
    assert not found.x.isnan().any()
    assert bool(((found.x >= 0) & (found.x <= 1)).all())
    assert length(found.x - data.x, within.name).max() <= within.eps + 1e-5
    with torch.no_grad():
        assert torch.equal(found.success, net(found.x).argmax(1) != data.y)


@dataclass(frozen=True, kw_only=True)
class Gives(Attack):
    """An attack of one's own, with a fault."""

    name = "gives"
    source = "nowhere"
    kind = "budget"
    what: str

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: object, **_: object) -> Any:
        gives = {"nothing": None, "a pixel": x[:1, :1, :1, :1], "flat": x.flatten(1), "half": x.half()}
        return gives[self.what]


@pytest.mark.parametrize("crafted", [False, True])
@pytest.mark.parametrize(
    ("what", "says"),
    [("nothing", "NoneType"), ("a pixel", r"float32 \(1, 1, 1, 1\)"), ("flat", r"float32 \("), ("half", "float16")],
)
def test_an_attack_that_gives_no_images_like_those_it_got_is_refused(
    what: str, says: str, crafted: bool, net: nn.Module, data: SimpleNamespace
) -> None:
    """One pixel was stretched over all images, and the result counted as one that did not fool."""
    attack, within = Gives(what=what), THREATS.parse("linf(0.1)")
    with pytest.raises(InputError, match=rf"^gives: perturb returned {says}.*let it return images float32 \("):
        craft(attack, net, data.x, data.y, within, seed=0) if crafted else run(attack, net, data.x, data.y, within)


def test_how_many_images_an_attack_spoilt_is_said_once(
    net: nn.Module, data: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    right = int((~run("fgsm()", net, data.x, data.y, "linf(0.1)").skipped).sum())
    assert not caplog.messages
    found = run(Liar(lie="nan"), net, data.x, data.y, "linf(0.1)", batch_size=2)
    assert torch.equal(found.spoilt, ~found.skipped)
    assert [m.split(";")[0] for m in caplog.messages] == [
        f"liar: NaN or inf in {right} of its images (of {len(data.x)} examples)"
    ]


def test_a_model_that_breaks_down_is_not_right() -> None:
    logits = torch.tensor([[math.nan, 1.0], [2.0, math.nan], [2.0, 1.0]])
    assert succeeded(logits, torch.tensor([0, 0, 0])).tolist() == [True, True, False]
    assert succeeded(logits, torch.tensor([1, 1, 1]), torch.tensor([0, 0, 0])).tolist() == [False, False, True]


# ----------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("spec", "threat"), [pair for pair in pairs(MIDDLE) if not any(name in pair[0] for name in AT_SIGHT)]
)
def test_a_target_within_easy_reach_is_reached(spec: str, threat: str, linear: Callable) -> None:
    # every grey value above 0 makes class 2 win over class 0, and class 1 never does
    net = linear(torch.tensor([[0.0] * 4, [0.0] * 4, [1.0] * 4]), torch.tensor([1e-4, 0.0, 0.0]))
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(3).long()
    found = run(spec, net, x, y, threat, target=torch.full((3,), 2))
    assert found.success.all()
    assert found.logits.argmax(1).tolist() == [2, 2, 2]
    missed = run(spec, net, x, y, threat, target=torch.ones(3).long())
    assert not missed.success.any()


@every_attack_and_norm
def test_success_with_a_target_means_the_target(spec: str, threat: str, net: nn.Module, data: SimpleNamespace) -> None:
    target = (data.y + 1) % 5
    found = run(spec, net, data.x, data.y, threat, target=target)
    assert torch.equal(found.success, found.logits.argmax(1) == target)
    there = run(spec, net, data.x, data.wrong, threat, target=data.y)  # already classified as the target
    assert there.skipped.all()
    assert there.success.all()
    assert not there.distance.any()


# -------------------------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("by", [3.0, -100.0])
@every_attack_and_norm
def test_a_constant_added_to_all_logits_changes_nothing(
    spec: str, threat: str, by: float, net: nn.Module, data: SimpleNamespace
) -> None:
    found, shifted = (run(spec, model, data.x, data.y, threat) for model in (net, Shifted(net, by=by)))
    assert torch.equal(found.success, shifted.success)
    assert torch.equal(found.forwards, shifted.forwards)
    assert torch.allclose(found.x, shifted.x, atol=1e-4)


@every_attack_and_norm
def test_renaming_the_classes_changes_nothing_else(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace
) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    renamed = order.argsort()  # the class that was k is now renamed[k]
    found = run(spec, net, data.x, data.y, threat)
    other = run(spec, Shifted(net, order=order), data.x, renamed[data.y], threat)
    assert torch.equal(found.success, other.success)
    assert torch.equal(found.forwards, other.forwards)
    assert torch.allclose(found.x, other.x, atol=1e-5)
    assert torch.allclose(found.logits[:, order], other.logits, atol=1e-4)


class Scaled(nn.Module):
    """A network as sure of everything as a distilled one."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.net(x) * self.scale)


MINIMAL = ("deepfool()", "ddn()", "fmn()", "cw()", "fab(steps=20)")


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("spec", MINIMAL)
def test_the_scale_of_the_logits_hides_nothing_from_a_minimal_attack(
    spec: str, target: bool, net: nn.Module, data: SimpleNamespace
) -> None:
    """At a hundred times the logits DDN's gradients were 0 and it fooled nobody; C&W's images lay half as far again.

    Dividing the logits by a temperature in training, and not after it, is all that defensive distillation does.
    """
    wanted = data.wrong if target else None
    plain, sure, surest = (
        run(spec, Scaled(net, scale), data.x, data.y, "l2(inf)", target=wanted) for scale in (10, 1e3, 1e6)
    )
    assert plain.success.sum() >= len(data.x) - 1
    for found in (sure, surest):
        assert torch.equal(found.success, plain.success)
        assert found.distance.mean() <= 1.05 * plain.distance.mean()


def test_the_log_odds_rise_as_the_cross_entropy_does_along_the_same_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(50, 5, generator=generator), torch.randint(5, (50,), generator=generator)
    for target in (None, (y + 1) % 5):
        sign, wanted = (1, y) if target is None else (-1, target)
        p = logits.softmax(1).gather(1, wanted[:, None]).squeeze(1)
        assert torch.allclose(log_odds(logits, y, target), sign * torch.log((1 - p) / p), atol=1e-5)
        gradients = []
        for loss in (cross_entropy, log_odds):
            at = logits.clone().requires_grad_()
            (grad,) = torch.autograd.grad(loss(at, y, target).sum(), at)
            gradients.append(torch.nn.functional.normalize(grad, dim=1))
        assert torch.allclose(*gradients, atol=1e-5)


def test_the_margin_masks_with_minus_infinity_not_with_zero() -> None:
    logits, y = torch.tensor([[-5.0, -7.0, -9.0]]), torch.tensor([0])
    assert margin(logits, y).item() == -2.0
    assert margin(logits, y, torch.tensor([2])).item() == -4.0
    assert margin(logits + 1000, y).item() == -2.0


def test_the_dlr_loss_is_that_of_the_paper_whatever_the_scale_and_the_shift() -> None:
    logits, y = torch.tensor([[4.0, 1.0, 3.0, -2.0]]), torch.tensor([0])
    assert dlr(logits, y).item() == pytest.approx(-(4 - 3) / (4 - 1))
    assert dlr(logits * 7 - 50, y).item() == pytest.approx(-1 / 3, rel=1e-5)
    assert dlr(logits, y, torch.tensor([1])).item() == pytest.approx(-(4 - 1) / (4 - (1 - 2) / 2))


@pytest.mark.parametrize(
    ("spec", "threat"),
    [
        pair
        for pair in pairs(MIDDLE)
        if not any(name in pair[0] for name in (*AT_SIGHT, "kl")) and not pair[0].startswith(GRADIENT_FREE)
    ],  # "kl" may as well climb to where the model is surer of the same class
)
def test_pixels_at_zero_and_one_move_where_the_gradient_points_inward(spec: str, threat: str, linear: Callable) -> None:
    # the strongest weights, 3 and -3, push pixels out of the box; weights 1 and -1 push the others in
    weight = torch.tensor([[0.0, 0.0, 0.0, 0.0], [-3.0, 1.0, 3.0, -1.0]])
    x = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2).expand(2, 1, 2, 2)
    net = linear(weight, torch.tensor([1e6, 0.0]))  # never fooled, so the attack runs its full course
    attack = ATTACKS.parse(spec)
    close = linear(weight, torch.tensor([2.05, 0.0]))  # class 0 leads a little: minimal attacks have some way to go
    x_adv = craft(attack, close, x, torch.zeros(2).long(), THREATS.parse(threat), seed=0)
    moved = (x_adv - x).flatten(1)
    assert bool((moved[:, 1] - moved[:, 3] > 0).all()), moved
    if "random_start=False" in spec or spec == "fgsm()":
        assert not moved[:, [0, 2]].any()
    assert not run(spec, net, x, torch.zeros(2).long(), threat).success.any()


# --------------------------------------------------------------------------------------------------------- catalogue


def concrete_attacks() -> set[type[Attack]]:
    for module in pkgutil.walk_packages(sparring.attacks.__path__, "sparring.attacks."):
        importlib.import_module(module.name)
    found, queue = set(), [Attack]
    while queue:
        cls = queue.pop()
        queue.extend(cls.__subclasses__())
        if not inspect.isabstract(cls) and cls.__module__.startswith("sparring."):
            found.add(cls)
    return found


def test_every_attack_is_in_the_catalogue() -> None:
    assert concrete_attacks() == set(ATTACKS)


def test_every_name_in_the_catalogue_is_unique() -> None:
    assert max(Counter(attack.name for attack in concrete_attacks()).values()) == 1


@pytest.mark.parametrize("attack", list(ATTACKS), ids=lambda attack: attack.name)
def test_every_attack_says_what_it_is_and_where_it_comes_from(attack: type[Attack]) -> None:
    assert attack.kind in ("budget", "minimal")
    assert attack.source
    assert attack.__doc__
    assert not attack.__doc__.startswith(attack.__name__ + "(")  # a dataclass without a docstring writes its signature
    assert importlib.import_module(attack.__module__).__doc__
    assert attack.__dataclass_params__.frozen


@every_attack
def test_repr_and_str_parse_back_to_an_equal_attack(spec: str) -> None:
    attack = ATTACKS.parse(spec)
    assert ATTACKS.parse(repr(attack)) == attack
    assert ATTACKS.parse(str(attack)) == attack
    assert repr(ATTACKS.parse(repr(attack))) == repr(attack)
    assert hash(ATTACKS.parse(repr(attack))) == hash(attack)


@every_attack
def test_a_call_string_and_its_component_do_the_same(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    said = run(spec, net, data.x, data.y, usual(spec))
    made = run(ATTACKS.parse(spec), net, data.x, data.y, THREATS.parse(usual(spec)))
    assert torch.equal(said.x, made.x)


@every_attack_and_norm
def test_it_finds_on_another_device_what_it_finds_here(
    spec: str, threat: str, net: nn.Module, data: SimpleNamespace, other_device: torch.device
) -> None:
    here = run(spec, net, data.x, data.y, threat)
    there = copy.deepcopy(net).to(other_device)
    attack = ready(spec, there, data.x, threat)
    given = run(attack, there, data.x, data.y, threat)
    assert given.x.device.type == "cpu"
    moved = run(attack, there, data.x.to(other_device), data.y.to(other_device), threat)
    assert moved.x.device == other_device
    for found in (given, moved.to(torch.device("cpu"))):
        assert torch.allclose(found.x, here.x, atol=1e-4)
        assert torch.equal(found.success, here.success)
        assert torch.equal(found.forwards, here.forwards)
