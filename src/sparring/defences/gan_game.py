"""GAN adversarial training (Dhillon & Pavse 2018)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sparring.defences.game import Game


@dataclass(frozen=True, kw_only=True)
class GanGame(Game):
    """A network learns to perturb images within `threat` so that the defender errs, while the defender learns.

    The adversary climbs the loss that the defender descends, CE(f(x + A(x)), y). The defender trains on clean and on
    perturbed images, (1 - mix) * CE(f(x), y) + mix * CE(f(x + A(x)), y). `adversary` and `defender` name runs that they
    begin from; with `defender_updates=0` the adversary trains alone. It stays in the run, for `learned(run=...)`.
    """

    name = "gan_game"
    source = "Dhillon & Pavse 2018"

    def adversary_loss(self, logits: Tensor, y: Tensor, delta: Tensor) -> Tensor:
        return -F.cross_entropy(logits, y)
