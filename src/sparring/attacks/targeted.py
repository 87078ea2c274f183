"""Targeted gradient images (Liang, Hayes & Althoff 2017, "Deep Adversarial Robustness")."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.active import Worst, is_image
from sparring.attacks.base import Attack
from sparring.attacks.losses import cross_entropy, likeliest, succeeded
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Targeted(Attack):
    """Steps down the gradient of the cross-entropy of one wrong class, each pixel within eps, until the model is sure.

    The gradient itself, not its sign, scaled so that the strongest pixel moves by `rel_step_size` of eps: 7 grey levels
    where eps is 3, as in the paper's code. An example ends when its target has a probability of `confidence`, or after
    `steps`; then the next of its `restarts` tries another class.

    `towards`: which class, where the caller gives no target: one drawn at random, never the true one, or the least
    likely. Success is then what `run` says it is without a target: any class but the true one. An image that fools is
    kept rather than one that does not, and else the one whose target is likeliest.
    """

    name = "targeted"
    source = "github.com/davisliang/adversarial"
    kind = "budget"
    norms = ("linf",)
    steps: int = 100
    rel_step_size: float = 7 / 3
    confidence: float = 0.99
    towards: Literal["random", "least_likely"] = "random"
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise InputError(f"targeted: steps and restarts must be at least 1, not {self.steps} and {self.restarts}")
        if not 0 < self.rel_step_size < math.inf:
            raise InputError(f"targeted: rel_step_size is a share of eps above 0, not {self.rel_step_size}")
        if not 0 <= self.confidence <= 1:
            raise InputError(f"targeted: confidence is a probability, not {self.confidence}")

    def perturb(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        target: Tensor | None = None,
        stop: bool = True,
    ) -> Tensor:
        drawn = self.towards == "random" and target is None
        draw = oracle.uniform(1) if drawn else y.new_zeros(len(y), 1)
        active = _Sure(oracle, x, y, target, draw, stop=stop, confidence=self.confidence)
        for restart in range(self.restarts if target is None else 1):  # to one target there is one way
            active.purge()
            if not len(active):
                break
            active.towards = self._chosen(oracle, active, restart) if active.target is None else active.target
            self._descend(oracle, active, threat)
        return active.worst

    def _descend(self, oracle: Oracle, active: "_Sure", threat: ThreatModel) -> None:
        warm, step_size = oracle.warm_start(), self.rel_step_size * threat.reach(active.x)
        x_adv = active.x if warm is None else threat.project(warm, active.x)
        for _ in range(self.steps):
            _, grad, logits = oracle.value_and_gradient(x_adv, lambda z: cross_entropy(z, active.y, active.towards))
            kept = active.record(x_adv, active.merit(logits), logits)
            if kept is not None:
                x_adv, grad = x_adv[kept], grad[kept]
            if not len(active):
                return
            strongest = grad.flatten(1).abs().amax(1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
            x_adv = threat.project(x_adv + grad.div_(strongest).mul_(step_size), active.x)
        logits = oracle.logits(x_adv)
        active.record(x_adv, active.merit(logits), logits)

    def _chosen(self, oracle: Oracle, active: "_Sure", restart: int) -> Tensor:
        """Return a wrong class for each active row, (B,).

        A place among the wrong classes from likeliest to least likely is drawn, not a number, so that renaming the
        classes changes nothing.
        """
        order = likeliest(oracle.logits(active.x), active.y)
        wrong = order.shape[1]
        if self.towards == "least_likely":
            return order[:, wrong - 1 - restart % wrong]
        place = ((active.draw * wrong).long() + restart) % wrong
        return order.gather(1, place).squeeze(1)


class _Sure(Worst):
    """Ends an example only when the class that it is led `towards` has enough probability."""

    def __init__(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        target: Tensor | None,
        draw: Tensor,
        *,
        stop: bool,
        confidence: float,
    ) -> None:
        super().__init__(oracle, x, y, target, stop=stop)
        self.draw, self.towards, self._confidence = draw, y, confidence

    def fooled(self, x_adv: Tensor, logits: Tensor) -> Tensor:
        """Return which active rows are fooled as is wished, and not yet finished, (B,)."""
        fooled = succeeded(logits, self.y, self.target) & is_image(x_adv)
        self._oracle.note(fooled, x_adv)  # where a budget ends the attack, any success counts
        sure = fooled & (self._likelihood(logits) >= self._confidence) & ~self._done
        return self._oracle.confirm(sure, x_adv, self._judge)

    def merit(self, logits: Tensor) -> Tensor:
        """Return the probability of the class that each example is led towards, and 1 more where it is fooled, (B,)."""
        return self._likelihood(logits) + succeeded(logits, self.y, self.target)

    def _likelihood(self, logits: Tensor) -> Tensor:
        return logits.softmax(1).gather(1, self.towards[:, None]).squeeze(1)

    def _leave(self, kept: Tensor) -> Tensor:
        self.draw, self.towards = self.draw[kept], self.towards[kept]
        return super()._leave(kept)
