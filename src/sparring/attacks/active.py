"""The active set: finished examples leave the batch, and the worst image found for each example is kept."""

import math

import torch
from torch import Tensor

from sparring.attacks.losses import succeeded
from sparring.attacks.oracle import Oracle


class ActiveSet:
    """The rows of a batch that are still under attack: `x`, `y` and `target` hold these only, `worst` holds all."""

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, target: Tensor | None, *, stop: bool) -> None:
        self.x, self.y, self.target = x, y, target
        self.worst = x.clone()
        self._oracle, self._stop = oracle, stop
        self._rows = torch.arange(len(x), device=x.device)
        self._loss = torch.full((len(x),), -math.inf, device=x.device)

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, x_adv: Tensor, loss: Tensor, logits: Tensor) -> Tensor | None:
        """Note what was found for the active rows; if fooled ones leave, return the mask of those that stay."""
        fooled = succeeded(logits, self.y, self.target)
        better = (loss > self._loss[self._rows]) | (fooled & self._stop)
        rows = self._rows[better]
        self.worst[rows], self._loss[rows] = x_adv[better], loss[better]
        if not self._stop or not bool(fooled.any()):
            return None
        kept = ~fooled
        self._oracle.keep(kept)
        self._rows, self.x, self.y = self._rows[kept], self.x[kept], self.y[kept]
        self.target = None if self.target is None else self.target[kept]
        return kept
