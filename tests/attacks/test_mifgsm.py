"""What is special to MI-FGSM: the paper's sum of scaled gradients, and steps that together just reach eps."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError, run
from sparring.attacks import ATTACKS, MIFGSM, PGD, craft
from sparring.core.threat import THREATS

NORMS = ("linf", "l2", "l1")


def by_the_book(net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, *, steps: int, decay: float) -> Tensor:
    """Algorithm 1 of the paper, one image at a time, with the sign of the sum (Linf) or its direction (L2)."""
    images = []
    for image, label in zip(x.split(1), y.split(1), strict=True):
        moved, total = image, torch.zeros_like(image)
        for _ in range(steps):
            at = moved.clone().requires_grad_()
            F.cross_entropy(net(at), label).backward()
            total = decay * total + at.grad / at.grad.abs().sum()
            free = ~(((moved == 0) & (total < 0)) | ((moved == 1) & (total > 0)))  # or L2 spends on what is cut off
            way = total.sign() if norm == "linf" else total * free / (total * free).norm()
            moved = (moved + eps / steps * way).clamp(0, 1)
        images.append(moved)
    return torch.cat(images)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.7)])
def test_the_full_course_is_that_of_the_paper(
    norm: str, eps: float, decay: float, net: nn.Module, data: SimpleNamespace
) -> None:
    found = craft(MIFGSM(steps=6, decay=decay), net, data.x, data.y, THREATS.parse(f"{norm}({eps})"), seed=0)
    assert torch.allclose(found, by_the_book(net, data.x, data.y, norm, eps, steps=6, decay=decay), atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_two_classes_fall_exactly_where_they_must(norm: str, linear: Callable) -> None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(2, 16, generator=generator)
    net = linear(weight, -weight.sum(1) / 2)
    x = 0.45 + 0.1 * torch.rand(24, 1, 4, 4, generator=generator)
    with torch.no_grad():
        logits = net(x)
    dual = torch.linalg.vector_norm(weight[0] - weight[1], ord={"linf": 1, "l2": 2, "l1": math.inf}[norm])
    reach = (logits[:, 0] - logits[:, 1]).abs() / dual
    for eps in reach.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist():
        found = run(MIFGSM(), net, x, logits.argmax(1), f"{norm}({eps})")
        clear = (eps / reach - 1).abs() > 1e-3
        assert clear.sum() >= 22
        assert torch.equal(found.success[clear], (reach < eps)[clear])


@pytest.mark.parametrize("norm", NORMS)
def test_the_steps_together_just_reach_eps(norm: str, linear: Callable) -> None:
    net = linear(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.tensor([1])
    for steps in (1, 3, 10):
        found = craft(MIFGSM(steps=steps), net, x, y, THREATS.parse(f"{norm}(0.2)"), seed=0)
        assert THREATS.parse(f"{norm}(0.2)").distance(found, x).item() == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_without_decay_it_is_pgd_from_the_image_itself(norm: str, net: nn.Module, data: SimpleNamespace) -> None:
    plain = PGD(steps=4, rel_step_size=0.25, random_start=False)
    one, other = (run(a, net, data.x, data.y, f"{norm}(0.3)") for a in (MIFGSM(steps=4, decay=0.0), plain))
    assert torch.allclose(one.x, other.x, atol=1e-6)
    assert torch.equal(one.success, other.success)


@pytest.mark.parametrize(
    "spec", ["mifgsm(steps=0)", "mifgsm(decay=-0.1)", "mifgsm(decay=inf)", "mifgsm(decay=inf-inf)"]
)
def test_settings_that_can_attack_nothing_are_refused(spec: str) -> None:
    with pytest.raises(InputError, match="mifgsm: "):
        ATTACKS.parse(spec)
