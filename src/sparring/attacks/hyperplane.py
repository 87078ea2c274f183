"""The smallest step onto a hyperplane inside the box [0, 1], in Linf, L2 and L1 (Croce & Hein 2020, arXiv:1907.02044).

For several points x (n, B, d) in [0, 1] at once, which share their normals w (B, d): the steps delta with
w @ delta = gap (n, B, 1). Where even the furthest corner of the box falls short of the hyperplane, it is the answer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sparring.core.float64 import in_float64

TINY = torch.finfo(torch.float32).tiny
STEEP = 1e8  # a multiplier that takes every pixel with a weight above 1e-8 of the largest to the border


def landing(norm: str, x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Return the points x + delta of [0, 1], (n, B, d), where delta closes the gap and is as short as can be."""
    return LANDINGS[norm](x, w, gap)


def _linf(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """All pixels move by the same size, cut at the border: sum_i |w_i| min(size, room_i) = |gap|."""
    size = _multiplier(_room(x, w, gap), w.abs(), None, gap.abs()).clamp_(max=1)
    return torch.addcmul(x, w.sign(), size.copysign_(gap)).clamp_(0, 1)


def _l2(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Pixels move along w, cut at the border: sum_i |w_i| min(t |w_i|, room_i) = |gap|."""
    scale = w.abs().amax(1, keepdim=True).clamp(min=TINY)  # else the squares of small gradients vanish
    w, gap = w / scale, gap / scale
    size = w.abs()
    t = _multiplier(_room(x, w, gap), size, size, gap.abs()).clamp_(max=STEEP)
    return torch.addcmul(x, w, t.copysign_(gap)).clamp_(0, 1)


def _l1(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Pixels go to the border one after another, those of the largest |w_i| first, until the gap is closed."""
    size, order = w.abs().sort(dim=1, descending=True)
    order = order.expand_as(x)
    room = _room(x, w, gap).gather(2, order)
    gain = in_float64(size * room)
    left = (in_float64(gap.abs()) - (gain.cumsum(2) - gain)).clamp_(min=0)
    spent = torch.minimum((left / in_float64(size.clamp(min=TINY))).to(x), room)
    delta = torch.zeros_like(x).scatter_(2, order, spent).mul_(w.sign())
    return torch.addcmul(x, delta, gap.sign()).clamp_(0, 1)


def _room(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Return how far each pixel can go the way that closes the gap."""
    return (w * gap.sign()).gt_(0).sub_(x).abs_()


def _multiplier(room: Tensor, size: Tensor, pace: Tensor | None, gap: Tensor) -> Tensor:
    """Return the t (n, B, 1) at which sum_i size_i min(t pace_i, room_i) = gap, beyond all corners where none is.

    `pace` None: all 1. The sum is concave and piecewise linear in t, so Newton's steps from the left end exactly; each
    needs only to know which pixels are cut at the border. Masks are floats, which are faster than booleans here.
    """
    corner = room if pace is None else room / pace.clamp(min=TINY)
    slope, full = size if pace is None else size * pace, size * room
    whole, t = slope.sum(1, keepdim=True), torch.zeros_like(gap)
    cut, part = torch.empty_like(room), torch.empty_like(room)
    while True:
        torch.le(corner, t, out=cut)
        spent = torch.mul(full, cut, out=part).sum(2, keepdim=True)
        free = whole - torch.mul(slope, cut, out=part).sum(2, keepdim=True)
        before, t = t, torch.maximum(t, (gap - spent) / free.clamp_(min=TINY))
        if not bool((t > before * (1 + 1e-5)).any()):
            return t


LANDINGS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"linf": _linf, "l2": _l2, "l1": _l1}
