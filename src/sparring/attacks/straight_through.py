"""Gradients through what has none, in a model that does not say so: steps, casts and cut graphs let through.

Each step passes the gradient on as if it were the identity (Bengio, Léonard & Courville 2013, arXiv:1308.3432), which
is BPDA (arXiv:1802.00420) without the defender's help. The values stay what the model makes of them, to the bit.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_STEPS = {"round", "floor", "ceil", "trunc", "fix", "sign", "sgn"}
_ASKING = {"gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"}
_CASTS = {"to", "type", "float", "double", "int", "long", "byte", "bool", "char", "short"}


class StraightThrough(TorchFunctionMode):
    """Within it, rounding, signs, comparisons and casts there and back pass gradients on; with `cuts`, detach() too.

    What leaves torch (NumPy, files) is beyond it.
    """

    def __init__(self, *, cuts: bool) -> None:
        super().__init__()
        self._cuts = cuts
        self._origins: list[tuple[Tensor, Tensor]] = []  # of booleans and integers, the floats they were made of

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # whatever torch returns
        """Call `func`; where it would drop the gradient, hand it on."""
        name = getattr(func, "__name__", "")
        if self._cuts and name == "_set_grad_enabled":
            return None
        output = func(*args, **(kwargs or {}))
        source = args[0] if args and isinstance(args[0], Tensor) else None
        if source is None or not isinstance(output, Tensor) or output.shape != source.shape:
            return output
        if self._cuts and (name == "detach" or func == Tensor.data.__get__):  # type: ignore[attr-defined]  # a getter
            return source
        return self._followed(name, source, output)

    def _followed(self, name: str, source: Tensor, output: Tensor) -> Tensor:
        origin = source if source.requires_grad else self._origin(source)
        if origin is None or (output.requires_grad and name not in _STEPS):
            return output
        if name in _STEPS or (name in _CASTS and output.is_floating_point()):
            return through(output, origin)
        if name in _ASKING or name in _CASTS:
            self._origins.append((output, origin))
        return output

    def _origin(self, source: Tensor) -> Tensor | None:
        return next((origin for made, origin in self._origins if made is source), None)


def through(values: Tensor, origin: Tensor) -> Tensor:
    """Return `values` to the bit, with the gradient of `origin`, which has their shape."""
    passed: Tensor = _Through.apply(values, origin)  # type: ignore[no-untyped-call]  # torch's own
    return passed


class _Through(torch.autograd.Function):
    """See `through`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, origin: Tensor) -> Tensor:  # noqa: ARG004  # torch's own signature
        return values.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004  # as above
        return None, grad
