"""Agreement with attacks written by the book, in plain PyTorch, without a line of Sparring: the same examples fall.

Each is what a tutorial or a popular library does: `backward`, one norm a function, no skipping, no stopping.
"""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import evaluate, run


@pytest.fixture(scope="module")
def bout(make_net: Callable, make_data: Callable) -> SimpleNamespace:
    """Give a network trained a little on stripes, and 60 images of them."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = 0.3 * torch.rand(60, 1, 6, 6, generator=generator) + 0.35
    for row in range(60):
        x[row, 0, y[row] :: 3] += 0.15
    net = make_net(2, classes=3, dropout=0.0).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    net.eval()
    net.zero_grad()
    with torch.no_grad():
        right = net(x).argmax(1) == y
    assert right.float().mean() > 0.9
    return SimpleNamespace(net=net, x=x, y=y, right=right)


def input_gradient(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_(True)
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()  # the mean: a step in the sign or the direction does not mind
    net.zero_grad()
    return x.grad.detach()


def fooled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).argmax(1) != y


def book_fgsm(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return torch.clamp(x + eps * input_gradient(net, x, y).sign(), 0, 1)


def book_pgd_linf(net: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> list[Tensor]:
    images = [x]
    for _ in range(steps):
        moved = images[-1] + step_size * input_gradient(net, images[-1], y).sign()
        images.append(torch.clamp(x + torch.clamp(moved - x, -eps, eps), 0, 1))
    return images


def book_pgd_l2(net: nn.Module, x: Tensor, y: Tensor, eps: float, step_size: float, steps: int) -> list[Tensor]:
    images = [x]
    for _ in range(steps):
        grad = input_gradient(net, images[-1], y)
        grad = grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        delta = images[-1] + step_size * grad - x
        delta = delta * (eps / delta.flatten(1).norm(dim=1).clamp(min=eps)).view(-1, 1, 1, 1)
        images.append(torch.clamp(x + delta, 0, 1))
    return images


@pytest.mark.parametrize("eps", [0.02, 0.05, 0.1])
def test_fgsm_fools_the_same_examples(eps: float, bout: SimpleNamespace) -> None:
    book = book_fgsm(bout.net, bout.x, bout.y, eps)
    found = run("fgsm()", bout.net, bout.x, bout.y, f"linf({eps})")
    assert torch.allclose(found.x[bout.right], book[bout.right], atol=1e-6)
    assert torch.equal(found.success, fooled(bout.net, book, bout.y) | ~bout.right)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("linf", 0.05), ("l2", 0.15), ("l2", 0.3)])
def test_pgd_fools_the_same_examples(norm: str, eps: float, bout: SimpleNamespace) -> None:
    attack = {"linf": book_pgd_linf, "l2": book_pgd_l2}[norm]
    images = attack(bout.net, bout.x, bout.y, eps, 0.1 * eps, 20)
    assert all(bool(((image > 0) & (image < 1)).all()) for image in images)  # else projecting twice is not exact in L2
    broken = torch.stack([fooled(bout.net, image, bout.y) for image in images])
    found = run("pgd(steps=20, random_start=False)", bout.net, bout.x, bout.y, f"{norm}({eps})")
    assert torch.equal(found.success, broken.any(0))
    assert 0 < int(found.success.sum()) < 60
    first = broken.int().argmax(0)
    for row in (found.success & ~found.skipped).nonzero().squeeze(1).tolist():
        assert torch.allclose(found.x[row], images[int(first[row])][row], atol=1e-5)


def test_the_verdict_is_that_of_the_book_attacks_together(bout: SimpleNamespace) -> None:
    eps = 0.04
    images = [book_fgsm(bout.net, bout.x, bout.y, eps), *book_pgd_linf(bout.net, bout.x, bout.y, eps, 0.1 * eps, 20)]
    broken = torch.stack([fooled(bout.net, image, bout.y) for image in images]).any(0)
    verdict = evaluate(
        bout.net, (bout.x, bout.y), f"linf({eps})", ["fgsm()", "pgd(steps=20, random_start=False)"], curve=()
    )
    assert verdict.clean.value == pytest.approx(float(bout.right.float().mean()))
    assert verdict.robust.value == pytest.approx(float((~broken).float().mean()))


def test_no_parameter_gradient_is_left_as_backward_would(bout: SimpleNamespace) -> None:
    run("pgd(steps=3)", bout.net, bout.x, bout.y, "linf(0.05)")
    assert all(parameter.grad is None for parameter in bout.net.parameters())
