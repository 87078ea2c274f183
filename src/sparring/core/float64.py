"""Float64, where differences of large sums decide; Apple's GPUs have none."""

from torch import Tensor

WITHOUT = ("mps",)  # kinds of devices


def in_float64(x: Tensor) -> Tensor:
    """Return `x` in float64, where it is, or on the CPU if there is no float64 there."""
    return (x.cpu() if x.device.type in WITHOUT else x).double()


def back(found: Tensor, like: Tensor) -> Tensor:
    """Return what was found in float64 on the device of `like`, in its precision if there is no float64 there."""
    return found.to(like) if like.device.type in WITHOUT else found.to(like.device)
