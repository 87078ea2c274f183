"""How figures are printed: in one place, so that tables, charts, captions and the figures for a paper agree."""

import math

from sparring.core.results import Estimate
from sparring.core.study_results import Unit

MISSING = "—"
INFINITE = "∞"
TO = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def percent(share: float, decimals: int = 1) -> str:
    """Print a share in [0, 1] as a percentage without its sign: `0.986` is `98.6`; NaN is a dash."""
    if not math.isfinite(share):
        return _special(share)
    return f"{round(100 * share, decimals) + 0.0:.{decimals}f}"  # + 0.0 takes the sign from a zero


def published(figure: float | None, unit: Unit = "share") -> str:
    """Print a paper's figure: a share in per cent, with two decimals as papers do; a dash where it gives none."""
    if figure is None:
        return MISSING
    return percent(figure, 2) if unit == "share" else number(figure)


def value(figure: float, unit: Unit) -> str:
    """Print a figure of the paper's or of ours: a share in per cent, a distance as it is."""
    return percent(figure) if unit == "share" else distance(figure)


def interval(estimate: Estimate, unit: Unit = "share") -> str:
    """Print the 95 % interval in per cent, `98.4-98.8` with an en dash, or as it is; nothing if it is unknown."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"{value(estimate.low, unit)}{TO}{value(estimate.high, unit)}"


def with_interval(estimate: Estimate) -> str:
    """Print an estimate in per cent with its interval: `98.6 % (98.4-98.8)`."""
    if math.isnan(estimate.value):
        return MISSING
    inner = interval(estimate)
    return f"{percent(estimate.value)} %" + (f" ({inner})" if inner else "")


def eps(value: float) -> str:
    """Print an eps as papers do: `0.25`, `8/255` where it is a whole number of 8-bit steps, else a short decimal."""
    if not math.isfinite(value):
        return _special(value)
    steps = value * 255
    if abs(value - round(value, 2)) < 1e-9 or abs(steps - round(steps)) > 1e-4:
        return f"{value:.4g}"
    return f"{round(steps)}/255"


def distance(length: float) -> str:
    """Print a distance in [0, 1] units; `∞` where too many examples were never fooled."""
    return f"{length:.3g}" if math.isfinite(length) else _special(length)


def number(value: float) -> str:
    """Print a figure of unknown unit, to four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else _special(value)


def count(value: float) -> str:
    """Print a mean number of passes: `1,234`, `40` or `12.3`."""
    if not math.isfinite(value):
        return _special(value)
    whole = value >= 100 or abs(value - round(value)) < 0.05
    return f"{value:,.0f}" if whole else f"{value:.1f}"


def seconds(value: float) -> str:
    """Print a duration: `0.42 s`, `12.3 s`, `3 min 20 s`, `1 h 5 min`."""
    if not math.isfinite(value):
        return _special(value)
    if value < 59.95:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def shorten(name: str, width: int) -> str:
    """Cut a long name in its middle, since names that are alike differ at either end."""
    if len(name) <= width:
        return name
    tail = width // 3
    return f"{name[: width - tail - 1]}…{name[-tail:]}"


def short_call(spec: str, width: int = 40) -> str:
    """Drop the last arguments of a long call string: `pgd(steps=20, rel_step_size=0.1, …)`."""
    head, bracket, inside = spec.removesuffix(")").partition("(")
    if len(spec) <= width or not bracket:
        return spec
    kept, room = [], width - len(head) - 3
    for argument in _arguments(inside):
        room -= len(argument) + 2
        if room < 0:
            break
        kept.append(argument)
    return f"{head}({', '.join([*kept, '…'])})"


def _arguments(inside: str) -> list[str]:
    """Split a call string's arguments, but not those of a call inside it."""
    parts = [""]
    depth = 0
    for letter in inside:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def listed(items: list[str], word: str = "and") -> str:
    """Join items as a sentence does: `a`, `a and b`, `a, b and c`; or by another word than "and"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def _special(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return INFINITE if value > 0 else f"\N{MINUS SIGN}{INFINITE}"
