"""Adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks.freezing import still_statistics
from sparring.core.errors import InputError
from sparring.core.trainable import State
from sparring.defences.base import Defence, Wrapper, hard
from sparring.defences.crafted import Perturbing


@dataclass(frozen=True, kw_only=True)
class AWP(Wrapper):
    """Takes each step of another defence at the weights nearby where its loss on the same images is highest.

    One step up the gradient, in each weight matrix as long as `gamma` of the matrix itself; then the defence's step;
    then the perturbation is taken away again. It begins when the share `warmup` of training is done. The authors take
    gamma 0.01 around adversarial training and 0.005 around TRADES.
    """

    name = "awp"
    source = "arXiv:2004.05884"
    defence: Defence
    gamma: float = 0.005
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.defence, Perturbing):
            raise InputError(f"awp: goes around a defence that crafts images, not around {self.defence.name}")
        if not 0 < self.gamma < 1:
            raise InputError(f"awp: gamma is a share of the weights above 0, not {self.gamma}")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"awp: warmup is a share of training, 0 to 1, not {self.warmup}")

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        assert isinstance(self.defence, Perturbing)
        self.defence.keep(state, x, y)
        learner = state.learners["classifier"]
        net = learner.network
        x_adv = self.defence.images(net, x, hard(y), generator=generator)
        if progress < self.warmup:
            loss, metrics = self.defence.compare(net, x, x_adv, y)
            learner.update(loss)
            return {"loss": loss.detach(), **metrics}
        with still_statistics(net):
            loss, _ = self.defence.compare(net, x, x_adv, y)
            weights = [weight for weight in net.parameters() if weight.ndim > 1 and weight.requires_grad]
            grads = torch.autograd.grad(loss, weights, materialize_grads=True)  # of an unused one, 0
        with perturbed(weights, grads, self.gamma):
            loss, metrics = self.defence.compare(net, x, x_adv, y)
            learner.update(loss)
        return {"loss": loss.detach(), **metrics}


@contextmanager
def perturbed(weights: list[nn.Parameter], grads: tuple[Tensor, ...], gamma: float) -> Iterator[None]:
    """Hold weights up their gradients, each by `gamma` of its own norm."""
    tiny = torch.finfo(torch.float32).tiny
    steps = [gamma * w.detach().norm() / g.norm().clamp(min=tiny) * g for w, g in zip(weights, grads, strict=True)]
    with torch.no_grad():
        for weight, step in zip(weights, steps, strict=True):
            weight.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight.sub_(step)
