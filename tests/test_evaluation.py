"""What `evaluate` makes of each kind of attack: budget, minimal, learned, transferred; and of a model that adapts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import sparring
from sparring import evaluate
from sparring.attacks import PGD, Attack, Crafting, Oracle
from sparring.attacks.transfer import Transfer
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.evaluation.bout import Bout
from sparring.evaluation.conditions import Conditions


class Threshold(nn.Module):
    """Class 1 where the first pixel is brighter than the last."""

    def forward(self, x: Tensor) -> Tensor:
        first, last = x[:, 0, 0, 0], x[:, 0, 0, 1]
        return torch.stack([last.detach(), first], dim=1)


@dataclass(frozen=True, kw_only=True)
class Exactly(Attack):
    """Sets the first pixel just above the last, and counts how often it was run, and within which eps."""

    name = "exactly"
    source = "nowhere"
    kind = "minimal"
    seen: ClassVar[list[float]] = []
    unused: int = field(default=0)

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: ThreatModel, **_: object) -> Tensor:
        self.seen.append(threat.eps)
        x_adv = x.clone()
        x_adv[:, 0, 0, 0] = x[:, 0, 0, 1] + 0.001
        return x_adv


def images(*distances: float) -> tuple[Tensor, Tensor]:
    x = torch.zeros(len(distances), 1, 1, 2)
    x[:, 0, 0, 1] = torch.tensor(distances)
    return x, torch.zeros(len(distances)).long()


def test_a_minimal_attack_runs_once_without_a_bound_and_its_distances_are_the_curve() -> None:
    x, y = images(0.05, 0.15, 0.25, 0.35, 0.6)
    Exactly.seen.clear()
    verdict = evaluate(Threshold(), (x, y), "linf(0.2)", Exactly(), curve=(0.1, 0.2, 0.3, 0.5))
    assert Exactly.seen == [math.inf]
    assert verdict.robust == verdict.curves[0].points[2].accuracy
    assert verdict.robust.value == (3 - verdict.otherwise) / 5 < 3 / 5  # what the curve's attack broke does not stand
    assert verdict.most_frequent == 1
    (attacked,) = verdict.attacked.values()
    assert attacked.accuracy.value == pytest.approx(3 / 5)
    assert attacked.median_distance == pytest.approx(0.251)
    assert attacked.confidence.accuracy.value == pytest.approx(3 / 5)  # what lies beyond eps is no image under attack
    known = zip(verdict.curves[0].points, (1.0, 0.8, 0.6, 0.4, 0.2), strict=True)
    assert all(point.accuracy.value <= most + 1e-9 for point, most in known)  # the curve's own attack may find more
    assert verdict.arrays["distance/nearest"].tolist() <= [0.0511, 0.1511, 0.2511, 0.3511, 0.6011]
    alone = evaluate(Threshold(), (x, y), "linf(0.2)", Exactly(), curve=(), audit="off")
    assert (alone.robust.value, alone.otherwise) == (pytest.approx(3 / 5), 0)
    assert alone.arrays["distance/nearest"].tolist() == pytest.approx([0.051, 0.151, 0.251, 0.351, 0.601])


def test_the_worst_image_is_one_within_eps() -> None:
    x, y = images(0.05, 0.6)
    verdict = evaluate(Threshold(), (x, y), "linf(0.2)", Exactly(), curve=())
    shown = torch.from_numpy(verdict.arrays["gallery/x_adv"]) - torch.from_numpy(verdict.arrays["gallery/x"])
    assert shown.abs().max() <= 0.2


def test_budget_attacks_lend_the_curve_their_distances_too(net: nn.Module, make_data: Callable) -> None:
    from sparring.core.threat import THREATS
    from sparring.data.given import examples_of

    data = make_data(net, 30)
    given = examples_of((data.x, data.y))
    bout = Bout.fight(net, given, THREATS.parse("l2(0.5)"), [PGD(steps=5)], Conditions())
    fell = next(iter(bout.fallen.values()))
    assert 0 < fell.sum() < 30
    assert (bout.nearest.distance[fell] <= 0.5).all()
    assert bout.nearest.distance[~fell].isinf().all()
    with torch.no_grad():
        assert torch.equal(bout.nearest.logits[~fell].argmax(1), data.y[~fell])


def test_a_transfer_attack_asks_the_victim_nothing(net: nn.Module, make_net: Callable, data: SimpleNamespace) -> None:
    attack = Transfer.of(make_net(7), attack=PGD(steps=5), name="twin")
    verdict = evaluate(net, (data.x, data.y), "linf(0.2)", attack, curve=())
    (attacked,) = verdict.attacked.values()
    assert attacked.forwards == attacked.backwards == 0
    assert attacked.attack.startswith("transfer(surrogate='twin', attack=pgd(")
    with pytest.raises(InputError, match=r"^transfer: surrogate: no model is at hand for 'elsewhere'"):
        evaluate(net, (data.x, data.y), "linf(0.2)", "transfer(surrogate='elsewhere', attack=fgsm())", curve=())
    opened = evaluate(
        net,
        (data.x, data.y),
        "linf(0.2)",
        "transfer(surrogate='twin', attack=pgd(steps=5))",
        curve=(),
        load=lambda name: {"twin": make_net(7)}[name],
    )
    assert opened.attacked == {attacked.attack: next(iter(opened.attacked.values()))}
    assert opened.robust == verdict.robust


def test_a_learned_attack_is_fitted_on_examples_that_are_not_judged(net: nn.Module, make_data: Callable) -> None:
    judged, others = make_data(net, 20, seed=1), make_data(net, 40, seed=2)
    with pytest.raises(InputError, match="fit_on"):
        evaluate(net, (judged.x, judged.y), "linf(0.3)", "universal(epochs=2)", curve=())
    verdict = evaluate(
        net, (judged.x, judged.y), "linf(0.3)", "universal(epochs=2)", curve=(), fit_on=(others.x, others.y)
    )
    assert verdict.robust.value < 1
    digits = evaluate(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "digits()",
        "linf(0.3)",
        "universal(epochs=1, examples=50)",
        curve=(),
        examples=30,
    )
    assert digits.split == "test"


def test_a_random_model_is_judged_alike_with_and_without_an_attack() -> None:
    """With one draw for clean images and 20 for attacked ones, an attack of next to nothing would seem to help it."""

    class Wild(nn.Module):
        adaptive = frozenset({"eot"})

        def forward(self, x: Tensor) -> Tensor:
            told = x.flatten(1)[:, :1] - 0.5 + 0.8 * torch.randn(len(x), 1)  # one draw is right of 65 %
            return torch.cat([-told, told], 1)

    y = torch.arange(300) % 2
    x = torch.full((300, 1, 2, 2), 0.2) + 0.6 * y[:, None, None, None]
    found = evaluate(Wild(), (x, y), "linf(0.0001)", "pgd(steps=1)", curve=())
    (attacked,) = found.attacked.values()
    assert found.clean.value > 0.85
    assert abs(found.clean.value - attacked.accuracy.value) < 0.12
    assert not [flag for flag in found.flags if flag.check == "label leaking"]


class Counting(TensorDataset):
    """A dataset that notes what was read."""

    read = 0

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        self.read += 1
        return super().__getitem__(row)


def test_of_a_dataset_of_ones_own_only_the_examples_asked_for_are_read(net: nn.Module, data: SimpleNamespace) -> None:
    own = Counting(data.x, data.y)
    found = evaluate(net, own, "linf(0.1)", "fgsm()", examples=5, curve=(), audit="off")
    assert own.read == found.examples == 5
    whole = evaluate(net, (data.x, data.y), "linf(0.1)", "fgsm()", examples=5, curve=(), audit="off")
    assert found.arrays["fingerprints"].tolist() == whole.arrays["fingerprints"].tolist()


class Noisy(nn.Module):
    """Adds noise, and says so."""

    adaptive = frozenset({"eot"})

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)


def test_the_record_says_what_the_attacks_adapted_to(net: nn.Module, data: SimpleNamespace) -> None:
    settings = {"attacks": "pgd(steps=2)", "curve": ()}
    assert evaluate(net, (data.x, data.y), "linf(0.01)", **settings).adaptation == ()
    random = evaluate(nn.Sequential(Noisy(), net), (data.x, data.y), "linf(0.01)", **settings)
    assert random.adaptation == ("eot",)
    assert next(iter(random.attacked.values())).backwards > 20
    few = evaluate(nn.Sequential(Noisy(), net), (data.x, data.y), "linf(0.01)", **settings, crafting=Crafting(draws=2))
    assert next(iter(few.attacked.values())).backwards <= 4


@dataclass(frozen=True, kw_only=True)
class Slack(Attack):
    """Finds nothing."""

    name = "slack"
    source = "nowhere"
    kind = "budget"

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: ThreatModel, **_: object) -> Tensor:
        oracle.logits(x)
        return x


def test_what_the_curve_or_the_audit_fools_does_not_stand(net: nn.Module, make_data: Callable) -> None:
    """The figure in the table and the curve at the same eps were of different images."""
    data: SimpleNamespace = make_data(net, 30)
    given, threat = (data.x, data.y), "linf(0.1)"
    alone = evaluate(net, given, threat, Slack(), curve=(), audit="off")
    assert (alone.robust, alone.otherwise) == (alone.clean, 0)
    for verdict in (
        evaluate(net, given, threat, Slack(), curve=(0.05, 0.1, 0.2), audit="off"),
        evaluate(net, given, threat, Slack(), curve=()),
        evaluate(net, given, threat, Slack(), curve=(0.05, 0.1, 0.2)),
    ):
        assert verdict.otherwise > 0
        assert round(30 * verdict.robust.value) == round(30 * alone.robust.value) - verdict.otherwise
        assert verdict.arrays["standing"].sum() == round(30 * verdict.robust.value)
        assert verdict.robust_confidence.accuracy == verdict.robust
        if verdict.curve is not None:
            assert verdict.curve.points[2].accuracy == verdict.robust
        (attacked,) = verdict.attacked.values()
        assert attacked.accuracy == alone.robust


def test_a_verdict_is_reported_by_itself(net: nn.Module, make_data: Callable, tmp_path: Path) -> None:
    data: SimpleNamespace = make_data(net, 20)
    page = sparring.report.write(evaluate(net, (data.x, data.y), "linf(0.1)", "fgsm()"), str(tmp_path / "mine"))
    assert page == tmp_path / "mine" / "report.html"
    assert "Sequential" in page.read_text("utf-8")
