"""Free adversarial training (Shafahi et al. 2019, arXiv:1904.12843)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.attacks import FGSM, craft
from sparring.attacks.adaptation import differentiable
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import State
from sparring.defences.base import OneNetwork, accuracy, check_step
from sparring.defences.overfitting import remember, watch


@dataclass(frozen=True, kw_only=True)
class Free(OneNetwork):
    """Each batch is replayed: one backward pass moves the weights down the loss and the images' perturbation up it.

    The loss is the cross-entropy on x + delta alone. Each of the `replays` steps the weights once, and delta by
    `rel_step_size` of eps, projected back; the next batch begins with the delta that this one ended with. Train for
    1 / `replays` of the epochs that other training takes: that is what makes it free. The authors take 8 replays on
    CIFAR-10 and 4 on ImageNet.
    """

    name = "free"
    source = "arXiv:1904.12843"
    threat: ThreatModel
    replays: int = 8
    rel_step_size: float = 1.0

    def __post_init__(self) -> None:
        if self.replays < 1:
            raise InputError(f"free: replays must be at least 1, not {self.replays}")
        check_step(self.name, self.rel_step_size)

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        learner, size = state.learners["classifier"], self.rel_step_size * self.threat.reach(x)
        kept, losses, right = _padded(state.extra.get("delta", x[:0]), x), [], []
        x_adv = self.threat.project(x + kept[: len(x)], x)
        for _ in range(self.replays):
            x_adv.requires_grad_(True)
            with differentiable(learner.network):  # a mask without a gradient of its own passes on another
                logits = learner.network(x_adv)
            loss = F.cross_entropy(logits, y)
            learner.update(loss)
            grad, x_adv = x_adv.grad, x_adv.detach()
            if grad is None:
                raise InputError("free: the model gives no gradient with respect to its input")
            x_adv = self.threat.project(x_adv + self.threat.ascent(x_adv, grad, size), x)
            losses.append(loss.detach())
            right.append(accuracy(logits, y))
        state.extra["delta"] = torch.cat([x_adv - x, kept[len(x) :]])
        remember(state, x, y)
        return {"loss": torch.stack(losses).mean(), "adversarial_accuracy": torch.stack(right).mean()}

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        net = self.deploy(state)
        metrics.update(watch(state, net, self.threat, lambda x, y: craft(FGSM(), net, x, y, self.threat, seed=0)))


def _padded(delta: Tensor, x: Tensor) -> Tensor:
    """Return delta with a row of zeros for each image of `x` that it has none for: all of them in the first batch."""
    missing = max(len(x) - len(delta), 0)
    return torch.cat([delta, x.new_zeros(missing, *x.shape[1:])])
