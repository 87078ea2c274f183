"""A network of someone else's, made to take what every classifier here takes: float images in [0, 1], to logits."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.core.spec import suggest

Order = Literal["rgb", "bgr"]


class Adapted(nn.Module):
    """Images (B, C, H, W) in [0, 1] to the logits (B, K) of a network that wants them otherwise; see `adapt`."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        std: Tensor,
        scale: float,
        size: tuple[int, int] | None,
        order: Order,
        output: int | str | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self._scale, self._size, self._order, self._output = scale, size, order, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, in the type of `x`; raises InputError if images or network are others than was said."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if 1 not in (len(values), x.shape[1]) and len(values) != x.shape[1]:
                raise InputError(f"adapt: {name} has {len(values)} values, and the images {x.shape[1]} channels")
        wanted = x
        if self._size is not None and tuple(x.shape[2:]) != self._size:
            wanted = F.interpolate(wanted, self._size, mode="bilinear", align_corners=False, antialias=True)
        if self._order == "bgr":
            wanted = wanted.flip(1)
        wanted = (wanted * self._scale - self.mean.to(x)) / self.std.to(x)  # in full precision, whatever the network's
        return _logits(self.network(wanted.to(_like(self.network, x).dtype)), self._output).to(x.dtype)


def adapt(
    network: nn.Module,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    size: tuple[int, int] | None = None,
    order: Order = "rgb",
    output: int | str | None = None,
) -> nn.Module:
    """Return a classifier around `network`, in its mode, so that eps is a share of the pixel range whatever it wants.

    Images in [0, 1] are resized to `size` (H, W), reversed in their channels if `order` is "bgr", multiplied by `scale`
    (255 for networks that take whole levels), and normalised by `mean` and `std`, of each channel in `order` and in the
    scaled range; grey images are normalised by each, and the network gets as many channels. A network of half or double
    precision gets images of its own type. `output`: which of several outputs holds the logits, by place or by name.
    Raises InputError for what cannot be.
    """
    if not 0 < scale < math.inf:
        raise InputError(f"adapt: scale must be more than 0, and finite, not {scale}")
    if size is not None and not (
        isinstance(size, tuple | list) and [type(n) for n in size] == [int, int] and min(size) > 0
    ):
        raise InputError(f"adapt: size is a height and a width of at least 1, such as (224, 224), not {size}")
    centre, spread = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (mean, std))
    if not bool((spread > 0).all() & spread.isfinite().all()):
        raise InputError(f"adapt: std must be more than 0 in every channel, not {std}")
    if not bool(centre.isfinite().all()):
        raise InputError(f"adapt: mean must be a number in every channel, not {mean}")
    if len({len(centre), len(spread)} - {1}) > 1:
        raise InputError(f"adapt: mean has {len(centre)} values, std {len(spread)}; give one each, or one a channel")
    if order not in ("rgb", "bgr"):
        raise InputError(f'adapt: order is "rgb" or "bgr", not {order!r}')
    place = _like(network, centre).device
    size = None if size is None else (size[0], size[1])
    adapted = Adapted(network, centre.to(place), spread.to(place), scale, size, order, output)
    adapted.training = network.training  # its modules keep their own modes: some may be frozen
    return adapted


def _like(network: nn.Module, default: Tensor) -> Tensor:
    """Return a tensor of floats of the network's, whose type and device its images must have; `default` if none."""
    own = chain(network.parameters(), network.buffers())
    return next((tensor for tensor in own if tensor.is_floating_point()), default)


def _logits(given: object, output: int | str | None) -> Tensor:
    """Return the logits among what a network gives."""
    if isinstance(given, Tensor) and output is None:
        return given
    parts: dict[int | str, object] = {}
    if isinstance(given, dict):
        parts = given
    elif isinstance(given, tuple | list):
        parts = {**dict(enumerate(given)), **{place - len(given): part for place, part in enumerate(given)}}
    if isinstance(output, str) and not isinstance(given, Tensor | dict) and output in dir(given):
        parts[output] = getattr(given, output)  # of a named tuple, or of an object of the network's own
    if isinstance(given, dict) and isinstance(output, str) and output not in given:
        named = [key for key in given if isinstance(key, str)]
        raise InputError(f"adapt: the network has no output {output!r}{suggest(output, named)}")
    if output is None or output not in parts:
        raise InputError(
            f"adapt: the network gives {_shown(given)}; say which holds the logits: adapt(..., output=...)"
        )
    found = parts[output]
    if not isinstance(found, Tensor):
        raise InputError(f"adapt: output {output!r} is {type(found).__name__}, no tensor of logits")
    return found


def _shown(given: object) -> str:
    if isinstance(given, dict):
        return f"a dictionary of {', '.join(map(repr, given))}"
    if isinstance(given, tuple | list):
        return f"{len(given)} things"
    return f"one {type(given).__name__}"
