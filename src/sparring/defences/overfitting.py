"""Catastrophic overfitting: a network trained on images of one step may learn to hold against that step alone.

Wong, Rice & Kolter (2020, arXiv:2001.03994) name it: accuracy under PGD falls to about 0, while that under the
training's own step stays or rises. The loss does not show it, so the end of each epoch looks at the last examples
trained on, under both. It counts as overfitting where accuracy under PGD is more than `GAP` below. Where they are truly
0.15 apart, so much shows on 128 examples once in a hundred thousand times; a LeNet on MNIST had them 0.02 apart after
`fast` at eps 0.1, and 0.79 after FGSM at 0.3. A gap may also open before PGD's accuracy has ever been high: then too,
what one step says is worth nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.attacks import FGSM, MIFGSM, PGD, Attack, craft
from sparring.attacks.freezing import frozen
from sparring.core.threat import ThreatModel
from sparring.core.trainable import State
from sparring.defences.base import accuracy

WATCHED = 128  # examples
GAP = 0.3
STRONGER = PGD(steps=10, rel_step_size=0.25)


def takes_one_step(attack: Attack) -> bool:
    """Return whether an attack follows a single gradient."""
    return isinstance(attack, FGSM) or (isinstance(attack, PGD | MIFGSM) and attack.steps == 1)


def remember(state: State, x: Tensor, y: Tensor) -> None:
    """Keep the last examples trained on, newest first, for `watch`."""
    for name, rows in (("watched.x", x), ("watched.y", y)):
        newest = rows[:WATCHED]
        older = state.extra.get(name, rows[:0])
        state.extra[name] = torch.cat([newest, older[: WATCHED - len(newest)]])


def watch(
    state: State, net: nn.Module, threat: ThreatModel, images: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, float]:
    """Return the accuracy on the kept examples as `images` perturbs them and under PGD; and 1 for overfitting, else 0.

    The network is as it was. Nothing is returned where nothing was kept.
    """
    if "watched.x" not in state.extra:
        return {}
    x, y = state.extra["watched.x"], state.extra["watched.y"]
    one_step = _accuracy(net, images(x, y), y)
    pgd = _accuracy(net, craft(STRONGER, net, x, y, threat, seed=0), y)
    return {"one_step_accuracy": one_step, "pgd_accuracy": pgd, "overfitting": float(one_step - pgd > GAP)}


def _accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with frozen(net), torch.no_grad():
        return float(accuracy(net(x), y))
