"""How the defences are told apart: colour, dash and marker, the same on the page and in the figures for a paper."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The defences' colours in turn, and those of clean and attacked images."""

    series: tuple[str, ...]
    clean: str
    attacked: str

    def variables(self) -> str:
        """Return the palette as CSS custom properties, which the page's bars, keys and charts all read."""
        lines = [f"--s{index}:{colour};--s{index}-band:{_faint(colour)};" for index, colour in enumerate(self.series)]
        return "".join(lines) + f"--clean:{self.clean};--attacked:{self.attacked};"


# Okabe and Ito's palette, safe for the colour-blind; its yellow is too pale on white and is left out.
LIGHT = Palette(("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333"), "#56b4e9", "#d55e00")
DARK = Palette(("#5aa9e6", "#f5894a", "#35c79e", "#e6a3ca", "#f2b632", "#a9dcf8", "#dddddd"), "#4a94cc", "#d2642a")

APART = 980  # from here on no number is a defence's, whose key hides its lines; looks begin anew

_DASHES = (("solid", "-", ""), ("dash", "--", "7 4"), ("dot", ":", "2 3"), ("dashdot", "-.", "7 3 2 3"))
_MARKERS = (
    ("circle", "o", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"),
    ("square", "s", "M-3.5-3.5h7v7h-7z"),
    ("diamond", "D", "M0-5L5 0L0 5L-5 0z"),
    ("triangle-up", "^", "M0-4.5L4.5 4h-9z"),
    ("triangle-down", "v", "M0 4.5L4.5-4h-9z"),
)


@dataclass(frozen=True)
class Style:
    """One defence's look: the number of its colour, and its dash and marker for Plotly, Matplotlib and SVG."""

    colour: int
    dash: str
    line: str
    stroke: str
    symbol: str
    marker: str
    path: str


def style(index: int) -> Style:
    """Return the look of defence number `index`; the first 140 all differ."""
    dash, line, stroke = _DASHES[index % len(_DASHES)]
    symbol, marker, path = _MARKERS[index % len(_MARKERS)]
    return Style(index % len(LIGHT.series), dash, line, stroke, symbol, marker, path)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
