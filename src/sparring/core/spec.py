"""Call strings, `trades(beta=6, threat=linf(8/255))`: the same in TOML, on the command line and as `repr`.

`call` reads them and evaluates nothing. An unknown name or argument is an `InputError` that says "did you mean".
"""

import dataclasses
import difflib
import functools
import math
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from sparring.core.call import Call, literal, read_call
from sparring.core.class_checks import check_class
from sparring.core.errors import InputError
from sparring.core.outside import EXTERNAL, component_class

MORE = "arguments"  # the field that holds arguments which no field is named after
SHOWN = 80  # characters of a value in a message


class Component:
    """Something that a call string names: a frozen dataclass with a `name`, listed in its package's catalogue.

    `repr` is the call string with every argument, which stays true when a default changes; `str` leaves defaults out.
    However it is made, its arguments become what their fields are declared to be, or are refused. With a field
    `arguments`, pairs of names and plain values, it takes any argument more. `home`: the module that lists a kind, if
    who opens a saved one may not have imported it. `origin`: where a class of one's own was found.
    """

    name: ClassVar[str]
    home: ClassVar[str] = ""
    origin: ClassVar[str] = ""
    needs: ClassVar[dict[str, str]] = {"name": '"mine"'}  # what a class must say of itself, and how

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = Component.__repr__  # type: ignore[method-assign]  # else @dataclass writes its own
        if "__post_init__" in cls.__dict__:  # checks of a class's own see what was converted, super() or not
            cls.__post_init__ = _after_conversion(cls.__post_init__)  # type: ignore[method-assign,assignment]

    def __init__(self, *_given: object, **_named: object) -> None:
        check_class(type(self), self.needs)  # which refuses it: a dataclass has an __init__ of its own

    def __post_init__(self) -> None:
        check_class(type(self), self.needs)
        convert_fields(self, self.name)

    def __repr__(self) -> str:
        return self._call(repr, lambda _: True)

    def __str__(self) -> str:
        return self._call(str, lambda field: getattr(self, field.name) != field.default)

    def _call(self, show: Callable[[object], str], wanted: "Callable[[dataclasses.Field[Any]], bool]") -> str:
        check_class(type(self), self.needs)
        name, shown = (EXTERNAL, [repr(self.origin)]) if self.origin else (self.name, [])
        shown += [f"{f.name}={_show(getattr(self, f.name), show)}" for f in _arguments(self) if wanted(f)]
        more: tuple[tuple[str, object], ...] = getattr(self, MORE, ())
        shown += [f"{key}={_show(value, show)}" for key, value in more]
        return f"{name}({', '.join(shown)})"


C = TypeVar("C", bound=Component)
_catalogues: dict[type[Component], "Catalogue[Any]"] = {}


class Catalogue(Generic[C]):
    """The components of one kind, by name; `shown`: a call string of this kind, for messages.

    `outside`: whether `external("package.module:Class", ...)` stands for a class of one's own.
    """

    def __init__(
        self, base: type[C], kind: str, components: tuple[type[C], ...], shown: str = "", *, outside: bool = False
    ) -> None:
        self.base, self.kind, self.shown = base, kind, shown or f"{components[0].name}(...)"
        self.components, self.outside = {component.name: component for component in components}, outside
        _catalogues[base] = self

    def __iter__(self) -> Iterator[type[C]]:
        return iter(self.components.values())

    def parse(self, spec: str | C) -> C:
        """Return the component that `spec` names; a component is returned as it is.

        Raises InputError if the text is no call string, or a name or an argument does not exist or does not fit.
        """
        if isinstance(spec, self.base):
            return spec
        if not isinstance(spec, str):
            raise InputError(f"{self.kind}: expected a call string such as {self.example()}, not {_shown(spec)}")
        return self.build(read_call(spec, self.kind, self._like(spec)))

    def example(self) -> str:
        """Return a call string of this kind, for messages."""
        return self.shown

    def _like(self, text: str) -> str:
        """Return a call string of this kind: for a bare number, if that is all that the first one takes, with it."""
        first = next(iter(self.components.values()))
        fields = _arguments(first)
        alone = len(fields) == 1 and _required(fields[0]) and isinstance(literal(text), int | float)
        return f"{first.name}({text.strip()})" if alone else self.shown

    def build(self, call: Call) -> C:
        """Make the component from its parsed call."""
        component = self.components.get(call.name)
        if self.outside and call.name == EXTERNAL and call.args and isinstance(call.args[0], str):
            component = component_class(call.args[0], self.base)  # type: ignore[arg-type]  # classes do have hashes
            call = Call(component.name, call.args[1:], call.kwargs)
        if component is None:
            raise InputError(f"unknown {self.kind} {call.name!r}{suggest(call.name, self.components)}")
        fields = _arguments(component)
        if len(call.args) > len(fields):
            raise InputError(f"{call.name}: takes at most {len(fields)} arguments, not {len(call.args)}")
        given = dict(zip((f.name for f in fields), call.args, strict=False))
        more = {}
        for key, value in call.kwargs:
            if key not in {f.name for f in fields} and _takes_more(component) and _plain(value):
                more[key] = value
                continue
            if key not in {f.name for f in fields}:
                raise InputError(f"{call.name}: unknown argument {key!r}{suggest(key, (f.name for f in fields))}")
            if key in given:
                raise InputError(f"{call.name}: argument {key!r} is given twice")
            given[key] = value
        missing = [f.name for f in fields if f.name not in given and _required(f)]
        if missing:
            raise InputError(f"{call.name}: argument {missing[0]!r} is missing")
        return component(**given, **({MORE: tuple(sorted(more.items()))} if more else {}))


def example(component: type[Component]) -> str:
    """Return how a component is called: its required arguments by name, the others with their defaults."""
    parts = [f.name if _required(f) else f"{f.name}={_show(f.default, str)}" for f in _arguments(component)]
    return f"{component.name}({', '.join(parts)})"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean …?' when something close exists, else the list of what does."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names) or 'none'}"


def convert_fields(made: Any, where: str) -> None:
    """Turn the arguments of a frozen dataclass that is being made into what its fields are declared to be.

    Raises InputError that begins with `where` and the field's name if that cannot be.
    """
    hints = _hints(made.__class__)
    for field in _arguments(made):
        value = getattr(made, field.name)
        object.__setattr__(made, field.name, convert(value, hints[field.name], f"{where}: {field.name}"))


def convert(value: object, hint: Any, where: str) -> Any:  # the hint is a type, known only at run time
    """Return `value` as the type `hint`, else raise InputError.

    An int serves as a float, a string as a component, a path as text, a list as a tuple, NumPy's numbers as Python's.
    """
    origin = get_origin(hint)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if hint is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if origin in (Union, types.UnionType):
        return _convert_union(value, get_args(hint), where)
    if hint is type(None) and value in (None, Call("none")):
        return None
    if isinstance(hint, type) and issubclass(hint, Component):
        return _convert_component(value, hint, where)
    if origin is tuple and isinstance(value, tuple | list):
        inner = get_args(hint)
        hints = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        if len(hints) == len(value):
            return tuple(convert(v, h, where) for v, h in zip(value, hints, strict=True))
    if origin is dict and isinstance(value, dict):
        return {key: convert(each, get_args(hint)[1], f"{where}: {key}") for key, each in value.items()}
    if origin is Literal:
        if value in get_args(hint):
            return value
        known = ", ".join(map(repr, get_args(hint)))
        raise InputError(f"{where}: {_shown(value)} is not one of {known}{_quotes(value)}")
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise InputError(
        f"{where}: expected {_type_name(hint)}, not {_shown(value)}{_quotes(value) if hint is str else ''}"
    )


def _convert_component(value: object, base: type[Component], where: str) -> Component:
    if isinstance(value, base):
        return value
    if base.home:
        import_module(base.home)
    catalogue = next((c for b, c in _catalogues.items() if issubclass(base, b)), None)
    if catalogue is None:
        raise TypeError(f"{base.__name__} has no catalogue")  # a fault of the code, not of the input
    found = value
    if isinstance(value, Call):
        found = catalogue.build(value)
    elif isinstance(value, str):
        found = catalogue.parse(value)
    if isinstance(found, base):
        return found
    raise InputError(f"{where}: expected {catalogue.kind} such as {catalogue.example()}, not {_shown(value)}")


def _convert_union(value: object, hints: tuple[Any, ...], where: str) -> Any:  # as in convert
    errors = []
    for hint in hints:
        try:
            return convert(value, hint, where)
        except InputError as error:
            errors.append((isinstance(hint, type) and issubclass(hint, Component), error))
    told = [error for is_component, error in errors if is_component and isinstance(value, Call | str)]
    if told:
        raise told[0]
    raise InputError(f"{where}: expected {' or '.join(map(_type_name, hints))}, not {_shown(value)}")


@functools.cache
def _hints(made: type) -> dict[str, Any]:
    return get_type_hints(made)


def _after_conversion(own: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(own)
    def post_init(self: Component) -> None:
        check_class(type(self), self.needs)
        convert_fields(self, self.name)
        own(self)

    return post_init


def _arguments(component: Component | type[Component]) -> "list[dataclasses.Field[Any]]":
    """Return the fields that a call string names; one with `repr=False` is no argument (a loaded model, say)."""
    fields = dataclasses.fields(component)  # type: ignore[arg-type]  # every component is a dataclass
    return [f for f in fields if f.init and f.repr]


def _takes_more(component: type[Component]) -> bool:
    return MORE in {f.name for f in dataclasses.fields(component)}  # type: ignore[arg-type]  # as above


def _plain(value: object) -> bool:
    return not isinstance(value, Call) and (not isinstance(value, tuple) or all(map(_plain, value)))


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _show(value: object, show: Callable[[object], str]) -> str:
    if isinstance(value, Component):
        return show(value)
    if isinstance(value, tuple):
        return f"({', '.join(_show(v, show) for v in value)}{',' * (len(value) == 1)})"
    if isinstance(value, float):
        return show_number(value)
    return repr(value)


def show_number(value: float) -> str:
    """Return the shortest text that reads back as `value`: 8/255 for what is a whole number of 8-bit steps."""
    plain = repr(value)
    levels = round(value * 255) if math.isfinite(value * 255) else 0
    return f"{levels}/255" if len(plain) > 8 and levels and levels / 255 == value else plain


def _type_name(hint: Any) -> str:  # as in convert
    if isinstance(hint, type) and issubclass(hint, Component) and hint in _catalogues:
        return _catalogues[hint].kind
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(hint) or str(hint).replace("typing.", "")


def _quotes(value: object) -> str:
    bare = isinstance(value, Call) and not value.args and not value.kwargs
    return f"; write it in quotes: {value.name!r}" if isinstance(value, Call) and bare else ""


def _shown(value: object) -> str:
    if isinstance(value, Call):
        return f"{value.name}(...)" if value.args or value.kwargs else value.name
    if isinstance(value, type):
        return f"the class {value.__name__}; make one: {value.__name__}()"
    shown = " ".join(repr(value).split())  # a network's has many lines
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
