"""Attacks and defences of one's own: used from Python as they are, and what is wrong in them is said in one line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

import sparring
from sparring import InputError
from sparring.attacks import Attack
from sparring.cli import app
from sparring.defences import LossDefence


class Bare(Attack):
    name, kind = "bare", "budget"

    def perturb(
        self, oracle: Any, x: Tensor, y: Tensor, threat: Any, *, target: Any = None, stop: bool = True
    ) -> Tensor:
        return x


class Own(Bare):
    def __init__(self, steps: int) -> None:
        self.steps = steps


@dataclass(frozen=True, kw_only=True)
class Nameless(Attack):
    kind = "budget"

    def perturb(
        self, oracle: Any, x: Tensor, y: Tensor, threat: Any, *, target: Any = None, stop: bool = True
    ) -> Tensor:
        return x


@dataclass(frozen=True, kw_only=True)
class Kindless(Bare):
    kind = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Short(Attack):
    name, kind = "short", "budget"

    def perturb(self, oracle: Any, x: Tensor, y: Tensor, threat: Any) -> Tensor:  # type: ignore[override]
        return x


@dataclass(frozen=True, kw_only=True)
class Checked(Short):
    """Its own checks come after those of its class."""

    def __post_init__(self) -> None:
        raise AssertionError("its class was not looked at")


@dataclass(frozen=True, kw_only=True)
class Plain(LossDefence):
    name = "plain"

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return F.cross_entropy(net(x), y)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Bare(), "Bare: write @dataclass(frozen=True, kw_only=True) above the class"),
        (lambda: Bare(steps=3), "Bare: write @dataclass(frozen=True, kw_only=True) above the class"),
        (lambda: repr(Own(3)), "Own: write @dataclass(frozen=True, kw_only=True) above the class"),
        (lambda: Nameless(), 'Nameless: the class has no name; write in it name = "mine"'),
        (lambda: Kindless(), 'Kindless: the class has no kind; write in it kind = "budget" or "minimal"'),
        (
            lambda: Short(),
            "Short.perturb: got an unexpected keyword argument 'target'; write it as "
            "def perturb(self, oracle, x, y, threat, *, target=None, stop=True)",
        ),
        (lambda: Checked(), "Checked.perturb: got an unexpected keyword argument 'target'; write it as def perturb("),
        (
            lambda: Plain(),
            "Plain.loss: got an unexpected keyword argument 'progress'; write it as "
            "def loss(self, net, x, y, *, progress, generator)",
        ),
    ],
)
def test_what_a_class_lacks_is_said_in_one_line(make: Callable[[], object], says: str) -> None:
    """Each ended in a TypeError or an AttributeError, somewhere inside."""
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(says)


@dataclass(frozen=True, kw_only=True)
class Calm(LossDefence):
    """Holds the logits small."""

    name = "calm"
    weight: float = 0.1

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = net(x)
        return F.cross_entropy(logits, y) + self.weight * logits.square().mean(), {}


def test_a_defence_of_ones_own_trains_and_opens_from_python(tmp_path: Path) -> None:
    recipe = sparring.Recipe(data="digits()", model="mlp(hidden=(16,))", defence=Calm(weight=0.5), epochs=1)
    fitted = sparring.fit(recipe, runs=tmp_path, quiet=True)
    again = sparring.fit(recipe, runs=tmp_path, quiet=True)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(fitted.model(x), sparring.load(again.run.path)(x))
    assert 'defence = "calm(weight=0.5)"' in fitted.run.read_recipe()


def test_a_run_of_a_defence_of_ones_own_is_judged_and_reported_by_the_command_line(tmp_path: Path) -> None:
    """They were told "unknown defence 'calm'", though nothing but its network is asked for."""
    recipe = sparring.Recipe(data="digits()", model="mlp(hidden=(16,))", defence=Calm(weight=0.5), epochs=1)
    run = str(sparring.fit(recipe, runs=tmp_path, quiet=True).run.path)
    how = ["--threat", "linf(0.1)", "--attack", "fgsm()", "--examples", "20", "--audit", "off"]
    CliRunner().invoke(app, ["evaluate", run, *how], catch_exceptions=False)
    page = tmp_path / "report"
    CliRunner().invoke(app, ["report", run, "--out", str(page)], catch_exceptions=False)
    assert "calm(weight=0.5)" in (page / "report.html").read_text()


def test_an_attack_of_ones_own_is_judged_beside_others(net: nn.Module, data: SimpleNamespace) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Darker(Bare):
        name = "darker"

        def perturb(self, oracle: Any, x: Tensor, y: Tensor, threat: Any, **_: object) -> Tensor:
            return x - threat.eps

    found = sparring.evaluate(net, (data.x, data.y), "linf(0.1)", [Darker(), "fgsm()"], audit="off", curve=())
    assert list(found.attacked) == ["darker()", "fgsm()"]
