"""Adam (Kingma & Ba 2015, arXiv:1412.6980) as a function, so that a descent can be differentiated."""

from typing import NamedTuple

from torch import Tensor

MEAN, SQUARE, EPS = 0.9, 0.999, 1e-8  # the decays of both averages, and what keeps the quotient finite
ALMOST_NONE = 1e-38  # the root of 0 has no slope


class Standing(NamedTuple):
    """Points (B, D), and the running means of their gradients and of the squares of these."""

    z: Tensor
    mean: Tensor
    square: Tensor


def begun(z: Tensor) -> Standing:
    """Return where Adam stands before its first step."""
    return Standing(z, z.new_zeros(z.shape), z.new_zeros(z.shape))


def stepped(at: Standing, gradient: Tensor, lr: float, step: int) -> Standing:
    """Return where Adam goes from there: to the bit where torch's does. `step` counts from 0."""
    mean = at.mean.lerp(gradient, 1 - MEAN)
    square = (at.square * SQUARE).addcmul(gradient, gradient, value=1 - SQUARE)
    spread = square.clamp(min=ALMOST_NONE).sqrt() / (1 - SQUARE ** (step + 1)) ** 0.5 + EPS
    return Standing(at.z.addcdiv(mean, spread, value=-lr / (1 - MEAN ** (step + 1))), mean, square)
