"""Whether a component's class is written as its kind asks, told before its first use goes wrong somewhere inside."""

import dataclasses
from collections.abc import Mapping
from inspect import Parameter, Signature, signature

from sparring.core.errors import InputError

_right: set[type] = set()  # those that were looked at already


def check_class(made: type, needs: Mapping[str, str]) -> None:
    """Raise InputError if a component's class is no dataclass, lacks a value, or a method takes other arguments.

    `needs`: the class's values that must be there, each with what it may be.
    """
    if made in _right:
        return
    if not dataclasses.is_dataclass(made):
        raise InputError(f"{made.__name__}: write @dataclass(frozen=True, kw_only=True) above the class")
    for value, such in needs.items():
        if not isinstance(getattr(made, value, None), str):
            raise InputError(f"{made.__name__}: the class has no {value}; write in it {value} = {such}")
    for base in made.__mro__:
        for name, asked in vars(base).items():
            if getattr(asked, "__isabstractmethod__", False):
                _check_method(made, name, asked)
    _right.add(made)


def _check_method(made: type, name: str, asked: object) -> None:
    written = getattr(made, name)
    if written is asked or not (callable(asked) and callable(written)):
        return
    parameters = [each.replace(annotation=Parameter.empty) for each in signature(asked).parameters.values()]
    by_name = [each.name for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    by_place = [each.name for each in parameters if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    try:
        signature(written).bind(*by_place, **dict.fromkeys(by_name))
    except TypeError as error:
        wanted = f"def {name}{Signature(parameters)}"
        raise InputError(f"{made.__name__}.{name}: {error}; write it as {wanted}") from None
