"""What an attack climbs: losses of logits (B, K), one value an example, higher when closer to success.

Each comes untargeted (away from `y`) and targeted (towards `target`). Adding a constant to all logits changes nothing.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["cross_entropy", "margin", "dlr"]


def objective(loss: Loss, logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Return the named loss, (B,)."""
    if loss == "cross_entropy":
        return cross_entropy(logits, y, target)
    return margin(logits, y, target) if loss == "margin" else dlr(logits, y, target)


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of `y`, or less that of `target`."""
    if target is not None:
        return -F.cross_entropy(logits, target, reduction="none")
    return F.cross_entropy(logits, y, reduction="none")


def log_odds(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the logarithm of the odds against `y`, (1 - p) / p, or of those for `target`.

    It rises wherever the cross-entropy does, along the same direction, and never saturates: of a model that is all too
    sure, the cross-entropy's own gradient is 0 in float32.
    """
    wanted = y if target is None else target
    of_wanted = logits.gather(1, wanted[:, None]).squeeze(1)
    of_others = logits.scatter(1, wanted[:, None], -math.inf).logsumexp(1)
    return of_others - of_wanted if target is None else of_wanted - of_others


def margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the best other logit less that of `y` (or the target's less the best other): positive means success."""
    wanted = y if target is None else target
    of_wanted = logits.gather(1, wanted[:, None]).squeeze(1)
    best_other = logits.scatter(1, wanted[:, None], -math.inf).amax(1)
    return best_other - of_wanted if target is None else of_wanted - best_other


def dlr(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the difference-of-logits ratio (Croce & Hein 2020, arXiv:2003.01690, eq. 6 and 7).

    The margin over a spread of the sorted logits, so that scaling the logits changes nothing either. With fewer classes
    than the spread needs (3 untargeted, 4 targeted) the ratio would be constant, and the margin itself is returned.
    """
    if logits.shape[1] < (3 if target is None else 4):
        return margin(logits, y, target)
    ordered = logits.sort(dim=1, descending=True).values
    if target is None:
        return margin(logits, y) / (ordered[:, 0] - ordered[:, 2] + 1e-12)
    towards = logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])
    return towards.squeeze(1) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """Return how far predictions went from those on the original images, KL(clean || now), (B,); no label needed."""
    return F.kl_div(logits.log_softmax(1), clean.log_softmax(1), reduction="none", log_target=True).sum(1)


def likeliest(logits: Tensor, y: Tensor) -> Tensor:
    """Return the classes other than `y`, (B, K - 1), the likeliest first."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    last = (order == y[:, None]).int().argsort(dim=1, stable=True)  # y to the end, though others may be at -inf
    return order.gather(1, last)[:, :-1]


def succeeded(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return which examples are fooled, (B,): classified as other than `y`, or as `target`.

    A prediction with NaN in it is not a right one.
    """
    broken = torch.isnan(logits).any(1)
    predicted = logits.argmax(1)
    return (predicted != y) | broken if target is None else (predicted == target) & ~broken
