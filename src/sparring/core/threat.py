"""Threat models: how far an adversary may move an image, and the exact projections that keep it there.

Images are float tensors (B, C, H, W) in [0, 1]; eps is a fraction of the pixel range and may be `inf` ("no bound").
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.core.float64 import back, in_float64
from sparring.core.spec import Catalogue, Component

TINY = torch.finfo(torch.float32).tiny
FAR = 1e6  # beyond this a pixel's distance says no more, and its square might overflow


@dataclass(frozen=True)
class ThreatModel(Component, ABC):
    """All images in [0, 1] within distance `eps` of the original, in one norm."""

    eps: float

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise InputError(f"{self.name}: eps must be at least 0, not {self.eps}")
        if self.name == "linf" and math.isfinite(self.eps) and self.eps > 1:
            hint = f"; did you mean linf({self.eps:g}/255)?"
            raise InputError(f"linf: eps is a fraction of the pixel range, so at most 1, not {self.eps}{hint}")

    @abstractmethod
    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return the norm of each image's perturbation, (B,)."""

    @abstractmethod
    def steepest(self, grad: Tensor) -> Tensor:
        """Return the step of norm 1 along which a linear function with gradient `grad` rises most; 0 where it is 0."""

    @abstractmethod
    def _into_ball(self, delta: Tensor, room: Tensor) -> Tensor:
        """Project `delta` (B, d), sizes without signs, onto the ball and the box 0 <= delta <= room."""

    @abstractmethod
    def _spread(self, uniform: Tensor) -> Tensor:
        """Turn uniform noise (B, d + 1) into points (B, d) spread evenly over the ball of radius 1."""

    @abstractmethod
    def _diameter(self, pixels: int) -> float:
        """Return the distance between two opposite corners of [0, 1]^pixels."""

    def reach(self, x: Tensor) -> float:
        """Return how far any image like those of `x` can be moved: eps, or the whole pixel range if that is less."""
        return min(self.eps, self._diameter(x[0].numel()))

    def ascent(self, x_adv: Tensor, grad: Tensor, size: float) -> Tensor:
        """Return the steepest step of norm `size` that spends nothing on pixels which would leave [0, 1]."""
        stuck = ((x_adv <= 0) & (grad < 0)) | ((x_adv >= 1) & (grad > 0))
        return self.steepest(grad.masked_fill(stuck, 0)).mul_(size)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Return the nearest image, in L2, that is in [0, 1] and within eps of `x`."""
        if math.isinf(self.eps):
            return x_adv.clamp(0, 1)
        delta = (x_adv - x).flatten(1).clamp(-FAR, FAR)
        flat = x.flatten(1)
        room = torch.where(delta > 0, 1 - flat, flat)
        size = self._into_ball(delta.abs(), room)
        return (flat + torch.copysign(size, delta)).clamp(0, 1).to(x.dtype).view_as(x)

    def random_start(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Return points spread over the ball around `x`, cut to [0, 1]; `uniform`: noise in [0, 1), (B, d + 1)."""
        if math.isinf(self.eps):
            return uniform[:, :-1].reshape(x.shape).to(x.dtype)
        return self.project(x + self.noise(x, uniform, self.eps), x)

    def noise(self, x: Tensor, uniform: Tensor, radius: float) -> Tensor:
        """Return perturbations of `x` spread evenly over the ball of `radius`, whatever eps; `uniform` as above."""
        return (radius * self._spread(uniform.to(x.dtype))).view_as(x)


@dataclass(frozen=True)
class Linf(ThreatModel):
    """Every pixel within eps."""

    name = "linf"

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).abs().amax(1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).clamp_(-self.eps, self.eps).add_(x).clamp_(0, 1)

    def steepest(self, grad: Tensor) -> Tensor:
        return grad.sign()

    def ascent(self, x_adv: Tensor, grad: Tensor, size: float) -> Tensor:
        return grad.sign().mul_(size)

    def _diameter(self, pixels: int) -> float:
        return 1.0

    def _into_ball(self, delta: Tensor, room: Tensor) -> Tensor:
        return torch.minimum(delta, room).clamp(max=self.eps)

    def _spread(self, uniform: Tensor) -> Tensor:
        return uniform[:, :-1] * 2 - 1


@dataclass(frozen=True)
class L2(ThreatModel):
    """The Euclidean length of the perturbation within eps."""

    name = "l2"

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).square().sum(1).sqrt()

    def steepest(self, grad: Tensor) -> Tensor:
        flat = grad.flatten(1)
        flat = flat / flat.abs().amax(1, keepdim=True).clamp(min=TINY)  # else the squares of small gradients vanish
        return (flat / _length(flat)).view_as(grad)

    def _diameter(self, pixels: int) -> float:
        return math.sqrt(pixels)

    def _into_ball(self, delta: Tensor, room: Tensor) -> Tensor:
        """Scale by t, cut at `room`: the KKT conditions of the projection give min(t * delta, room) with t <= 1.

        Its squared length is concave and piecewise linear in t^2, so Newton's steps from the left end exactly.
        """
        budget = min(self.eps, FAR) ** 2
        t = (self.eps / _length(delta)).clamp(max=1)
        while True:
            cut = t * delta > room
            spent = torch.where(cut, room, 0).square().sum(1, keepdim=True)
            free = torch.where(cut, 0, delta).square().sum(1, keepdim=True)
            longer = ((budget - spent).clamp(min=0) / free.clamp(min=TINY)).sqrt().clamp(max=1)
            if not (longer > t * (1 + 1e-6)).any():
                return torch.minimum(t * delta, room)
            t = torch.maximum(t, longer)

    def _spread(self, uniform: Tensor) -> Tensor:
        direction: Tensor = torch.special.ndtri(uniform[:, :-1].clamp(1e-6, 1 - 1e-6))
        radius = uniform[:, -1:] ** (1 / direction.shape[1])
        return (direction / _length(direction)) * radius


@dataclass(frozen=True)
class L1(ThreatModel):
    """The summed size of all changes within eps."""

    name = "l1"

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).flatten(1).abs().sum(1)

    def steepest(self, grad: Tensor) -> Tensor:
        flat = grad.flatten(1)
        place = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place).sign()).view_as(grad)

    def ascent(self, x_adv: Tensor, grad: Tensor, size: float) -> Tensor:
        """Fill the pixels of the largest gradients to the border of [0, 1], one after another, until `size` is spent.

        In a box this is the steepest step: a single pixel, as `steepest` has it, could take no more than its room.
        """
        flat, at = grad.flatten(1), x_adv.flatten(1)
        room = torch.where(flat > 0, 1 - at, at).masked_fill(flat == 0, 0)
        order = flat.abs().argsort(1, descending=True)
        ordered = room.gather(1, order)
        spent = torch.minimum(ordered, (size - (ordered.cumsum(1) - ordered)).clamp(min=0))
        return (torch.zeros_like(flat).scatter_(1, order, spent) * flat.sign()).view_as(grad)

    def _diameter(self, pixels: int) -> float:
        return float(pixels)

    def _into_ball(self, delta: Tensor, room: Tensor) -> Tensor:
        """Shrink by tau, cut at `room`: min(max(delta - tau, 0), room), its sum piecewise linear and falling in tau.

        The sum's slope changes at tau = delta (a pixel starts to count) and tau = delta - room (it leaves the border).
        """
        given, delta, room = delta, in_float64(delta), in_float64(room)
        whole = torch.minimum(delta, room)
        over = whole.sum(1, keepdim=True) > self.eps
        leaves = delta - whole
        tau, order = torch.cat([delta, leaves], dim=1).sort(dim=1, descending=True)
        steps = torch.cat([torch.ones_like(delta), -torch.ones_like(leaves)], dim=1).gather(1, order)
        slope = steps.cumsum(1)[:, :-1]
        total = (slope * (tau[:, :-1] - tau[:, 1:])).cumsum(1)
        at = (total < self.eps).sum(1, keepdim=True).clamp(max=total.shape[1] - 1)
        excess = total.gather(1, at) - self.eps
        exact = tau.gather(1, at + 1) + excess / slope.gather(1, at).clamp(min=1)
        size = torch.where(over, torch.minimum((delta - exact).clamp(min=0), room), whole)
        return back(size * (self.eps / size.sum(1, keepdim=True).clamp(min=TINY)).clamp(max=1), given)

    def _spread(self, uniform: Tensor) -> Tensor:
        centred = uniform[:, :-1] * 2 - 1
        size = -torch.log(centred.abs().clamp(min=1e-7))
        radius = uniform[:, -1:] ** (1 / size.shape[1])
        return centred.sign() * size / size.sum(1, keepdim=True).clamp(min=TINY) * radius


def _length(flat: Tensor) -> Tensor:
    """Return the Euclidean length of each row, (B, 1), never 0."""
    return flat.square().sum(1, keepdim=True).sqrt().clamp(min=TINY)


THREATS = Catalogue(ThreatModel, "threat model", (Linf, L2, L1), "linf(8/255)")
