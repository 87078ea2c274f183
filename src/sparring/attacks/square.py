"""The Square attack (Andriushchenko et al. 2020, arXiv:1912.00049), and its form for L1 (arXiv:2103.01208)."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.attacks.active import Worst
from sparring.attacks.base import Attack
from sparring.attacks.losses import Loss, objective
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.threat import TINY, ThreatModel

HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 changes, the last before the squares' area halves
FULL = 10_000
BLOCK = 64  # changes whose noise is drawn at once
GRID = 5  # tiles a side of the start in L2 and L1


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search: changes one square of the image at a time and keeps what brings success nearer; no gradients.

    `queries` is what each restart may ask of the model; `p_init` the share of the image that the first squares cover.
    They shrink over `horizon` changes: over `queries`, unless it is given (AutoAttack has 10,000, and ends at 5,000).
    """

    name = "square"
    source = "arXiv:1912.00049"
    kind = "budget"
    queries: int = 5000
    restarts: int = 1
    p_init: float = 0.8
    horizon: int | None = None

    def __post_init__(self) -> None:
        if self.queries < 1 or self.restarts < 1:
            raise InputError(f"square: queries and restarts must be at least 1, not {self.queries}, {self.restarts}")
        if not 0 < self.p_init <= 1:
            raise InputError(f"square: p_init is a share of the image, above 0 and up to 1, not {self.p_init}")
        if self.horizon is not None and self.horizon < 1:
            raise InputError(f"square: horizon must be at least 1, not {self.horizon}")

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
        active = Worst(oracle, x, y, target, stop=stop)
        for _ in range(self.restarts):
            active.purge()
            if len(active):
                self._search(oracle, active, threat, stop=stop)
        return active.worst

    def _search(self, oracle: Oracle, active: Worst, threat: ThreatModel, *, stop: bool) -> None:
        """Search once from a fresh start, and record the best images (algorithm 1 of the paper)."""
        search = SEARCHES[threat.name](oracle, active.x, threat)
        measure: Loss = "margin" if active.target is None else "cross_entropy"
        for query in range(self.queries):
            asked = search.propose(oracle, query - 1, self._share(query - 1)) if query else search.x_adv
            logits = oracle.logits(asked)
            fooled = active.fooled(asked, logits) if stop else torch.zeros_like(active.y, dtype=torch.bool)
            search.settle(objective(measure, logits, active.y, active.target), fooled)
            if bool(fooled.any()) or query == self.queries - 1:  # else the best are in `search`, and do not fool
                kept = active.record(search.x_adv, search.value, logits, fooled)
                if kept is not None:
                    search.rows(kept)
            if not len(active):
                break

    def _share(self, change: int) -> float:
        """Return which share of the image the square of this change covers; the first change is number 0."""
        return self.p_init * 0.5 ** bisect_left(HALVED, change * FULL // (self.horizon or self.queries))


class Search(ABC):
    """A search in progress: `x_adv` are the best images so far, of loss `value`; every tensor has a row an example."""

    squares: ClassVar[int]  # that a change places
    extra: ClassVar[int]  # random signs that it takes beside those of the channels

    def __init__(self, oracle: Oracle, x: Tensor, threat: ThreatModel) -> None:
        self.x, self.threat, self.eps = x, threat, threat.reach(x)
        self.value = x.new_full((len(x),), -math.inf)
        self.noise = self.corners = self.signs = x.new_empty(len(x), 0)
        self.side, self.grids = 0, dict[int, Tensor]()
        self.x_adv = self._start(oracle).contiguous()

    def propose(self, oracle: Oracle, change: int, share: float) -> Tensor:
        """Return images that differ from the best in a square of this share of them."""
        side = self._side(math.sqrt(share * self.x[0, 0].numel()))
        if change % BLOCK == 0:
            self.noise = oracle.uniform(BLOCK, 2 * self.squares + self.extra + self.x.shape[1])
            self.signs = _sign(self.noise[..., 2 * self.squares :])
        if change % BLOCK == 0 or side != self.side:
            self.side, (height, width) = side, self.x.shape[2:]
            rows, columns, _ = self.noise.tensor_split((self.squares, 2 * self.squares), dim=2)
            self.corners = (rows * (height - side + 1)).long() * width + (columns * (width - side + 1)).long()
        return self._changed(change % BLOCK)

    def settle(self, value: Tensor, fooled: Tensor) -> None:
        """Keep the images proposed where they have a higher loss or fool."""
        better = (value > self.value) | fooled
        self.value = torch.where(better, value, self.value)
        self._keep(better)

    def rows(self, kept: Tensor) -> None:
        """Go on with these rows (flags)."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[kept])

    @abstractmethod
    def _side(self, side: float) -> int:
        """Return how many pixels wide a square is that should be so wide."""

    @abstractmethod
    def _start(self, oracle: Oracle) -> Tensor:
        """Return the images to begin from."""

    @abstractmethod
    def _changed(self, place: int) -> Tensor:
        """Return the images to ask for, by the noise at this place of the block."""

    @abstractmethod
    def _keep(self, better: Tensor) -> None:
        """Take these rows (flags) of the images asked for as the best."""

    def _window(self, place: int, square: int = 0) -> Tensor:
        """Return which pixels of the flat images a square covers, (B, C * side * side)."""
        if self.side not in self.grids:
            _, channels, height, width = self.x.shape
            pixels = torch.arange(channels * height * width, device=self.x.device).view(channels, height, width)
            self.grids[self.side] = pixels[:, : self.side, : self.side].flatten()
        return self.corners[:, place, square, None] + self.grids[self.side]


class Stripes(Search):
    """In Linf: every pixel at the border of ball and image range, at first in stripes; a change moves whole squares."""

    squares, extra = 1, 0

    def __init__(self, oracle: Oracle, x: Tensor, threat: ThreatModel) -> None:
        super().__init__(oracle, x, threat)
        self.window = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
        self.old = self.new = x.new_empty(len(x), 0)

    def _side(self, side: float) -> int:
        return min(max(round(side), 1), self.x.shape[2], self.x.shape[3])

    def _start(self, oracle: Oracle) -> Tensor:
        _, channels, _, width = self.x.shape
        return torch.add(self.x, _sign(oracle.uniform(channels, 1, width)), alpha=self.eps).clamp_(0, 1)

    def _changed(self, place: int) -> Tensor:
        """Change the best images where they are, and remember what they were: only the squares' pixels are touched."""
        flat = self.x_adv.flatten(1)
        self.window = self._window(place)
        self.old = flat.gather(1, self.window)
        moved = self.x.flatten(1).gather(1, self.window).view(*self.x.shape[:2], -1)
        self.new = moved.add_(self.signs[:, place, :, None], alpha=self.eps).clamp_(0, 1).flatten(1)
        flat.scatter_(1, self.window, self.new)
        return self.x_adv

    def _keep(self, better: Tensor) -> None:
        self.x_adv.flatten(1).scatter_(1, self.window, torch.where(better[:, None], self.new, self.old))


class Pyramids(Search):
    """In L2 and L1: tiles of a steep hill beside a hollow; a change adds such a tile in one square.

    What it needs comes from the squares' own share of eps, from another square, which is cleared, and from what eps
    still leaves.
    """

    squares, extra = 2, 1
    power: ClassVar[int]  # of the norm
    steepness: ClassVar[int]

    def __init__(self, oracle: Oracle, x: Tensor, threat: ThreatModel) -> None:
        self.tiles: dict[int, Tensor] = {}
        super().__init__(oracle, x, threat)
        self.asked = self.x_adv

    def _side(self, side: float) -> int:
        odd = max(round(side), 3)
        return min(odd + (odd + 1) % 2, self.x.shape[2], self.x.shape[3])

    def _start(self, oracle: Oracle) -> Tensor:
        count, channels, height, width = self.x.shape
        side = max(min(height, width) // GRID, 1)
        rows, columns = height // side, width // side
        top, left = (height - rows * side) // 2, (width - columns * side) // 2
        noise = oracle.uniform(1 + channels, rows, columns)
        tiles = self._tile(side)[(noise[:, :1] < 0.5).long()] * _sign(noise[:, 1:])[..., None]
        tiles = tiles.view(*tiles.shape[:4], side, side).transpose(3, 4)
        delta = torch.zeros_like(self.x)
        delta[:, :, top : top + rows * side, left : left + columns * side] = tiles.reshape(
            count, channels, rows * side, columns * side
        )
        return self._into_ball(delta)

    def _changed(self, place: int) -> Tensor:
        delta = (self.x_adv - self.x).flatten(1)
        here, there = self._window(place, 0), self._window(place, 1)
        unspent = (self.eps**self.power - self._mass(delta)).clamp_(min=0)[:, None] / self.x.shape[1]
        old = delta.gather(1, here).view(*self.x.shape[:2], -1)
        delta.scatter_(1, here, 0)
        taken = delta.gather(1, there).view_as(old)
        delta.scatter_(1, there, 0)
        flip, signs = self.signs[:, place, :1], self.signs[:, place, 1:]
        tile = self._tile(self.side)[(flip[:, 0] > 0).long()][:, None] * signs[:, :, None]
        new = self._scaled(self._scaled(old) + tile)
        allowance = self._allowance(unspent, self._mass(old) + self._mass(taken))
        delta.scatter_(1, here, (new * allowance[..., None]).flatten(1))
        self.asked = self._into_ball(delta.view_as(self.x))
        return self.asked

    def _keep(self, better: Tensor) -> None:
        rows = better.nonzero().squeeze(1)
        self.x_adv.index_copy_(0, rows, self.asked.index_select(0, rows))

    def _mass(self, delta: Tensor) -> Tensor:
        """Return the power sum of each of (..., d)."""
        return (delta.abs() if self.power == 1 else delta.square()).sum(-1)

    def _scaled(self, delta: Tensor) -> Tensor:
        """Scale each of (..., d) to length 1."""
        return delta / (self._mass(delta) ** (1 / self.power) + 1e-12)[..., None]

    def _tile(self, side: int) -> Tensor:
        """Return the tile and its transpose, (2, side * side)."""
        if side not in self.tiles:
            tile = torch.cat([self._hill(side // 2, side), -self._hill(side - side // 2, side)])
            self.tiles[side] = self._scaled(torch.stack([tile, tile.T]).flatten(1))
        return self.tiles[side]

    def _hill(self, height: int, width: int) -> Tensor:
        """Return a pyramid: a sum of squares around the centre, each one pixel wider and lower than the one before."""
        down = (torch.arange(height, device=self.x.device) - height // 2).abs()
        across = (torch.arange(width, device=self.x.device) - width // 2).abs()
        ring = torch.maximum(down[:, None], across)
        heights = torch.arange(1, max(height, width) // 2 + 2, device=self.x.device).to(self.x.dtype) ** -self.steepness
        hill = heights.flip(0).cumsum(0).flip(0)[ring]
        return self._scaled(hill.flatten()).view_as(hill)

    @abstractmethod
    def _allowance(self, unspent: Tensor, freed: Tensor) -> Tensor:
        """Return how long the new square of each channel may be, (B, C)."""

    @abstractmethod
    def _into_ball(self, delta: Tensor) -> Tensor:
        """Return the images."""


class PyramidsL2(Pyramids):
    """The whole change is scaled to length eps each time."""

    power, steepness = 2, 2

    def _allowance(self, unspent: Tensor, freed: Tensor) -> Tensor:
        return (unspent + freed).sqrt()

    def _into_ball(self, delta: Tensor) -> Tensor:
        length = self._mass(delta.flatten(1)).sqrt().clamp(min=TINY)
        return torch.addcmul(self.x, delta, (self.eps / length).view(-1, 1, 1, 1)).clamp_(0, 1)


class PyramidsL1(Pyramids):
    """The whole change is projected each time."""

    power, steepness = 1, 4

    def _allowance(self, unspent: Tensor, freed: Tensor) -> Tensor:
        return (unspent + freed) * self.x.shape[1]

    def _into_ball(self, delta: Tensor) -> Tensor:
        return self.threat.project(self.x + delta, self.x)


SEARCHES: dict[str, type[Search]] = {"linf": Stripes, "l2": PyramidsL2, "l1": PyramidsL1}


def _sign(noise: Tensor) -> Tensor:
    """Turn uniform noise into -1 and 1."""
    return (noise < 0.5).to(noise.dtype) * 2 - 1
