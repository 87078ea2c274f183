"""The cells of the page's tables: each says what it prints and what it sorts by."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparring.core.results import Estimate
from sparring.report import format


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller second part, its key for sorting, a hint, and whether it is code."""

    text: str
    small: str = ""
    sort: str = ""
    hint: str = ""
    code: bool = False


@dataclass(frozen=True)
class Column:
    """A column's header and whether it holds figures."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort by each of its columns; the first cell of each row is the row's header."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


NOTHING = Cell(format.MISSING)


def text(value: str, small: str = "") -> Cell:
    """Return a cell of words."""
    return Cell(value, small, sort=value)


def code(value: str) -> Cell:
    """Return a cell of code, such as a call string."""
    return Cell(value, sort=value, code=True)


def estimate(value: Estimate) -> Cell:
    """Return a cell of a share in per cent, with its interval in smaller type."""
    return Cell(format.percent(value.value), format.interval(value), sort_key(value.value), f"n = {value.n:,}")


def figure(value: float, printed: Callable[[float], str], hint: str = "") -> Cell:
    """Return a cell of a plain figure."""
    return Cell(printed(value), sort=sort_key(value), hint=hint)


def sort_key(value: float) -> str:
    """Return what the page sorts by: a number as JavaScript reads it, nothing for NaN, which sorts last."""
    if math.isnan(value):
        return ""
    return repr(float(value)) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
