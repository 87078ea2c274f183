"""The paper's figures and ours side by side, as one table that sorts by each of its columns."""

from collections.abc import Sequence

from sparring.core.results import Estimate
from sparring.core.study_results import Figure, Row, Unit
from sparring.report import format
from sparring.report.cells import NOTHING, Cell, Column, Table, sort_key, text

_COLUMNS = ("Honest", "Published", "Compatibility", "Mended")  # what counts first
_CAPTION = (
    "Accuracies, errors and confidences in %, distances in a norm of pixels in [0, 1], ours with 95 % intervals. "
    "Honest: as an attacker who knows the defence leaves it. Compatibility: by the paper's own protocol, with its "
    "faults."
)
_PUBLISHED = " Published: by the paper; ✓ or ✗: ours within the stated tolerance of it or not."
_MENDED = " Mended: by the same attack as compatibility, without the fault of its protocol."


def figures(rows: Sequence[Row]) -> Table:
    """Return one line a figure of each defence: published, by the paper's protocol, mended if any is, and honest."""
    mended = any(figure.mended is not None for row in rows for figure in row.figures)
    columns = [name for name in _COLUMNS if mended or name != "Mended"]
    columns = [name for name in columns if published(rows) or name != "Published"]
    words = (Column("Defence", numeric=False), Column("Figure", numeric=False))
    return Table(
        _CAPTION + (_PUBLISHED if published(rows) else "") + (_MENDED if mended else ""),
        (*words, *map(Column, columns)),
        tuple(_line(row.name, figure, columns) for row in rows for figure in row.figures),
        filter=1,
    )


def published(rows: Sequence[Row]) -> bool:
    """Say whether a paper gives any of the figures."""
    return any(figure.published is not None for row in rows for figure in row.figures)


def without(rows: Sequence[Row]) -> list[str]:
    """Return the names of the rows for which the paper gives no figures."""
    return [row.name for row in rows if not row.figures]


def _line(name: str, figure: Figure, columns: Sequence[str]) -> tuple[Cell, ...]:
    cells = {
        "Honest": _ours(figure, figure.honest, measured=False),
        "Published": Cell(
            format.published(figure.published, figure.unit),
            sort="" if figure.published is None else sort_key(figure.published),
        ),
        "Compatibility": _ours(figure, figure.compatibility, measured=figure.measured == "compatibility"),
        "Mended": _ours(figure, figure.mended, measured=figure.measured == "mended"),
    }
    return (text(name), text(figure.name), *(cells[column] for column in columns))


def _ours(figure: Figure, value: Estimate | None, *, measured: bool) -> Cell:
    if value is None:
        return NOTHING
    unit: Unit = figure.unit
    met = figure.reproduced if measured else None
    words = "" if met is None else f"{'✓' if met else '✗'}\N{NO-BREAK SPACE}{'within' if met else 'not within'}"
    tolerance = "" if figure.tolerance is None else f" ±{format.value(figure.tolerance, unit)}"
    return Cell(
        format.value(value.value, unit),
        format.interval(value, unit),
        sort_key(value.value),
        f"n = {value.n:,}",
        mark=words + tolerance if words else "",
        good=met is True,
    )
