"""Call strings, `trades(beta=6, threat=linf(8/255))`: the same in TOML, on the command line and as `repr`.

They are read with `ast` and never evaluated. An unknown name or argument is an `InputError` that says "did you mean".
"""

import ast
import dataclasses
import difflib
import math
import operator
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sparring.core.errors import InputError

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
MORE = "arguments"  # the field that holds arguments which no field is named after
CONSTANTS: dict[str, object] = {"inf": math.inf, "true": True, "false": False}  # as TOML writes them too


class Component:
    """Something that a call string names: a frozen dataclass with a `name`, listed in its package's catalogue.

    `repr` is the call string with every argument, which stays true when a default changes; `str` leaves defaults out.
    A component with a field called `arguments`, pairs of names and plain values, takes any argument more. `home`: the
    module that lists a kind, if who opens a saved one may not have imported it.
    """

    name: ClassVar[str]
    home: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = Component.__repr__  # type: ignore[method-assign]  # else @dataclass writes its own

    def __repr__(self) -> str:
        return self._call(repr, _arguments(self))

    def __str__(self) -> str:
        return self._call(str, (f for f in _arguments(self) if getattr(self, f.name) != f.default))

    def _call(self, show: Callable[[object], str], fields: "Iterable[dataclasses.Field[Any]]") -> str:
        shown = [f"{f.name}={_show(getattr(self, f.name), show)}" for f in fields]
        more: tuple[tuple[str, object], ...] = getattr(self, MORE, ())
        return f"{self.name}({', '.join([*shown, *(f'{key}={_show(value, show)}' for key, value in more)])})"


C = TypeVar("C", bound=Component)
_catalogues: dict[type[Component], "Catalogue[Any]"] = {}


class Catalogue(Generic[C]):
    """The components of one kind, by name."""

    def __init__(self, base: type[C], kind: str, components: tuple[type[C], ...]) -> None:
        self.base, self.kind = base, kind
        self.components = {component.name: component for component in components}
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
            raise InputError(f"{self.kind}: expected a call string such as {self.example()}, not {spec!r}")
        return self.build(_read(spec, self.kind))

    def example(self) -> str:
        """Return a call string of this kind, for messages."""
        return f"{next(iter(self.components))}(...)"

    def build(self, call: "Call") -> C:
        """Make the component from its parsed call."""
        component = self.components.get(call.name)
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
        hints = get_type_hints(component)
        found = {key: convert(value, hints[key], f"{call.name}: {key}") for key, value in given.items()}
        return component(**found, **({MORE: tuple(sorted(more.items()))} if more else {}))


@dataclasses.dataclass(frozen=True)
class Call:
    """A call as written: its name and what stands in the brackets, not yet checked against anything."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()


def example(component: type[Component]) -> str:
    """Return how a component is called: its required arguments by name, the others with their defaults."""
    parts = [f.name if _required(f) else f"{f.name}={_show(f.default, str)}" for f in _arguments(component)]
    return f"{component.name}({', '.join(parts)})"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean …?' when something close exists, else the list of what does."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names) or 'none'}"


def literal(text: str) -> object:
    """Return the number, tuple, truth value or None that `text` writes; any other text stands for itself."""
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, InputError, ValueError, RecursionError, MemoryError):
        return text
    return text if isinstance(value, Call) else value


def convert(value: object, hint: Any, where: str) -> Any:  # the hint is a type, known only at run time
    """Return `value` as the type `hint` (an int serves as a float, a string as a component), else raise InputError."""
    origin = get_origin(hint)
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
        raise InputError(f"{where}: {_shown(value)} is not one of {', '.join(map(repr, get_args(hint)))}")
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise InputError(f"{where}: expected {_type_name(hint)}, not {_shown(value)}")


def _convert_component(value: object, base: type[Component], where: str) -> Component:
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


def _read(text: str, kind: str) -> Call:
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except InputError as error:
        raise InputError(f"{kind} {text!r}: {error}") from None
    except (SyntaxError, ValueError):
        value = None
    except (RecursionError, MemoryError):
        raise InputError(f"{kind}: {text[:40]!r}… is nested too deeply") from None
    if not isinstance(value, Call):
        raise InputError(f"{kind}: {text!r} is not a call such as pgd(steps=40)")
    return value


def _value(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as constant):
            return constant
        case ast.Name(id=name):
            return CONSTANTS.get(name, Call(name))
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_value(item) for item in items)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return _number(op, _value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _number(op, _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            kwargs = tuple((k.arg, _value(k.value)) for k in keywords if k.arg is not None)
            if len(kwargs) == len(keywords):
                return Call(name, tuple(_value(a) for a in args), kwargs)
    raise InputError(f"{ast.unparse(node)!r} has no place in a call string: write numbers, 'text', lists and calls")


def _number(op: ast.AST, *operands: object) -> object:
    if not all(type(operand) in (int, float) for operand in operands):
        raise InputError("only numbers can be added, subtracted, multiplied or divided in a call string")
    try:
        result = OPERATORS[type(op)](*operands)
        float(result)  # a whole number may be too large for one
        return result
    except (ZeroDivisionError, OverflowError) as error:
        raise InputError(f"arithmetic in a call string: {error}") from None


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


def _shown(value: object) -> str:
    return f"{value.name}(...)" if isinstance(value, Call) else repr(value)
