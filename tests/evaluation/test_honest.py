"""Honest models, robust or not, are never failed by the audit."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.evaluation.audit import CHECKS
from sparring.models import adapt

ATTACKS = ("fgsm()", "autoattack(steps=30, queries=300)")


class Scaled(nn.Module):
    """Logits times a constant, plus another: the same classifier."""

    def __init__(self, net: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.net, self.scale, self.shift = net, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x) + self.shift


HONEST = {
    "standard cnn": ("cnn", "standard", 10, None),
    "standard mlp": ("mlp", "standard", 10, None),
    "standard resnet": ("resnet", "standard", 10, None),
    "standard cnn with batch norm": ("cnn with batch norm", "standard", 10, None),
    "pgd cnn": ("cnn", "pgd", 10, None),
    "pgd mlp": ("mlp", "pgd", 10, None),
    "pgd cnn with batch norm": ("cnn with batch norm", "pgd", 10, None),
    "pgd resnet": ("resnet", "pgd", 10, None),
    "trades cnn": ("cnn", "trades", 10, None),
    "noise-trained cnn": ("cnn", "noisy", 10, None),
    "two classes": ("cnn", "pgd", 2, None),
    "three classes": ("mlp", "standard", 3, None),
    "a hundred classes": ("mlp", "pgd", 100, None),
    "logits times 1000": ("cnn", "pgd", 10, (1000.0, 0.0)),
    "logits by 1000": ("cnn", "standard", 10, (1e-3, 0.0)),
    "logits and 1000": ("cnn", "pgd", 10, (1.0, 1000.0)),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_not_accused(
    name: str, classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Whatever its kind, its training, its classes and the scale of its logits: no check fails it."""
    kind, defence, classes, scaled = HONEST[name]
    net = classifier(kind, defence, classes)
    net = net if scaled is None else Scaled(net, *scaled).eval()
    verdict = sparring.evaluate(
        net, judged(classes), "linf(0.1)", ("fgsm()", "autoattack(steps=30, queries=300)"), curve=()
    )
    assert verdict.trustworthy, [flag for flag in verdict.flags if flag.severity == "fail"]
    assert verdict.detected == ()


@pytest.mark.parametrize("threat", ["l2(0.5)", "l1(3)"])
def test_nor_is_one_in_another_norm(
    threat: str, classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """The audit's own attacks fit the threat, whatever its norm."""
    verdict = sparring.evaluate(
        classifier("cnn", "pgd"), judged(), threat, "autoattack(steps=30, queries=300)", curve=()
    )
    assert verdict.trustworthy, [flag for flag in verdict.flags if flag.severity == "fail"]


def test_a_model_that_says_the_same_of_every_image_is_as_robust_as_it_is_right(
    judged: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    """A collapsed network cannot be fooled; that it has no gradient is no trick, and it is warned of."""
    x, y = judged()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(net[1].weight)
    verdict = sparring.evaluate(net, (x, y), "linf(0.1)", "pgd(steps=5)", curve=())
    assert verdict.robust.value == verdict.clean.value
    assert verdict.trustworthy


@pytest.mark.parametrize("threat", ["linf(0)", "linf(1)", "l2(inf)"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_audit_of_next_to_nothing_ends(
    threat: str, count: int, classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """One example, eps 0, no bound at all: every check answers, and none accuses."""
    x, y = (part[:count] for part in judged())
    verdict = sparring.evaluate(classifier("cnn", "pgd"), (x, y), threat, "pgd(steps=5, loss='margin')", curve=())
    assert len(verdict.audit) == len(CHECKS)
    assert verdict.trustworthy


def test_a_model_without_one_right_answer_is_not_accused(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """With every label wrong there is nothing to attack, and nothing to say."""
    x, y = judged()
    verdict = sparring.evaluate(classifier("cnn", "standard"), (x, (y + 1) % 10), "linf(0.1)", "pgd(steps=5)", curve=())
    assert verdict.robust.value < 0.1
    assert verdict.trustworthy


def test_a_model_of_another_range_is_asked_in_ours(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """An adapted network is as honest as the one inside."""
    inner = nn.Sequential(Scaled(nn.Identity(), 1 / 255, 0.0), classifier("cnn", "pgd"))
    verdict = sparring.evaluate(
        adapt(inner, scale=255.0), judged(), "linf(0.1)", "pgd(steps=20, loss='margin')", curve=()
    )
    assert verdict.trustworthy


def test_the_audit_leaves_no_trace(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Weights, modes, gradients and the global random state are as they were, a model in training mode included."""
    net = classifier("cnn with batch norm", "pgd").train()
    before, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    sparring.evaluate(net, judged(), "linf(0.1)", "pgd(steps=2)", curve=())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)
    net.eval()
