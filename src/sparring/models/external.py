"""A network that a function of one's own makes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import Parameter, signature

from torch import nn

from sparring.core.errors import InputError
from sparring.core.outside import EXTERNAL, found, told
from sparring.models.outside import Outside


@dataclass(frozen=True, kw_only=True)
class External(Outside):
    """What a function returns, such as external("package.module:function", width=3).

    It is called with the arguments given here, by name, and with the images' shape (C, H, W) and the number of classes
    if it takes `shape` and `classes`; it returns a module from float images in [0, 1] to logits, with weights fresh or
    not.
    """

    name = EXTERNAL
    path: str = field(kw_only=False)
    arguments: tuple[tuple[str, object], ...] = field(default=(), repr=False)

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        made = found(self.path, "function")
        given = self._given(made, {"shape": shape, "classes": classes})
        with told(self.path):
            network = made(**given)
        if not isinstance(network, nn.Module):
            raise InputError(f"external: {self.path} returns {type(network).__name__}, no torch.nn.Module")
        return network

    def _given(self, function: Callable[..., object], offered: dict[str, object]) -> dict[str, object]:
        """Return the arguments for a call of the function, of those offered what it takes."""
        try:
            takes = signature(function)
        except ValueError:  # of some that are written in C
            raise InputError(f"external: {self.path} does not say what it takes; write a function that does") from None
        anything = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in takes.parameters.values())
        given = {name: value for name, value in offered.items() if anything or name in takes.parameters}
        given |= dict(self.arguments)
        try:
            takes.bind(**given)
        except TypeError as error:
            raise InputError(f"external: {self.path}: {error}") from None
        return given
