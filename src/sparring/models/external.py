"""A network that a function of one's own makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, signature

from torch import nn

from sparring.core.errors import InputError
from sparring.models.outside import Outside, opened


@dataclass(frozen=True, kw_only=True)
class External(Outside):
    """What a function returns, such as external("package.module:function", width=3).

    It is called with the arguments given here, by name, and with the images' shape (C, H, W) and the number of classes
    if it takes `shape` and `classes`; it returns a module from float images in [0, 1] to logits, with weights fresh or
    not.
    """

    name = "external"
    path: str = field(kw_only=False)
    arguments: tuple[tuple[str, object], ...] = field(default=(), repr=False)

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        module, colon, function = self.path.partition(":")
        if not colon or not module or not function or module.startswith("."):
            raise InputError(f'external: expected "package.module:function", not {self.path!r}')
        with self._told():
            made = getattr(opened(module, f"external({self.path!r})"), function, None)
        if not callable(made):
            raise InputError(f"external: {module} has no function {function!r}")
        given = self._given(made, {"shape": shape, "classes": classes})
        with self._told():
            network = made(**given)
        if not isinstance(network, nn.Module):
            raise InputError(f"external: {self.path} returns {type(network).__name__}, no torch.nn.Module")
        return network

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever goes wrong in code from outside into one line that names it."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise InputError(f"external: {self.path} failed: {type(error).__name__}: {text}") from error

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
