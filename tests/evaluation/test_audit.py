"""Each check of the audit, where it must speak and where it must not."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import sparring
from sparring.attacks import FGSM, PGD, Attack, AutoAttack, Crafting, Oracle, Square
from sparring.core.errors import InputError, StoppedError
from sparring.core.results import Checked, Evaluation
from sparring.core.threat import Linf, ThreatModel
from sparring.core.trainable import Setup
from sparring.data.dataset import Split
from sparring.defences import MASKS, Standard
from sparring.evaluation.audit import CHECKS, Subject, affordable, twins
from sparring.evaluation.audit.base import Check, Finding, broken_anyway
from sparring.evaluation.audit.behaviour import noisy_landscape
from sparring.evaluation.audit.figures import threat_kept
from sparring.evaluation.audit.stronger import adaptive, losses, monotone
from sparring.evaluation.audit.twins import train_twins
from sparring.evaluation.detection import agreement
from sparring.models import MLP
from sparring.studies.pooling import _audits

THREAT = Linf(0.1)
Classifier = Callable[..., nn.Module]
Judged = Callable[..., tuple[Tensor, Tensor]]


def outcome(verdict: Evaluation, check: str) -> str:
    return next(of.outcome for of in verdict.audit if of.check == check)


def judge(
    model: nn.Module, data: tuple[Tensor, Tensor], attacks: Any = "pgd(steps=20, loss='margin')", **more: Any
) -> Evaluation:
    return sparring.evaluate(model, data, more.pop("threat", THREAT), attacks, curve=(), **more)


def listed(verdict: Evaluation) -> float:
    """Return what the attacks that were asked for leave, without what the audit's own broke besides."""
    return verdict.robust.value + verdict.otherwise / verdict.examples


def test_every_check_answers_once_and_says_why(classifier: Classifier, judged: Judged) -> None:
    verdict = judge(classifier("cnn", "pgd"), judged())
    assert [of.check for of in verdict.audit] == [check.name for check in CHECKS]
    assert len({check.name for check in CHECKS}) == len(CHECKS) == 25
    assert all(of.evidence and of.seconds >= 0 for of in verdict.audit)
    assert verdict.trustworthy
    off = judge(classifier("cnn", "pgd"), judged(), audit="off")
    assert off.audit == off.flags == ()
    assert not off.trustworthy  # what nobody has asked is not known to be good
    assert off.robust.value == pytest.approx(listed(verdict))


def test_a_budget_of_the_attacks_does_not_bind_the_audit(classifier: Classifier, judged: Judged) -> None:
    """Two passes an example leave 95 % of an undefended network, and every check that may spend no more agreed."""
    attacks, budget = ("pgd(steps=40, loss='margin')",), Crafting(max_forwards=2)
    verdict = judge(classifier("cnn", "standard"), judged(), attacks, crafting=budget)
    assert listed(verdict) > 0.8 > verdict.robust.value
    assert outcome(verdict, "converged") == "fail"


@pytest.mark.parametrize("other", ["square(queries=50)", "universal(epochs=1)"])
def test_what_takes_no_steps_along_gradients_is_not_held_against_one_step(
    other: str, classifier: Classifier, judged: Judged
) -> None:
    """A honest network was failed, for a search of 50 queries breaks less than FGSM does."""
    x, y = judged()
    verdict = judge(classifier("cnn", "pgd"), (x, y), ("fgsm()", other), fit_on=(x[:20], y[:20]))
    assert outcome(verdict, "many steps beat one") == "not run"


# ------------------------------------------------------------------------------ the rule of what was broken anyway


@pytest.mark.parametrize(
    ("broken", "places", "standing", "expected"),
    [
        (1, 500, 1000, "passed"),
        (5, 5, 900, "fail"),
        (3, 100, 1000, "warn"),
        (20, 100, 1000, "fail"),
        (5, 5, 10, "passed"),
    ],
)
def test_the_low_end_of_what_would_fall_decides(broken: int, places: int, standing: int, expected: str) -> None:
    """One image in 500 proves nothing; all of five do, unless few are left standing at all."""
    subject = cast(
        "Subject", SimpleNamespace(bout=SimpleNamespace(y=torch.zeros(1000)), named=lambda rows: tuple(rows.tolist()))
    )
    flags = torch.arange(places) < broken
    found = broken_anyway(subject, flags, torch.arange(places), torch.arange(standing), "it", "fgsm()")
    assert found.outcome == expected
    assert found.examples == (() if expected == "passed" else tuple(range(broken)))


def test_the_work_of_the_audit_follows_that_of_the_attacks() -> None:
    """At least a few examples are probed, at most a few hundred, of a random model so many fewer as it takes draws."""
    each = sum(check.passes for check in CHECKS)
    assert affordable(0, 1, 784) == 20
    assert affordable(0, 1, 3 * 224**2) == affordable(0, 20, 784) == 5
    assert affordable(10**9, 1, 784) == 200
    assert affordable(1000 * each, 20, 784) == 10
    assert affordable(500 * each, 1, 784) == 100


# ---------------------------------------------------------------------------------------------- courses of attacks


@dataclass(frozen=True, kw_only=True)
class Forgetful(Attack):
    """Finds what PGD finds, and hands back the image that it began with."""

    name = "forgetful"
    source = "folklore"
    kind = "budget"

    def perturb(self, oracle, x, y, threat, *, target=None, stop=True):
        PGD(steps=10, loss="margin").perturb(oracle, x, y, threat, target=target, stop=stop)
        return x


def test_an_attack_that_loses_what_it_finds_is_failed(classifier: Classifier, judged: Judged) -> None:
    verdict = judge(classifier("cnn", "standard"), judged(), Forgetful())
    assert listed(verdict) == pytest.approx(verdict.clean.value)
    assert outcome(verdict, "silent success") == "fail"
    flag = next(flag for flag in verdict.flags if flag.check == "silent success")
    assert set(flag.examples) <= set(range(100))
    assert outcome(judge(classifier("cnn", "standard"), judged()), "silent success") == "passed"


@dataclass(frozen=True, kw_only=True)
class Wandering(Attack):
    """Looks at grey, far outside the threat, and hands back the image that it began with."""

    name = "wandering"
    source = "folklore"
    kind = "budget"

    def perturb(self, oracle, x, y, threat, *, target=None, stop=True):
        oracle.logits(torch.full_like(x, 0.5))
        return x


def test_what_an_attack_saw_outside_the_threat_is_no_loss(classifier: Classifier, judged: Judged) -> None:
    verdict = judge(classifier("cnn", "standard"), judged(), Wandering())
    assert outcome(verdict, "silent success") == "passed"
    assert outcome(verdict, "converged") == "fail"


def test_a_climb_that_is_cut_short_is_warned_of(classifier: Classifier, judged: Judged) -> None:
    short = judge(classifier("cnn", "pgd"), judged(), "pgd(steps=15, rel_step_size=0.02, random_start=False)")
    assert outcome(short, "unfinished optimisation") == "warn"
    assert outcome(judge(classifier("cnn", "pgd"), judged(), "pgd(steps=40)"), "unfinished optimisation") == "passed"
    assert outcome(judge(classifier("cnn", "pgd"), judged(), "fgsm()"), "unfinished optimisation") == "not run"


def test_many_steps_that_break_less_than_one_are_failed(classifier: Classifier, judged: Judged) -> None:
    weak = ("fgsm()", "pgd(steps=2, rel_step_size=0.001, random_start=False)")
    verdict = judge(classifier("cnn", "standard"), judged(), weak)
    assert outcome(verdict, "many steps beat one") == "fail"
    assert any("the 2 steps of pgd reach 0.002 eps in all: set rel_step_size" in flag.message for flag in verdict.flags)
    assert outcome(judge(classifier("cnn", "standard"), judged(), ("fgsm()", "pgd()")), "many steps beat one") in (
        "passed",
        "note",
    )


# ------------------------------------------------------------------------------------------- what the model declares


class Declared(nn.Module):
    """Declares an approximation of itself: the identity with its gradient's sign turned, or none at all."""

    adaptive = frozenset({"bpda"})

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * 1

    def approximation(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.fixture
def undetected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the model as it came: the audit stands alone."""
    monkeypatch.setattr("sparring.evaluation.robustness.detect", lambda *_: ())


def test_a_declared_gradient_that_misleads_is_found_out(classifier: Classifier, judged: Judged) -> None:
    """It leads nowhere, so the attack passes by it to the function itself; what is left is as without it."""
    turned = nn.Sequential(Declared(-1.0), classifier("cnn", "standard")).eval()
    verdict = judge(turned, judged())
    assert verdict.detected == ("gradients cut off",)
    assert verdict.robust.value == pytest.approx(judge(classifier("cnn", "standard"), judged()).robust.value, abs=0.02)
    assert outcome(verdict, "broken graph") == "warn"


@pytest.mark.usefixtures("undetected")
def test_an_attack_that_knows_less_must_not_break_more(classifier: Classifier, judged: Judged) -> None:
    """Where the attack that knows the defence does worse than the naive one, its declaration is at fault."""
    x, y = judged()
    turned = nn.Sequential(Declared(-1.0), classifier("cnn", "standard")).eval()
    verdict = judge(turned, (x, y))
    assert listed(verdict) > 0.9
    assert outcome(verdict, "adaptive attack") == "fail"
    assert outcome(verdict, "noisy landscape") == "fail"
    honest = judge(nn.Sequential(Declared(1.0), classifier("cnn", "standard")).eval(), (x, y))
    assert honest.adaptation == ("bpda",)
    assert outcome(honest, "adaptive attack") == "passed"
    assert honest.trustworthy


@pytest.mark.usefixtures("undetected")
def test_more_right_under_attack_than_without_is_label_leaking(classifier: Classifier, judged: Judged) -> None:
    """An attack whose gradient points the wrong way turns wrong examples right."""
    x, y = judged()
    noisy = (x + 0.35 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    turned = nn.Sequential(Declared(-1.0), classifier("cnn", "standard")).eval()
    verdict = judge(turned, (noisy, y), FGSM())
    assert verdict.clean.value < 0.95
    assert outcome(verdict, "label leaking") == "fail"


# ----------------------------------------------------------------------------- checks of figures, by figures made up


def made_up(**fields: Any) -> Subject:
    """Return a subject whose attacks succeed as is said: 100 examples, all right, eps 0.1."""
    places = torch.arange(100)
    base = {
        "threat": THREAT,
        "right": places,
        "bout": SimpleNamespace(x=torch.zeros(100, 1, 2, 2)),
        "some": lambda rows, most=None: rows,
        "named": lambda rows: tuple(rows.tolist()),
        "attacks": (PGD(),),
    }
    return cast("Subject", SimpleNamespace(**{**base, **fields}))


def succeeds(*shares: float) -> Callable[..., Any]:
    """Return an attack's results, one after another: so many of the first examples fall."""
    left = list(shares)
    return lambda *_, **__: SimpleNamespace(success=torch.arange(100) < 100 * left.pop(0))


def test_a_curve_that_rises_is_warned_of() -> None:
    assert monotone(made_up(attacked=succeeds(0.2, 0.6, 0.9))).outcome == "passed"
    assert (
        monotone(made_up(attacked=succeeds(0.6, 0.5, 0.9))).outcome == "warn"
    )  # ten fall at half and stand at the whole
    assert monotone(made_up(attacked=succeeds(0.6, 0.58, 0.9))).outcome == "passed"  # two may be chance
    assert monotone(made_up(attacked=succeeds(0.6, 0.5, 0.9))).examples == tuple(range(50, 60))


def test_losses_that_disagree_are_warned_of() -> None:
    assert losses(made_up(attacked=succeeds(0.5, 0.5, 0.5))).outcome == "passed"
    assert losses(made_up(attacked=succeeds(0.1, 0.5, 0.5))).outcome == "warn"
    assert losses(made_up(attacked=succeeds(0.48, 0.5, 0.5))).outcome == "passed"
    every = made_up(attacked=succeeds(0.1, 0.5, 0.5), attacks=(FGSM(), AutoAttack()))
    assert losses(every).outcome == "note"  # it has climbed more than one


def test_what_has_been_tried_is_not_what_to_try_next(
    classifier: Classifier, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    advises = Check("advises", "never satisfied", lambda _: Finding("warn", "more", attack="square()"), passes=1)
    monkeypatch.setattr("sparring.evaluation.audit.CHECKS", (advises,))
    for attack, further in ((FGSM(), "square()"), (Square(queries=2), "")):
        (flag,) = judge(classifier("cnn", "standard"), judged(), attack).flags
        assert flag.attack == further


@pytest.mark.parametrize(("shift", "expected"), [(0.1, "passed"), (0.102, "fail"), (0.6, "fail")])
def test_images_beyond_the_threat_are_failed(shift: float, expected: str) -> None:
    x = torch.full((4, 1, 2, 2), 0.5)
    bout = SimpleNamespace(x=x, worst_x=x + shift, right=torch.ones(4).bool(), standing=torch.ones(4).bool())
    subject = SimpleNamespace(
        bout=bout, threat=THREAT, some=lambda rows, most: rows, named=lambda rows: tuple(rows.tolist())
    )
    assert threat_kept(cast("Subject", subject)).outcome == expected


@dataclass(frozen=True, kw_only=True)
class Spoils(Attack):
    """An attack of one's own that divides by zero in every image, or in every tenth."""

    name = "spoils"
    source = "nowhere"
    kind = "budget"
    every: int = 1

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: ThreatModel, **_: object) -> Tensor:
        x_adv = x.clone()
        x_adv[:: self.every] /= 0
        return x_adv


def test_who_stands_because_every_attack_gave_nan_does_not_count_as_robust(
    classifier: Classifier, judged: Judged
) -> None:
    """Such a verdict had no word of it: the images were put back, and counted as ones that do not fool."""
    net, (x, y) = classifier("cnn", "standard"), judged()
    alone = judge(net, (x, y), Spoils())
    assert outcome(alone, "sound images") == "fail"
    assert not alone.trustworthy
    assert outcome(judge(net, (x, y), Spoils(every=100)), "sound images") == "warn"
    assert outcome(judge(net, (x, y), [Spoils(), FGSM()]), "sound images") == "warn"  # another attack had them all
    assert outcome(judge(net, (x, y), FGSM()), "sound images") == "passed"


def test_how_many_successes_eight_bits_undo_is_counted(classifier: Classifier, judged: Judged) -> None:
    """An image that fools by less than a grey level is right again once it is saved."""
    net, (x, y) = classifier("cnn", "standard"), judged()
    verdict = judge(net, (x, y), "deepfool()")
    evidence = next(of.evidence for of in verdict.audit if of.check == "threat kept")
    assert 0 < float(evidence.split("; ")[1].split("%")[0]) < 100


@pytest.mark.parametrize(
    ("first", "says"), [(nn.MaxPool2d(3, 1, 1), "warn"), (MASKS.parse("median()").blank((1, 8, 8), {}), "passed")]
)
def test_a_corner_is_no_gradient_that_was_cut(
    first: nn.Module, says: str, classifier: Classifier, judged: Judged
) -> None:
    """On images with flat areas a maximum's first layer failed the audit as if a part of its gradient were missing."""
    x, y = judged()
    net, flat = nn.Sequential(first, classifier("cnn", "standard")).eval(), (x * 2).round() / 2
    found = agreement(net, flat, y)
    assert found is not None
    assert found.line > 0.95 > 0.8 > found.sum
    assert found.cornered == (says == "warn")
    assert not found.partial
    assert outcome(judge(net, (flat, y)), "gradients agree") == says
    plain = agreement(classifier("cnn", "standard"), x, y)
    assert plain is not None
    assert min(plain.gradient, plain.line, plain.sum) > 0.95


# --------------------------------------------------------------------------------------------------- the full audit


def test_a_full_audit_trains_twins_and_an_honest_model_passes(classifier: Classifier, judged: Judged) -> None:
    x, y = judged()
    verdict = judge(classifier("mlp", "pgd"), (x[:40], y[:40]), audit="full", fit_on="digits()")
    assert outcome(verdict, "transfer") == "passed"
    assert verdict.trustworthy
    without = judge(classifier("mlp", "pgd"), (x[:40], y[:40]), audit="full")
    assert outcome(without, "transfer") == "not run"  # nothing to train on, and that is said


@pytest.mark.usefixtures("undetected")
def test_transfer_breaks_what_hides_its_gradients(classifier: Classifier, judged: Judged) -> None:
    x, y = judged()
    turned = nn.Sequential(Declared(-1.0), classifier("mlp", "standard")).eval()
    verdict = judge(turned, (x, y), "fgsm()", audit="full", fit_on="digits()")
    assert outcome(verdict, "transfer") == "fail", [of.evidence for of in verdict.audit if of.check == "transfer"]


def test_what_cannot_begin_anew_has_a_plain_one_beside_it_alone(judged: Judged) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.flatten(1).mean(1), 1 - x.flatten(1).mean(1)], dim=1)

    x, y = judged()
    assert list(train_twins(Fixed(), x, y % 2, 2, THREAT, 0)) == ["a plain one, adversarially trained"]
    tiny = x[:, :, :3, :3]  # too small for that one
    assert train_twins(Fixed(), tiny, y % 2, 2, THREAT, 0) == {}


def test_ctrl_c_while_twins_train_ends_the_audit(
    judged: Judged, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training saves itself and says that it was stopped, which was once taken for a twin that could not be trained."""

    def stopped(*_: object, **__: object) -> None:
        raise StoppedError("interrupted")

    monkeypatch.setattr(twins, "train", stopped)
    x, y = judged()
    with pytest.raises(KeyboardInterrupt):
        train_twins(classifier("mlp", "standard"), x, y, 10, THREAT, 0)


def test_twins_are_trained_where_the_model_is(
    judged: Judged, classifier: Callable[..., nn.Module], other_device: torch.device
) -> None:
    x, y = judged()
    model = copy.deepcopy(classifier("mlp", "pgd")).to(other_device)
    found = train_twins(model, x, y, 10, THREAT, 0)
    assert len(found) == 3
    assert {tensor.device for twin in found.values() for tensor in twin.state_dict().values()} == {other_device}


def test_of_several_gpus_it_is_the_models_own(monkeypatch: pytest.MonkeyPatch, judged: Judged) -> None:
    asked: list[dict[str, object]] = []

    def on_the_cpu(**settings: object) -> Fabric:
        asked.append(settings)
        return Fabric(accelerator="cpu", devices=1)

    monkeypatch.setattr(twins, "Fabric", on_the_cpu)
    x, y = judged()
    for device in ("cuda:1", "cuda", "cpu"):
        setup = Setup(
            (1, 8, 8), 10, lambda: MLP(hidden=(8,)).build((1, 8, 8), 10), twins._learner, device=torch.device(device)
        )
        assert twins._trained(Standard(), Split(x, y, torch.arange(len(x))), setup, 0) is not None
    assert [settings["devices"] for settings in asked] == [[1], [0], 1]


# ------------------------------------------------------------------------------------------------ records and images


def test_the_gallery_shows_the_same_examples_at_every_eps(classifier: Classifier, judged: Judged) -> None:
    """The first example of each class, whatever the model says of it; images within each eps, said of as they are."""
    x, y = judged()
    verdicts = [
        sparring.evaluate(classifier("cnn", way), (x, y), THREAT, "pgd(steps=5)") for way in ("standard", "pgd")
    ]
    one, other = (verdict.arrays for verdict in verdicts)
    first = [int((y == k).nonzero()[0]) for k in range(10)]
    assert one["gallery/ids"].tolist() == other["gallery/ids"].tolist() == first
    assert one["gallery/eps"].tolist() == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.125, 0.15])
    assert one["gallery/at"].shape == (6, 10, 1, 8, 8)
    assert one["gallery/at"].dtype == np.uint8
    for eps, images in zip(one["gallery/eps"], one["gallery/at"], strict=True):
        assert np.abs(images / 255 - one["gallery/x"]).max() <= eps + 0.5 / 255 + 1e-6
    assert np.allclose(one["gallery/p_at"].sum(2), 1, atol=1e-5)
    assert (one["gallery/p_at"].argmax(2) == y[first].numpy()).sum(1)[0] > (
        one["gallery/p_at"].argmax(2) == y[first].numpy()
    ).sum(1)[-1]
    assert verdicts[0].curve is not None
    assert verdicts[0].curve.worst_case
    assert judge(classifier("cnn", "pgd"), judged()).curve is None


def test_no_check_asks_about_more_images_at_once_than_the_attacks_do(
    classifier: Classifier, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of large images in one batch would not fit in memory; only what is found out asks of 32."""

    class Narrow(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            assert len(x) <= 32
            return self.net(x)

    monkeypatch.setattr("sparring.attacks.crafting.CPU_EXAMPLES", 16)
    x, y = (part.repeat(3, *[1] * (part.ndim - 1)) for part in judged())
    model = Narrow(classifier("mlp", "pgd")).eval()
    verdict = judge(model, (x, y), ("fgsm()", "pgd(steps=12)"), audit="full")
    assert len(verdict.audit) == len(CHECKS)


@pytest.mark.parametrize(("left", "expected"), [(0, "passed"), (12, "fail")])
def test_what_both_attacks_break_is_not_the_declarations_fault(left: int, expected: str) -> None:
    """Of 12 that the naive attack breaks, one who knows the defence breaks all from the same start, or `left` fewer."""
    asked = []

    def attacked(attack: Attack, places: Tensor, *, naive: bool = False) -> Any:
        asked.append((naive, len(places)))
        first = 12 if naive else 12 - left
        return SimpleNamespace(success=torch.arange(len(places)) < first)

    places = torch.arange(100)
    bout = SimpleNamespace(y=torch.zeros(100), x=torch.zeros(100, 1, 2, 2))
    subject = made_up(bare=Declared(1.0), detected=(), standing=places, bout=bout, attacked=attacked)
    assert adaptive(subject).outcome == expected
    assert asked == [(True, 100), (False, 12)]


@pytest.mark.parametrize(("values", "looked_at"), [(4096, 32), (4097, 8)])
def test_of_large_images_the_landscape_is_looked_at_around_fewer(values: int, looked_at: int) -> None:
    seen = []
    bout = SimpleNamespace(x=torch.zeros(100, 1, 1, values))
    subject = made_up(bout=bout, some=lambda rows, most=None: seen.append(most) or rows[:0])
    assert noisy_landscape(subject).outcome == "not run"
    assert seen == [looked_at]


def test_who_always_names_one_class_is_no_robust_model(classifier: Classifier, judged: Judged) -> None:
    """Training that never got under way leaves such a model, and nothing moves it."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (0 * x.flatten(1)[:, :10]) + torch.eye(10)[3]

    (flag,) = [flag for flag in judge(Constant(), judged()).flags if flag.check == "guessing"]
    assert flag.severity == "warn"
    assert "no better than guessing, so" in flag.message
    x, y = judged()
    few = judge(Constant(), (x[y < 2], y[y < 2]))
    (flag,) = [flag for flag in few.flags if flag.check == "guessing"]
    assert "(the model has 10 classes, the labels 2: are they in its order?)" in flag.message
    honest = judge(classifier("mlp", "pgd"), (x[y == 3], y[y == 3]))
    assert next(checked for checked in honest.audit if checked.check == "guessing").outcome == "not run"


def test_where_nothing_stands_the_audit_says_so(judged: Judged) -> None:
    x, _ = judged()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    wrong = (model(x).argmax(1) + 1) % 10
    verdict = judge(model, (x, wrong), ("fgsm()", "pgd(steps=3)"), audit="full")
    assert verdict.robust.value == 0
    of = {checked.check: checked for checked in verdict.audit}
    assert of["silent success"].outcome == of["unfinished optimisation"].outcome == "not run"
    assert "nothing stands" in of["silent success"].evidence


def test_several_trainings_are_audited_by_the_worst_of_them() -> None:
    passed, failed = (Checked("noise", kind, kind) for kind in ("passed", "fail"))
    (pooled,) = _audits([(passed,), (failed,), (passed,)])
    assert pooled.outcome == "fail"
    assert pooled.evidence == "fail (fail in 1 of 3 trainings audited)"
    (one,) = _audits([(passed,), ()])  # a plan may have the first few trainings audited, and says of how many
    assert (one.outcome, "1 of 1 trainings audited" in one.evidence) == ("passed", True)
    assert _audits([(), ()]) == ()


def test_a_level_that_there_is_not_is_refused(classifier: Classifier, judged: Judged) -> None:
    with pytest.raises(InputError, match="audit"):
        judge(classifier("cnn", "pgd"), judged(), audit="thorough")


def test_nan_logits_are_wrong_and_nothing_breaks(classifier: Classifier, judged: Judged) -> None:
    """A network that gives NaN for some images is wrong on them; the audit answers all the same."""

    class Sometimes(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            return torch.where(x.mean((1, 2, 3))[:, None] > 0.33, math.nan, logits)

    verdict = judge(Sometimes(classifier("cnn", "pgd")).eval(), judged())
    assert 0 < verdict.clean.value < 0.9
    assert len(verdict.audit) == len(CHECKS)
    assert replace(verdict, arrays={}).robust.value <= verdict.clean.value
