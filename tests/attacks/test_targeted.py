"""What is special to targeted gradient images: the paper's loop, which class is chosen, and when an example ends."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError, run
from sparring.attacks import ATTACKS, Crafting, Targeted, craft
from sparring.core.threat import THREATS


@pytest.fixture
def sharp(net: nn.Sequential) -> nn.Module:
    """Give the small network with logits four times as large, so that it can be sure of something."""
    with torch.no_grad():
        net[-1].weight.mul_(4)
        net[-1].bias.mul_(4)
    return net


def probability(net: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).softmax(1).gather(1, target[:, None]).squeeze(1)


def paper_004(
    net: nn.Module, image: Tensor, target: Tensor, limit: float, *, step: float, confidence: float, steps: int
) -> tuple[Tensor, int]:
    """Do as the paper's code does with one image; give it and the number of gradients that were of use."""
    noise = torch.zeros_like(image)
    for done in range(steps):
        at = (image + noise).clamp(0, 1).requires_grad_()
        if probability(net, at, target) >= confidence:
            return at.detach(), done
        F.cross_entropy(net(at), target).backward()
        noise = (at.detach() - image - step * at.grad / at.grad.abs().max()).clamp(-limit, limit)
    return (image + noise).clamp(0, 1), steps


@pytest.mark.parametrize(("limit", "reached"), [(0.05, False), (0.4, True)])
def test_it_makes_the_images_of_the_papers_code(
    limit: float, reached: bool, sharp: nn.Module, data: SimpleNamespace
) -> None:
    net, target = sharp, (data.y + 2) % 5
    attack = Targeted(steps=30, confidence=0.9)
    found = run(attack, net, data.x, data.y, f"linf({limit})", target=target)
    for i in range(len(data.x)):
        rows = slice(i, i + 1)
        image, done = paper_004(
            net, data.x[rows], target[rows], limit, step=7 / 3 * limit, confidence=0.9, steps=attack.steps
        )
        assert (done < attack.steps) == reached
        if reached:
            assert torch.allclose(found.x[rows], image, atol=1e-5)
            assert found.backwards[i] == done + 1
        else:  # the paper keeps the last image, this the one that is likeliest
            assert probability(net, found.x[rows], target[rows]) >= probability(net, image, target[rows]) - 1e-5
            assert found.backwards[i] == attack.steps


def test_an_example_ends_when_the_model_is_sure_and_not_before(sharp: nn.Module, data: SimpleNamespace) -> None:
    net, target = sharp, (data.y + 1) % 5
    costs = []
    for confidence in (0.0, 0.5, 0.9, 0.99):
        attack = Targeted(confidence=confidence, rel_step_size=0.2)
        found = run(attack, net, data.x, data.y, "linf(0.9)", target=target)
        assert found.success.all()
        assert (probability(net, found.x, target) >= confidence).all()
        costs.append(found.forwards)
    assert all(bool((more >= less).all()) for less, more in pairwise(costs))
    assert costs[0].sum() < costs[-1].sum()
    assert costs[-1].max() < 100


def test_a_success_that_is_not_sure_yet_counts_when_a_budget_ends_the_attack(
    sharp: nn.Module, data: SimpleNamespace
) -> None:
    attack = Targeted(rel_step_size=0.05, confidence=1.0)  # of which it is never sure
    whole = run(attack, sharp, data.x, data.y, "linf(0.5)")
    assert whole.success.all()
    for budget in (10, 30):
        cut = run(attack, sharp, data.x, data.y, "linf(0.5)", crafting=Crafting(max_forwards=budget))
        course = run(replace(attack, steps=budget - 2), sharp, data.x, data.y, "linf(0.5)")
        assert cut.forwards.max() == budget
        assert course.success.any()
        assert torch.equal(cut.success, course.success)


def test_float32_is_asked_only_about_what_bfloat16_is_sure_of(sharp: nn.Module, data: SimpleNamespace) -> None:
    attack = Targeted(steps=20, confidence=1.0)
    found = run(attack, sharp, data.x, data.y, "linf(0.5)", crafting=Crafting(precision="bf16-mixed"))
    assert found.success.any()
    assert found.forwards.tolist() == [22] * len(data.x)


def easy(linear: Callable, classes: int) -> nn.Module:
    """Give a classifier in which pixel k speaks for class k."""
    return linear(8 * torch.eye(classes))


def test_the_random_target_is_any_class_but_the_true_one(linear: Callable) -> None:
    net, x, y = easy(linear, 5), torch.full((400, 1, 1, 5), 0.3), torch.full((400,), 2)
    x[..., 2] += 0.1
    found = run(Targeted(), net, x, y, "linf(0.3)")
    reached = found.logits.argmax(1).bincount(minlength=5)
    assert reached[2] == 0
    assert reached[[0, 1, 3, 4]].min() > 70  # 100 expected of each
    again = run(Targeted(), net, x, y, "linf(0.3)", seed=1)
    assert not torch.equal(again.logits.argmax(1), found.logits.argmax(1))


def test_two_classes_leave_one_target(linear: Callable) -> None:
    net, x = easy(linear, 2), torch.tensor([[0.6, 0.4], [0.4, 0.6]]).view(2, 1, 1, 2)
    for towards in ("random", "least_likely"):
        found = run(Targeted(towards=towards), net, x, torch.tensor([0, 1]), "linf(0.3)")
        assert found.logits.argmax(1).tolist() == [1, 0]


def test_the_least_likely_class_is_the_least_likely_and_restarts_take_the_next(linear: Callable) -> None:
    net, y = easy(linear, 4), torch.tensor([3])
    x = torch.tensor([0.3, 0.2, 0.4, 0.6]).view(1, 1, 1, 4)
    assert run(Targeted(towards="least_likely"), net, x, y, "linf(0.4)").logits.argmax(1).item() == 1
    out_of_reach = linear(8 * torch.eye(4), torch.tensor([0.0, -50.0, 0.0, 0.0]))
    for restarts, class_ in ((1, 2), (2, 0)):  # towards class 1, class 3 falls back behind class 2
        attack = Targeted(towards="least_likely", restarts=restarts)
        assert run(attack, out_of_reach, x, y, "linf(0.4)").logits.argmax(1).item() == class_


def test_with_as_many_restarts_as_wrong_classes_each_is_tried(linear: Callable) -> None:
    net = linear(8 * torch.eye(4), torch.tensor([0.0, -50.0, -50.0, 0.0]))  # of the wrong classes only 3 can win
    x, y = torch.full((40, 1, 1, 4), 0.3), torch.zeros(40).long()
    x[..., 0] = 0.5
    one, every = (run(Targeted(restarts=n), net, x, y, "linf(0.3)").success for n in (1, 3))
    assert 0 < one.sum() < 40
    assert every.all()


class Passage(nn.Module):
    """One grey value: class 1 in a passage that leads from class 0 to class 0 again; class 2 for ever out of reach."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.flatten(1).sum(1)
        passage = 2 - 20 * (grey.detach() - 0.5).abs()
        return torch.stack([torch.ones_like(grey), passage, grey - 5], dim=1)


def test_an_image_that_fools_on_the_way_is_not_lost() -> None:
    x, y = torch.full((1, 1, 1, 1), 0.4), torch.tensor([0])
    attack = Targeted(steps=10, rel_step_size=0.1, towards="least_likely")
    found = run(attack, Passage(), x, y, "linf(0.5)")
    assert found.success.all()
    assert found.logits.argmax(1).item() == 1
    missed = run(attack, Passage(), x, y, "linf(0.5)", target=torch.tensor([2]))
    assert not missed.success.any()
    assert missed.x.item() == pytest.approx(0.9)  # as near to the target as it came


def test_training_images_are_made_for_examples_right_or_wrong(net: nn.Module, data: SimpleNamespace) -> None:
    x_adv = craft(Targeted(steps=5), net, data.x, data.wrong, THREATS.parse("linf(0.1)"), seed=0)
    assert bool(((x_adv - data.x).flatten(1).abs().amax(1) > 0.05).all())


@pytest.mark.parametrize(
    "spec",
    [
        "targeted(steps=0)",
        "targeted(restarts=0)",
        "targeted(rel_step_size=0)",
        "targeted(rel_step_size=inf)",
        "targeted(confidence=1.1)",
        "targeted(confidence=-0.1)",
        "targeted(confidence=inf-inf)",
    ],
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="targeted: "):
        ATTACKS.parse(spec)
