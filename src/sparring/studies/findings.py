"""What follows from a study's rows: the paper's claims, each decided by a figure and its interval."""

from collections.abc import Iterator

from sparring.core.results import Estimate, Finding, Row
from sparring.studies.plan import ClaimPlan, StudyPlan

GAP = 0.1  # how far the honest figure must fall below the paper's protocol to be worth a sentence


def findings(plan: StudyPlan, rows: tuple[Row, ...]) -> tuple[Finding, ...]:
    """Return the claims' verdicts, which figures came out, and where the paper's own protocol flatters."""
    by_name = {row.name: row for row in rows}
    claims = [decide(claim, by_name[claim.row]) for claim in plan.claims if claim.row in by_name]
    return (*claims, *(finding for row in rows for finding in (*reproduction(row), *flattery(row))))


def decide(claim: ClaimPlan, row: Row) -> Finding:
    """Return whether the claim holds: the whole interval must be on its side of the bound."""
    figure = next(figure for figure in row.figures if figure.name == claim.figure)
    value = figure.compatibility if claim.column == "compatibility" else figure.honest
    assert value is not None
    if value.n == 0:
        return Finding(claim.claim, "note", f"{row.name}: no image is left on which {claim.figure} could be measured.")
    holds = (claim.at_least is None or value.low >= claim.at_least) and (
        claim.at_most is None or value.high <= claim.at_most
    )
    bounds = (("at least", claim.at_least), ("at most", claim.at_most))
    asked = " and ".join(f"{word} {bound:.1%}" for word, bound in bounds if bound is not None)
    how = "by the paper's protocol" if claim.column == "compatibility" else "under the honest attacks"
    sentence = f"{row.name}: {claim.figure} {how} is {_percent(value)}; the claim asks for {asked}."
    return Finding(claim.claim, "holds" if holds else "does not hold", sentence)


def reproduction(row: Row) -> Iterator[Finding]:
    """Say which of the published figures came out within the tolerance stated beforehand."""
    tested = [figure for figure in row.figures if figure.reproduced is not None]
    if not tested:
        return
    missed = [figure for figure in tested if not figure.reproduced]
    claim = f"{row.name}: the published figures come out by the paper's own protocol"
    if not missed:
        yield Finding(claim, "holds", f"All {len(tested)} figures that were to be met are within their tolerance.")
        return
    told = "; ".join(f"{f.name} {_percent(f.compatibility)}, published {f.published:.1%}" for f in missed)
    yield Finding(
        claim, "does not hold", f"{len(missed)} of {len(tested)} figures are outside their tolerance: {told}."
    )


def flattery(row: Row) -> Iterator[Finding]:
    """Say where the paper's protocol leaves much more than the honest attacks do."""
    for figure in row.figures:
        if figure.name == "adversarial accuracy" and figure.honest is not None:
            ours, honest = figure.compatibility, figure.honest
            if ours.low - honest.high > GAP:
                left, rest = _percent(ours), _percent(honest)
                text = f"The paper's attack leaves {left}; stronger attacks at the same eps leave {rest}."
                yield Finding(f"{row.name}: the figure under the paper's attack is no robustness", "note", text)


def _percent(value: Estimate) -> str:
    return f"{value.value:.1%} ({value.low:.1%} to {value.high:.1%})"
