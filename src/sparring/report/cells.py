"""The cells of the page's tables: each says what it prints and what it sorts by."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparring.core.results import Estimate
from sparring.report import format


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller second part, its key for sorting, a hint, and whether it is code.

    `mark`: a remark before it, `good` or bad. `heat`: a share in [0, 1] that its background shows, beside the figure
    itself. `own`: whether it is framed, as the one of a heat map whose line and column are the same defence.
    """

    text: str
    small: str = ""
    sort: str = ""
    hint: str = ""
    code: bool = False
    mark: str = ""
    good: bool = False
    heat: float | None = None
    own: bool = False


@dataclass(frozen=True)
class Column:
    """A column's header and whether it holds figures."""

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table that a reader can sort by each of its columns; the first cell of each row is the row's header.

    `filter`: the number of a column by whose words its rows can be chosen.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    filter: int | None = None

    @property
    def shaded(self) -> bool:
        """Whether it is a heat map."""
        return any(cell.heat is not None for row in self.rows for cell in row)

    @property
    def choices(self) -> list[str]:
        """What the rows can be chosen by, in the order of the rows; nothing where there is no choice."""
        words = [] if self.filter is None else list(dict.fromkeys(row[self.filter].text for row in self.rows))
        return words if len(words) > 1 else []


NOTHING = Cell(format.MISSING)


def text(value: str, small: str = "") -> Cell:
    """Return a cell of words."""
    return Cell(value, small, sort=value)


def code(value: str, small: str = "") -> Cell:
    """Return a cell of code, such as a call string, which in full is its hint if it is long."""
    short = format.short_call(value)
    full = [part for part in (value, small) if format.short_call(part) != part]
    return Cell(short, format.short_call(small), sort=value, code=True, hint="\n".join(full))


def estimate(value: Estimate) -> Cell:
    """Return a cell of a share in per cent, with its interval in smaller type."""
    return Cell(format.percent(value.value), format.interval(value), sort_key(value.value), f"n = {value.n:,}")


def figure(value: float, printed: Callable[[float], str], hint: str = "") -> Cell:
    """Return a cell of a plain figure."""
    return Cell(printed(value), sort=sort_key(value), hint=hint)


def warmth(value: float) -> float | None:
    """Return a share as a cell's heat; None if it is unknown."""
    return None if math.isnan(value) else min(max(value, 0.0), 1.0)


def sort_key(value: float) -> str:
    """Return what the page sorts by: a number as JavaScript reads it, nothing for NaN, which sorts last."""
    if math.isnan(value):
        return ""
    return repr(float(value)) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
