"""What call strings write, read with `ast` and never evaluated; what the names mean is for `spec` to say."""

import ast
import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

from sparring.core.errors import InputError

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
CONSTANTS: dict[str, object] = {"inf": math.inf, "true": True, "false": False}  # as TOML writes them too


@dataclasses.dataclass(frozen=True)
class Call:
    """A call as written: its name and what stands in the brackets, not yet checked against anything."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: tuple[tuple[str, object], ...] = ()


def literal(text: str) -> object:
    """Return the number, tuple, truth value or None that `text` writes; any other text stands for itself."""
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, InputError, ValueError, RecursionError, MemoryError):
        return text
    return text if isinstance(value, Call) else value


def read_call(text: str, kind: str, example: str) -> Call:
    """Return the call that `text` writes; raises InputError naming the `kind` that was expected, and an `example`."""
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except InputError as error:
        raise InputError(f"{kind} {text!r}: {error}") from None
    except (SyntaxError, ValueError):
        value = None
    except (RecursionError, MemoryError):
        raise InputError(f"{kind}: {text[:40]!r}… is nested too deeply") from None
    if not isinstance(value, Call):
        raise InputError(f"{kind}: {text!r} is not a call such as {example}")
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
        raise InputError(
            "only numbers can be added, subtracted, multiplied or divided in a call string; texts stand in quotes"
        )
    try:
        result = OPERATORS[type(op)](*operands)
        float(result)  # a whole number may be too large for one
        return result
    except (ZeroDivisionError, OverflowError) as error:
        raise InputError(f"arithmetic in a call string: {error}") from None
