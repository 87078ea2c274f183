"""Generative adversarial trainer, GAT (Lee, Han & Lee 2017, arXiv:1705.03387)."""

from dataclasses import dataclass

from torch import Tensor

from sparring.core.errors import InputError
from sparring.defences.game import Game
from sparring.models.perturber import Perturber


@dataclass(frozen=True, kw_only=True)
class GAT(Game):
    """The game of an adversary that sees, of each image, the gradient of the defender's loss.

    It descends the mean of p_y(x + G) + power * |G|^2: the probability of the right class, and its perturbation's
    squared length. The authors bound G by `power` alone; here `threat` does, so that it is 0. They weigh clean and
    perturbed images alike. All else is as in `gan_game`.
    """

    name = "gat"
    source = "arXiv:1705.03387"
    perturber: Perturber = Perturber(sees="gradient")
    power: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.power >= 0:
            raise InputError(f"gat: power must be at least 0, not {self.power}")

    def adversary_loss(self, logits: Tensor, y: Tensor, delta: Tensor) -> Tensor:
        right = logits.softmax(1).gather(1, y[:, None]).mean()
        return right + self.power * delta.flatten(1).square().sum(1).mean()
