"""What is proven of randomly smoothed defences, beside what attacks left of them."""

from collections.abc import Sequence

from sparring.core.results import Certified
from sparring.core.study_results import Row
from sparring.report import format
from sparring.report.cells import Column, Table, estimate, figure, text
from sparring.report.panels import Line, Panel


def table(rows: Sequence[Row]) -> Table:
    """Return both ends of each smoothed defence's robustness: what is proven, and what attacks left."""
    names = ("Right, smoothed %", "Certified within the threat %", "Left by attacks %", "Abstained %")
    return Table(
        "Randomised smoothing: the true robust accuracy of the smoothed model lies between what is certified and what "
        "attacks left, but for chance and for the few draws by which an attacked image is judged.",
        (
            Column("Defence", numeric=False),
            Column("sigma"),
            Column("Draws"),
            Column("L2 radius"),
            *(Column(name) for name in names),
        ),
        tuple(
            (
                text(row.name),
                figure(proven.sigma, format.number),
                figure(proven.draws, format.count),
                figure(proven.radius, format.distance),
                estimate(proven.smoothed),
                estimate(proven.accuracy),
                estimate(row.evaluation.robust),
                estimate(proven.abstained),
            )
            for row in rows
            for proven in [row.evaluation.certified]
            if proven is not None
        ),
    )


def curves(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return accuracy against the L2 radius within which it is proven; no panel where nothing is."""
    lines = tuple(
        _line(index, row.name, row.evaluation.certified)
        for index, row in enumerate(rows)
        if row.evaluation.certified is not None
    )
    if not lines:
        return ()
    return (
        Panel(
            title="L2, certified",
            subtitle="randomised smoothing: no perturbation of this length or less changes the answer",
            x_title="L2 radius (pixels in [0, 1])",
            y_title="right and certified (%)",
            percent=True,
            ticks={},  # the radii are whatever the draws proved
            lines=lines,
        ),
    )


def _line(index: int, name: str, proven: Certified) -> Line:
    shares = [share for _, share in proven.curve]
    return Line(
        row=index,
        name=name,
        x=tuple(radius for radius, _ in proven.curve),
        y=tuple(100 * share.value for share in shares),
        low=tuple(100 * share.low for share in shares),
        high=tuple(100 * share.high for share in shares),
        notes=tuple((name, f"radius {format.eps(r)}: {format.with_interval(s)}") for r, s in proven.curve),
    )
