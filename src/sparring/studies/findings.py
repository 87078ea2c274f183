"""What follows from a study's rows: its claims decided, which figures came out, and where a protocol flatters."""

from collections.abc import Iterator

from sparring.core.results import Estimate
from sparring.core.study_results import Finding, Row, Unit
from sparring.studies.claims import decide, number, with_interval
from sparring.studies.plan import StudyPlan

GAP = 0.1  # how far the honest figure must fall below the paper's protocol to be worth a sentence


def findings(plan: StudyPlan, rows: tuple[Row, ...]) -> tuple[Finding, ...]:
    """Return the claims' verdicts, which figures came out, and where the paper's own protocol flatters."""
    by_name = {row.name: row for row in rows}
    claims = [decide(claim, by_name) for claim in plan.claims]
    return (*claims, *(finding for row in rows for finding in (*reproduction(row), *flattery(row))))


def reproduction(row: Row) -> Iterator[Finding]:
    """Say which of the published figures came out within the tolerance stated beforehand."""
    tested = [
        (figure.name, figure.ours, figure.published, figure.reproduced, figure.unit)
        for figure in (*row.figures, *row.adversaries)
        if figure.published is not None and figure.reproduced is not None
    ]
    tested += _sweep(row)
    if not tested:
        return
    missed = [figure for figure in tested if not figure[3]]
    claim = f"{row.name}: the published figures come out by the paper's own protocol"
    if not missed:
        yield Finding(claim, "holds", f"All {len(tested)} figures that were to be met are within their tolerance.")
        return
    told = "; ".join(
        f"{name} {with_interval(value, unit)}, published {number(published, unit)}"
        for name, value, published, _, unit in missed
    )
    yield Finding(
        claim, "does not hold", f"{len(missed)} of {len(tested)} figures are outside their tolerance: {told}."
    )


def _sweep(row: Row) -> list[tuple[str, Estimate, float, bool, Unit]]:
    """Return each point of the published sweep: its name, ours, the paper's, and whether it came out."""
    if row.sweep_tolerance is None or not row.sweep:
        return []
    ours = {round(point.eps, 9): point.accuracy for point in row.sweep[0].points}
    return [
        (
            f"accuracy at eps {eps:g}",
            ours[eps],
            value,
            abs(ours[eps].value - value) <= row.sweep_tolerance + 1e-12,
            "share",
        )
        for eps, value in row.published_sweep
        if eps in ours
    ]


def flattery(row: Row) -> Iterator[Finding]:
    """Say where the paper's protocol leaves much more than the honest attacks do."""
    for figure in row.figures:
        if figure.name == "adversarial accuracy" and figure.honest is not None:
            ours, honest = figure.compatibility, figure.honest
            if ours.low - honest.high > GAP:
                left, rest = with_interval(ours, "share"), with_interval(honest, "share")
                text = f"The paper's attack leaves {left}; stronger attacks at the same eps leave {rest}."
                yield Finding(f"{row.name}: the figure under the paper's attack is no robustness", "note", text)
