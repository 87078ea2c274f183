"""What is special to AutoAttack: which attacks, in which order, on whom, at what cost."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, Attack, AutoAttack, Crafting, Oracle
from sparring.attacks.losses import succeeded

NORMS = ("linf", "l2", "l1")


@pytest.mark.parametrize(
    ("version", "norm", "expected"),
    [
        ("standard", "linf", ["apgd()", "apgd(loss=targeted_dlr)", "fab(targets=9)", "square(horizon=10000)"]),
        ("standard", "l2", ["apgd()", "apgd(loss=targeted_dlr)", "fab(targets=9)", "square(horizon=10000)"]),
        (
            "standard",
            "l1",
            ["apgd(restarts=5)", "apgd(loss=targeted_dlr, targets=5)", "fab(targets=9)", "square(horizon=10000)"],
        ),
        (
            "plus",
            "linf",
            [
                "apgd(restarts=5)",
                "apgd(restarts=5, loss=dlr)",
                "fab(restarts=5)",
                "square(horizon=10000)",
                "apgd(loss=targeted_dlr)",
                "fab(targets=9)",
            ],
        ),
        ("rand", "linf", ["apgd()", "apgd(loss=dlr)"]),
    ],
)
def test_attacks_order_and_settings_are_the_originals(version: str, norm: str, expected: list[str]) -> None:
    found = ATTACKS.parse(f'autoattack(version="{version}")').attacks(norm)
    assert [str(attack).replace("'", "").replace('"', "") for attack in found] == expected
    for attack in found:  # and what `str` leaves out as default is the original's too
        assert getattr(attack, "steps", 100) == 100
        assert getattr(attack, "queries", 5000) == 5000
        assert getattr(attack, "rho", 0.75) == 0.75
        assert [getattr(attack, name, value) for name, value in (("alpha_max", 0.1), ("eta", 1.05), ("beta", 0.9))] == [
            0.1,
            1.05,
            0.9,
        ]
        assert getattr(attack, "p_init", 0.8) == 0.8


def stubborn(linear: Callable) -> tuple[nn.Module, Tensor, Tensor]:
    weight = torch.zeros(3, 4)
    weight[1] += 0.1
    return linear(weight, torch.tensor([100.0, 0.0, -1.0])), torch.full((3, 1, 2, 2), 0.5), torch.zeros(3).long()


@pytest.mark.parametrize(
    ("version", "draws", "forwards", "backwards"),
    [
        # with three classes: APGD 8 and 7; targeted 2 (1 + 8) + 1 and 14; FAB 2 (1 + 14) + 1 and 14; Square 9; checks 4
        ("standard", 1, 8 + 19 + 31 + 9 + 4, 7 + 14 + 14),
        # APGD 5 times, twice; FAB 5 times, 3 gradients a step; Square 9; targeted as above; checks 6
        ("plus", 1, 40 + 40 + 5 * 15 + 9 + 19 + 31 + 6, 35 + 35 + 105 + 14 + 14),
        ("rand", 1, 20 * (8 + 8) + 2, 20 * 14),
        ("rand", 30, 30 * (8 + 8 + 2), 30 * 14),
        ("standard", 4, 4 * 71, 4 * 35),
    ],
)
def test_the_full_course_costs_exactly(
    version: str, draws: int, forwards: int, backwards: int, linear: Callable
) -> None:
    spec = f'autoattack(version="{version}", steps=7, queries=9)'
    found = run(spec, *stubborn(linear), "linf(0.1)", crafting=Crafting(draws=draws))
    assert not found.success.any()
    assert found.forwards.tolist() == [forwards] * 3
    assert found.backwards.tolist() == [backwards] * 3


def test_fooled_examples_leave_before_the_next_attack(
    net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Tensor]] = []
    attack = AutoAttack(steps=8, queries=60)
    for kind in {type(part) for part in attack.attacks("linf")}:
        honest = kind.perturb

        def watched(
            self: Attack,
            oracle: Oracle,
            x: Tensor,
            *args: object,
            honest: Callable[..., Tensor] = honest,
            **kwargs: object,
        ) -> Tensor:
            seen.append((str(self), x))
            return honest(self, oracle, x, *args, **kwargs)

        monkeypatch.setattr(kind, "perturb", watched)
    found = run(attack, net, data.x, data.y, "linf(0.05)")
    assert [name for name, _ in seen] == [str(part) for part in attack.attacks("linf")]
    sizes = [len(x) for _, x in seen]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 8 > sizes[1]
    for _, x in seen[1:]:
        assert not any(torch.equal(x[i], data.x[j]) for i in range(len(x)) for j in range(8) if found.forwards[j] < 9)


@pytest.mark.parametrize("max_forwards", [None, 60])
def test_what_several_batches_leave_is_attacked_together_to_the_same_end(
    max_forwards: int | None, net: nn.Module, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch's few survivors alone would cost Square as many calls of the model as a full batch."""
    attack, means = AutoAttack(steps=5, queries=30), Crafting(max_forwards=max_forwards)
    calls: list[int] = []
    net.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    together = run(attack, net, data.x, data.y, "linf(0.05)", batch_size=2, crafting=means)
    most, gathered = max(calls), len(calls)
    calls.clear()
    monkeypatch.setattr(AutoAttack, "gathers", 1)
    apart = run(attack, net, data.x, data.y, "linf(0.05)", batch_size=2, crafting=means)
    assert most == 2
    assert gathered < len(calls)
    assert 0 < together.success.sum() < len(data.x)
    assert torch.equal(together.success, apart.success)
    assert torch.allclose(together.x, apart.x, atol=1e-5)
    assert torch.equal(together.forwards, apart.forwards)
    assert torch.equal(together.backwards, apart.backwards)


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("norm", NORMS)
def test_what_any_of_its_attacks_breaks_it_breaks(
    norm: str, version: str, net: nn.Module, data: SimpleNamespace
) -> None:
    threat = {"linf": "linf(0.06)", "l2": "l2(0.3)", "l1": "l1(1)"}[norm]
    attack = AutoAttack(version=version, steps=8, queries=40)
    found = run(attack, net, data.x, data.y, threat)
    first = run(attack.attacks(norm)[0], net, data.x, data.y, threat)
    assert bool((found.success >= first.success).all())
    assert found.success.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_net_so_sure_that_its_cross_entropy_has_no_gradient_gets_the_exact_verdict(
    norm: str, linear: Callable
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 16, generator=generator)
    net = linear(weight * 1e5, -weight.sum(1) / 2 * 1e5)
    x = 0.45 + 0.1 * torch.rand(24, 1, 4, 4, generator=generator)
    with torch.no_grad():
        logits = net(x).double()
    y, rows = logits.argmax(1), torch.arange(24)
    dual = torch.linalg.vector_norm(1e5 * (weight[y][:, None] - weight[None]), ord={"linf": 1, "l2": 2}[norm], dim=2)
    ratio = (logits[rows, y][:, None] - logits) / dual
    ratio[rows, y] = torch.inf
    reach = ratio.amin(1)
    eps = reach.median().item()
    clear = (eps / reach - 1).abs() > 0.02
    threat = f"{norm}({eps})"
    assert not run("apgd()", net, x, y, threat).success[clear & (reach < eps)].all()
    found = run("autoattack(steps=40, queries=20)", net, x, y, threat)
    assert torch.equal(found.success[clear], (reach < eps)[clear])


@pytest.mark.parametrize("classes", [2, 3, 4, 9, 1000])
def test_any_number_of_classes_will_do(classes: int, make_net: Callable, make_data: Callable) -> None:
    net = make_net(classes=classes)
    data = make_data(net, 4)
    for norm, eps in (("linf", 0.5), ("l2", 3.0), ("l1", 15.0)):
        assert run("autoattack(steps=30, queries=20)", net, data.x, data.y, f"{norm}({eps})").success.all()


class Noisy(nn.Module):
    """A random mask in front of a network, that says so."""

    adaptive = frozenset({"eot"})

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.net(x + 0.05 * torch.randn_like(x))


def test_a_random_model_is_attacked_over_20_draws(net: nn.Module, data: SimpleNamespace) -> None:
    model = Noisy(net)
    spec = 'autoattack(version="rand", steps=5)'
    found = run(spec, model, data.x, data.y, "linf(0.02)")
    assert bool((found.forwards % 20 == 0).all())
    again = run(spec, model, data.x, data.y, "linf(0.02)")
    assert torch.equal(found.x, again.x)
    assert found.success.sum() < run(spec, model, data.x, data.y, "linf(0.3)").success.sum() == 8


def test_a_start_is_where_the_first_attack_begins(net: nn.Module, data: SimpleNamespace) -> None:
    threat = "linf(0.1)"
    before = run("autoattack(steps=10, queries=20)", net, data.x, data.y, threat)
    again = run("autoattack(steps=10, queries=20)", net, data.x, data.y, threat, start=before.x)
    assert torch.equal(again.success, before.success)
    fooled = before.success & ~before.skipped
    assert fooled.any()
    assert again.forwards[fooled].tolist() == [2] * int(fooled.sum())  # one look, one check


def test_a_target_is_what_counts(net: nn.Module, data: SimpleNamespace) -> None:
    target = (data.y + 2) % 5
    found = run("autoattack(steps=30, queries=50)", net, data.x, data.y, "linf(0.3)", target=target)
    assert found.success.sum() >= 6
    assert torch.equal(found.success, succeeded(found.logits, data.y, target))


@pytest.mark.parametrize("spec", ["autoattack(steps=0)", "autoattack(queries=0)", 'autoattack(version="fast")'])
def test_settings_that_are_none_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="autoattack"):
        ATTACKS.parse(spec)
