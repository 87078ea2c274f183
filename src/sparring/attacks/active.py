"""The active set: finished examples leave the batch when that pays, and the best image of each example is kept.

`Worst` is for budget attacks, which end at the first success; `Closest` for minimal ones, which look for a nearer one.
"""

import math

import torch
from torch import Tensor

from sparring.attacks.losses import margin, succeeded
from sparring.attacks.oracle import Oracle
from sparring.core.threat import ThreatModel

WORTH = 16  # finished rows leave when they are one in so many: sooner, moving the others would cost more than it saves
CLEAR = 1e-5  # of the logits' range: a smaller lead may be gone in another batch, whose products round differently


def is_image(x_adv: Tensor) -> Tensor:
    """Return which are images, without NaN or inf in them, (B,): a model's answer to anything else says nothing."""
    return x_adv.flatten(1).sum(1).isfinite()


def _range(logits: Tensor) -> Tensor:
    """Return how far the logits reach, (B,), less the lowest quarter: a class that is ruled out may lie at -inf."""
    return logits.amax(1) - logits.kthvalue(1 + (logits.shape[1] - 1) // 4).values


class ActiveSet:
    """The rows of a batch that are still under attack: `x`, `y` and `target` hold these only."""

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, target: Tensor | None) -> None:
        self.x, self.y, self.target = x, y, target
        self._oracle = oracle
        self._rows = torch.arange(len(x), device=x.device)
        self._done = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def __len__(self) -> int:
        return len(self._rows)

    def fooled(self, x_adv: Tensor, logits: Tensor) -> Tensor:
        """Return which active rows are fooled and not yet finished, confirmed in float32, (B,)."""
        fooled = succeeded(logits, self.y, self.target) & is_image(x_adv) & ~self._done
        return self._oracle.confirm(fooled, x_adv, self._judge)

    def purge(self) -> None:
        """Take out the finished rows that are still in the batch, before a fresh start."""
        if bool(self._done.any()):
            self._leave(~self._done)

    def _judge(self, logits: Tensor, rows: Tensor) -> Tensor:
        return succeeded(logits, self.y[rows], None if self.target is None else self.target[rows])

    def _finish(self, done: Tensor) -> Tensor | None:
        """Mark these active rows as finished; if rows leave the batch now, return flags of those that stay."""
        if not bool(done.any()):
            return None
        self._oracle.finish(done)
        self._done = self._done | done
        if int(self._done.sum()) * WORTH < len(self._done):
            return None
        return self._leave(~self._done)

    def _leave(self, kept: Tensor) -> Tensor:
        self._oracle.keep(kept)
        self._rows, self.x, self.y, self._done = self._rows[kept], self.x[kept], self.y[kept], self._done[kept]
        self.target = None if self.target is None else self.target[kept]
        return kept


class Worst(ActiveSet):
    """Keeps the image of the highest loss; with `stop` an example ends at its first success."""

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, target: Tensor | None, *, stop: bool) -> None:
        super().__init__(oracle, x, y, target)
        self._all, self._stop = x.clone(), stop
        self._image, self._loss = x, torch.full((len(x),), -math.inf, device=x.device)

    @property
    def worst(self) -> Tensor:
        """The worst image of each example of the whole batch, (B, C, H, W)."""
        self._all[self._rows] = self._image
        return self._all

    def record(self, x_adv: Tensor, loss: Tensor, logits: Tensor, fooled: Tensor | None = None) -> Tensor | None:
        """Note what was found for the active rows; if rows leave the batch now, return flags of those that stay.

        `fooled`: what `fooled` has said of these images, where it was asked already.
        """
        better = loss > self._loss
        if self._stop:
            fooled = self.fooled(x_adv, logits) if fooled is None else fooled
            better = (better & ~self._done) | fooled
        self._image = torch.where(better.view(-1, 1, 1, 1), x_adv, self._image)
        self._loss = torch.where(better, loss, self._loss)
        if not self._stop or fooled is None:
            return None
        self._oracle.note(fooled, x_adv)
        return self._finish(fooled)

    def _leave(self, kept: Tensor) -> Tensor:
        self._all[self._rows] = self._image
        self._image, self._loss = self._image[kept], self._loss[kept]
        return super()._leave(kept)


class Closest(ActiveSet):
    """Keeps the nearest image that fools in `best`, and its `distance` (inf: none), for the whole batch.

    An image that fools by no more than rounding is kept only while there is no other. With `stop`
    and a finite eps, an example ends as soon as an image within eps is found.
    """

    def __init__(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        target: Tensor | None,
        *,
        stop: bool,
        clear: float = CLEAR,
    ) -> None:
        super().__init__(oracle, x, y, target)
        self.best, self.distance = x.clone(), torch.full((len(x),), math.inf, device=x.device, dtype=x.dtype)
        self._clear = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._threat, self._stop = threat, stop and math.isfinite(threat.eps)
        self._least = clear

    @property
    def reached(self) -> Tensor:
        """The distances of the active rows, (B,)."""
        return self.distance[self._rows]

    @property
    def nearest(self) -> Tensor:
        """The best images of the active rows, (B, C, H, W)."""
        return self.best[self._rows]

    def record(self, x_adv: Tensor, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Keep nearer successes; return which active rows are fooled, and `kept`: None, or flags of those that stay.

        The first is about the rows before any left.
        """
        fooled = self.fooled(x_adv, logits)
        distance = self._threat.distance(x_adv, self.x)
        lead, least = margin(logits, self.y, self.target), self._least * _range(logits)
        clear = lead > least
        before = self._clear[self._rows]
        nearer = fooled & torch.where(clear == before, distance < self.reached, clear)
        rows = self._rows[nearer]
        self.best[rows], self.distance[rows], self._clear[rows] = x_adv[nearer], distance[nearer], clear[nearer]
        self._oracle.note(nearer, x_adv)
        return fooled, self._finish(nearer & clear & (distance <= self._threat.eps)) if self._stop else None

    def leave(self, done: Tensor) -> Tensor | None:
        """Let these active rows (flags) end; if rows leave the batch now, return flags of those that stay."""
        return self._finish(done & ~self._done)
