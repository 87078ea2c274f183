"""Fakes: models that look robust and are not. Each is failed, or judged as by an attack written for it alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.evaluation.detection import (
    CUT,
    ESTIMATED,
    OPAQUE,
    PROBABILITIES,
    RANDOM,
    STEPS,
    as_attacked,
    detect,
    usefulness,
)
from sparring.report import audit as report_audit

THREAT = sparring.Linf(0.1)
ATTACKS = ("fgsm()", "autoattack(steps=20, queries=200)")
RANDOM_ATTACKS = ("pgd(steps=40, loss='margin')", "pgd(steps=40)")
POINTS = 0.02 + 1e-6


class Fake(nn.Module):
    """Around an honest network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def behind(self, x: Tensor) -> Tensor:
        """Return the logits of the network without the trick, differentiable: what an attacker would climb."""
        return self.net(x)


class Saturated(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return 1000 * self.net(x)


class Quantised(Fake):
    """Activations in front of the last layer in whole steps."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net[-1](torch.round(2 * self.net[:-1](x)) / 2)


class OneStep(Fake):
    """The winner gets 10, the others 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return 10 * (logits == logits.amax(1, keepdim=True)).float()


class Noise(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net((x + 0.05 * torch.randn_like(x)).clamp(0, 1))


class Resize(Fake):
    """One size and one place a batch, drawn anew for each."""

    def forward(self, x: Tensor) -> Tensor:
        side, small = x.shape[-1], x.shape[-1] - int(torch.randint(0, 2, ()))
        left, top = (int(torch.randint(0, side - small + 1, ())) for _ in range(2))
        x = F.interpolate(x, (small, small), mode="bilinear", align_corners=False)
        return self.net(F.pad(x, (left, side - small - left, top, side - small - top)))


class Rounding(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.round(7 * x) / 7)


class Casting(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * 15).to(torch.uint8).float() / 15)


class Detached(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.detach())


class Decoy(Fake):
    """A cut graph, and a gradient that leads nowhere beside it."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x.detach())
        return logits + 1e-6 * x.flatten(1)[:, : logits.shape[1]]


class LeavesTorch(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.from_numpy(x.detach().numpy().round(1)))


class TestTime(Fake):
    """Moves each image to where the network is surer, before it is classified."""

    __test__ = False  # no test of pytest's

    def forward(self, x: Tensor) -> Tensor:
        moved = x.detach()
        with torch.enable_grad():
            for _ in range(3):
                moved = moved.detach().requires_grad_(True)
                logits = self.net(moved)
                (grad,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), moved)
                moved = moved - 0.02 * grad.sign()
        return self.net(moved.detach().clamp(0, 1))


class BatchMates(Fake):
    """What batch statistics that are left on come to: the batch's mean is taken off."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return logits - 0.5 * logits.mean(0, keepdim=True)


class Probabilities(Fake):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)


class Shattered(Fake):
    """A ripple too small to see and too steep to climb."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x + 0.02 * torch.sin(2000 * x)).clamp(0, 1))


class Squashed(Fake):
    """Logits squashed until they are all 0 or 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(50 * self.net(x))


def chosen_pixels() -> Tensor:
    """Return which pixels of 8x8 images are tampered with: three in five."""
    return torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.6


class PixelsCut(Fake):
    """No gradient reaches three pixels in five; a step along the others still beats a random one."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.where(chosen_pixels(), x.detach(), x))


class CutBeyondTorch(Fake):
    """The same, out of reach of what lets gradients through."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.where(chosen_pixels(), torch.from_numpy(x.detach().numpy().copy()), x))


class _Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # torch's own signature
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # as above
        way = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        return grad + 2 * grad.abs().mean((1, 2, 3), keepdim=True) * way


class Bent(Fake):
    """To every gradient the same is added, large enough to mislead."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(_Bent.apply(x))


FAKES = (
    Saturated,
    Quantised,
    OneStep,
    Noise,
    Resize,
    Rounding,
    Casting,
    Detached,
    Decoy,
    LeavesTorch,
    TestTime,
    BatchMates,
    Probabilities,
    Shattered,
    Squashed,
    PixelsCut,
    CutBeyondTorch,
    Bent,
)

DRAWN = (Noise, Resize)


def adaptive_attack(fake: Fake, x: Tensor, y: Tensor, draws: int) -> float:
    """Return what is left of a fake attacked through what is behind it: plain PGD, its images tried on the fake.

    Written for these fakes alone, in nothing but torch: margin and cross-entropy, 40 steps each, of what is not random
    three times. The image that the fake has most trouble with is kept, and judged once more in the end.
    """
    worst, most = x.clone(), lead(fake, x, y, draws)
    for restart in range(2 if draws > 1 else 6):
        moved = (x + THREAT.eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        for _ in range(40):
            moved.requires_grad_(True)
            logits = fake.behind(moved)
            others, own = logits.scatter(1, y[:, None], -torch.inf), logits.gather(1, y[:, None])
            margin = others.amax(1) - own.squeeze(1)
            loss = F.cross_entropy(logits, y, reduction="sum") if restart % 2 else margin.sum()
            (grad,) = torch.autograd.grad(loss, moved)
            moved = (moved.detach() + 0.01 * grad.sign()).clamp(x - THREAT.eps, x + THREAT.eps).clamp(0, 1)
            now = lead(fake, moved, y, draws)
            worst[now > most], most = moved[now > most], torch.maximum(now, most)
    return float((lead(fake, worst, y, draws) < 0).float().mean())


def lead(fake: nn.Module, x: Tensor, y: Tensor, draws: int) -> Tensor:
    """Return by how much the best wrong class leads, in probability averaged over draws, (B,)."""
    with torch.no_grad():
        shares = torch.stack([fake(x).softmax(1) if draws > 1 else fake(x) for _ in range(draws)]).mean(0)
    return shares.scatter(1, y[:, None], -torch.inf).amax(1) - shares.gather(1, y[:, None]).squeeze(1)


@pytest.mark.parametrize("kind", FAKES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("defence", ["standard", "pgd"])
def test_a_fake_is_failed_or_judged_as_by_one_who_knows_it(
    kind: type[Fake], defence: str, classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """No trick raises the figure by more than two points without the audit saying that it cannot be trusted."""
    x, y = judged()
    fake = kind(classifier("cnn", defence)).eval()
    verdict = sparring.evaluate(fake, (x, y), THREAT, RANDOM_ATTACKS if kind in DRAWN else ATTACKS, curve=())
    assert verdict.audit
    if verdict.trustworthy:
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(0)
            left = adaptive_attack(fake, x, y, 20 if kind in DRAWN else 1)
        assert verdict.robust.value <= left + POINTS


EXPECTED = {
    Saturated: (),
    Quantised: ("steps without a gradient",),
    OneStep: ("no gradient at all",),
    Noise: ("random",),
    Resize: ("random",),
    Rounding: ("steps without a gradient",),
    Casting: ("steps without a gradient",),
    Detached: ("gradients cut off",),
    Decoy: ("gradients cut off",),
    LeavesTorch: ("shattered gradients",),
    BatchMates: (),
    Probabilities: ("outputs are probabilities",),
    Shattered: ("shattered gradients",),
    PixelsCut: ("gradients cut off",),
    Bent: (),
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_how_a_fake_must_be_attacked_is_found_out(
    kind: type[Fake], classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """What no module declares is detected, and the gradients that attacks are then given lead somewhere."""
    x, y = judged()
    fake = kind(classifier("cnn", "pgd")).eval()
    found = detect(fake, x, y, THREAT)
    assert found == EXPECTED[kind]
    led = usefulness(as_attacked(fake, found, THREAT), x[:32], y[:32], THREAT)
    assert kind is OneStep or (led is not None and led > 0.75)


def test_the_report_has_words_for_all_that_can_be_found_out() -> None:
    """Each way is a key of the report's sentences, which may not know this package."""
    ways = {PROBABILITIES, RANDOM, STEPS, CUT, ESTIMATED, OPAQUE}
    assert set(report_audit._FOUND) == ways


FAILED = {
    OneStep: "broken graph",
    LeavesTorch: "broken graph",
    Shattered: "broken graph",
    TestTime: "test-time optimisation",
    BatchMates: "batch-mates",
    Squashed: "zero gradients",
    CutBeyondTorch: "gradients agree",
    Bent: "gradients agree",
}


@pytest.mark.parametrize("kind", FAILED, ids=lambda kind: kind.__name__)
def test_a_fake_that_nothing_sees_through_is_failed(
    kind: type[Fake], classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """The check that is made for it fails it, whatever attacks were listed."""
    verdict = sparring.evaluate(kind(classifier("cnn", "pgd")).eval(), judged(), THREAT, "pgd(steps=10)", curve=())
    assert FAILED[kind] in [flag.check for flag in verdict.flags if flag.severity == "fail"]


@pytest.mark.parametrize("kind", [Saturated, Quantised, Rounding, Detached, Noise], ids=lambda kind: kind.__name__)
def test_a_model_in_the_form_that_is_attacked_predicts_the_same(
    kind: type[Fake], classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """What is done to gradients leaves every logit as it is, to the bit, with gradients asked for and without."""
    x, y = judged()
    fake = kind(classifier("cnn", "standard")).eval()
    attacked = as_attacked(fake, detect(fake, x, y, THREAT), THREAT)
    for model_input in (x, x.clone().requires_grad_(True)):
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(3)
            expected = fake(x)
            torch.random.manual_seed(3)
            assert torch.equal(attacked(model_input), expected)


def test_an_attack_that_climbs_the_wrong_loss_is_failed(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Saturated logits hold against the cross-entropy alone; the audit breaks them by the margin."""
    fake = Saturated(classifier("cnn", "standard")).eval()
    verdict = sparring.evaluate(fake, judged(), THREAT, "pgd(steps=40)", curve=())
    assert verdict.robust.value > 0.5
    flags = {flag.check: flag for flag in verdict.flags}
    assert flags["converged"].severity == "fail"
    assert flags["zero gradients"].severity == "warn"
    assert flags["converged"].examples
    sparring.attacks.ATTACKS.parse(flags["converged"].attack)  # the attack to try next is one that there is


def test_a_figure_of_one_step_alone_is_failed(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """What FGSM leaves of a network that more steps break is not to be trusted."""
    verdict = sparring.evaluate(classifier("cnn", "standard"), judged(), "linf(0.15)", "fgsm()", curve=())
    assert not verdict.trustworthy
    assert {flag.check for flag in verdict.flags if flag.severity == "fail"} == {"converged"}


def test_no_check_carries_anything_from_one_model_to_the_next(
    classifier: Callable[..., nn.Module], judged: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """A model is judged the same before and after the fakes, to the last flag."""
    net, attack = classifier("cnn", "pgd"), "pgd(steps=5)"
    before = sparring.evaluate(net, judged(), THREAT, attack, curve=())
    for kind in (Rounding, TestTime, BatchMates, Noise):
        sparring.evaluate(kind(net).eval(), judged(), THREAT, attack, curve=())
    after = sparring.evaluate(net, judged(), THREAT, attack, curve=())
    assert before.flags == after.flags
    assert [(c.check, c.outcome, c.evidence) for c in before.audit] == [
        (c.check, c.outcome, c.evidence) for c in after.audit
    ]
