"""Models on each other's adversarial images: a table for each way in which such images were made."""

from collections.abc import Sequence

from sparring.core.study_results import Figure, Row
from sparring.report import format
from sparring.report.cells import NOTHING, Cell, Column, Table, sort_key, text, warmth

_UNDER = "accuracy under "
_CLEAN = "clean accuracy"


def tables(rows: Sequence[Row]) -> tuple[Table, ...]:
    """Return for each kind of images each row's accuracy (lines) on those made on each row (columns)."""
    made: dict[str, list[str]] = {}
    for figure in (figure for row in rows for figure in row.figures):
        source = next((row.name for row in rows if figure.name.endswith(f" of {row.name}")), "")
        if figure.name.startswith(_UNDER) and source:
            sources = made.setdefault(figure.name.removeprefix(_UNDER).removesuffix(f" of {source}"), [])
            sources += [source] if source not in sources else []
    return tuple(_table(rows, name, sources) for name, sources in made.items())


def _table(rows: Sequence[Row], name: str, sources: Sequence[str]) -> Table:
    return Table(
        f"Accuracy in % of each defence (lines) on {name} that were made on each (columns), the stronger the colour "
        "the higher, and in smaller type as a share of its accuracy on clean images, in %: the paper's measure of "
        "robustness. Framed: images made on the defence itself.",
        (Column("Defence", numeric=False), *(Column(f"Made on {source}") for source in sources)),
        tuple((text(row.name), *(_cell(row, name, source) for source in sources)) for row in rows),
    )


def _cell(row: Row, images: str, source: str) -> Cell:
    figures: dict[str, Figure] = {figure.name: figure for figure in row.figures}
    name = f"{_UNDER}{images} of {source}"
    if name not in figures:
        return NOTHING
    value = figures[name].compatibility
    clean = figures[_CLEAN].compatibility.value if _CLEAN in figures else 0.0
    ratio = format.percent(value.value / clean) if clean else format.MISSING
    return Cell(
        format.percent(value.value),
        ratio,
        sort_key(value.value),
        format.with_interval(value),
        heat=warmth(value.value),
        own=source == row.name,
    )
