"""The tables of the studies' pages, from their committed results."""

from math import isnan
from pathlib import Path

from sparring.core.records import load
from sparring.core.results import Curve, Estimate
from sparring.core.study_results import Figure, StudyResult, Unit
from sparring.report.panels import calibrations


def study_tables(results: Path) -> dict[str, str]:
    """Return the tables of every study whose results are there, by page and place."""
    found = {}
    for path in sorted(results.glob("*.json")):
        page = path.parents[2] / "docs" / "studies" / f"{path.stem}.md"
        if page.exists():
            found |= {f"studies/{path.stem}.md {place}": table for place, table in of(load(StudyResult, path)).items()}
    for path in sorted(results.glob(f"*{AUDITED}.json")):
        whole = path.stem.removesuffix(AUDITED)
        both = (load(StudyResult, each) for each in (results / f"{whole}.json", path))
        found[f"studies/{whole}.md audited"] = audited(*both)
    return found


def of(result: StudyResult) -> dict[str, str]:
    """Return one study's tables by place."""
    found = {"figures": figures(result), "attacks": attacks(result), "curve": curves(result, sweep=False)}
    found |= {name: table(result) for name, table in WHERE_ANY.items() if table(result)}
    ways = list(dict.fromkeys(curve.conditions for row in result.rows for curve in row.sweep))
    found |= {f"sweep {way}".strip(): curves(result, sweep=True, way=way) for way in ways}
    if result.findings:
        found["findings"] = findings(result)
    if any(row.repeats for row in result.rows):
        found["calibration"] = calibration(result)
    if any(row.adversaries for row in result.rows):
        found["adversaries"] = adversaries(result)
    return found


def audited(whole: StudyResult, one: StudyResult) -> str:
    """Return what is left of each row over all seeds, and of one that was judged again with the audit."""
    heads = ("row", "all seeds, robust %", "one, audited", "fell to audit or curve alone", "checks passed", "warnings")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    over_all = {row.name: row.evaluation.robust for row in whole.rows}
    for row in one.rows:
        judged, outcomes = row.evaluation, [check.outcome for check in row.evaluation.audit]
        passed = f"{outcomes.count('passed')} of {len(outcomes)}"
        against = [f"**{flag.check}**" for flag in judged.flags if flag.severity == "fail"]
        against += [flag.check for flag in judged.flags if flag.severity == "warn"]
        each = (_points(over_all[row.name]), _points(judged.robust), str(judged.otherwise), passed)
        lines.append(f"| {' | '.join((row.name, *each, ', '.join(against) or '-'))} |")
    return "\n".join(lines)


def _points(value: Estimate) -> str:
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"


def printed(value: Estimate | None, unit: Unit) -> str:
    """Return a share in per cent, or a distance as it is, with its interval."""
    if unit == "share" or value is None or value.n == 0:
        return percent(value)
    return f"{value.value:.3g}" + ("" if isnan(value.low) else f" ({value.low:.3g} to {value.high:.3g})")


def percent(value: Estimate | None) -> str:
    """Return a share in per cent with its interval; a dash where there was nothing to measure."""
    if value is None or value.n == 0:
        return "-"
    return f"{value.value:.2%} ({value.low:.2%} to {value.high:.2%})".replace("%", " %")


def figures(result: StudyResult) -> str:
    """Return the paper's figures beside ours, a line each; of a study over seeds those that matter."""
    mended = any(f.mended is not None for row in result.rows for f in row.figures)
    names = ["row", "figure", "published", "compatibility", *(["mended"] if mended else []), "honest"]
    lines = [f"| {' | '.join([*names, 'within tolerance'])} |", "| --- " * (len(names) + 1) + "|"]
    for row in result.rows:
        for f in row.figures:
            if row.repeats and f.published is None and ("confidence" in f.name or f.name.startswith("accuracy under")):
                continue
            published = "-" if f.published is None else f"{f.published:.3g}"
            if f.published is not None and f.unit == "share":
                published = f"{f.published:.2%}".replace("%", " %")
            met = {None: "", True: "yes", False: "no"}[f.reproduced]
            ours = [printed(value, f.unit) for value in (f.compatibility, *([f.mended] if mended else []), f.honest)]
            lines.append(f"| {' | '.join([row.name, f.name, published, *ours, met])} |")
    return "\n".join(lines)


def attacks(result: StudyResult) -> str:
    """Return what each attack leaves of each row."""
    lines = ["| row | attack | accuracy | passes back, mean |", "| --- " * 4 + "|"]
    for row in result.rows:
        for name, attacked in row.evaluation.attacked.items():
            lines.append(f"| {row.name} | `{name}` | {percent(attacked.accuracy)} | {attacked.backwards:.1f} |")
    return "\n".join(lines)


def curves(result: StudyResult, *, sweep: bool, way: str = "") -> str:
    """Return accuracy against eps, a line a row: by the paper's protocol (`sweep`) or in the worst case."""
    drawn: dict[str, dict[float, float]] = {}
    for row in result.rows:
        chosen: tuple[Curve, ...] = (
            tuple(curve for curve in row.sweep if curve.conditions == way) if sweep else row.evaluation.curves[:1]
        )
        if row.sweep or not any(other.sweep for other in result.rows):
            drawn[row.name] = {p.eps: p.accuracy.value for curve in chosen for p in curve.points}
    drawn = {name: at for name, at in drawn.items() if at}  # a row may be attacked at one eps alone
    grid = list(next(iter(drawn.values())))
    lines = [f"| row | {' | '.join(f'{eps:g}' for eps in grid)} |", "| --- " * (len(grid) + 1) + "|"]
    for name, at in drawn.items():
        cells = [f"{at[eps] * 100:.1f}" if eps in at else "-" for eps in grid]  # some rows are attacked at fewer
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def adversaries(result: StudyResult) -> str:
    """Return each row's accuracy under each learned adversary, by the mended protocol and by the paper's."""
    names = [figure.name.removeprefix("accuracy under ") for figure in result.rows[0].adversaries]
    lines = [f"| row | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for row in result.rows:
        cells = [
            f"{100 * (f.mended or f.compatibility).value:.1f} ({100 * f.compatibility.value:.1f})"
            for f in row.adversaries
        ]
        lines.append(f"| {' | '.join([row.name, *cells])} |")
    return "\n".join(lines)


def calibration(result: StudyResult) -> str:
    """Return the expected calibration error of each row on each kind of images."""
    kinds = list(calibrations(result.rows[0]))
    lines = [f"| row | {' | '.join(kinds)} |", "| --- " * (len(kinds) + 1) + "|"]
    for row in result.rows:
        of_row = calibrations(row)
        lines.append(f"| {' | '.join([row.name, *(percent(of_row[kind].ece) for kind in kinds)])} |")
    return "\n".join(lines)


def findings(result: StudyResult) -> str:
    """Return every claim with its verdict."""
    lines = ["| claim | verdict | by what |", "| --- " * 3 + "|"]
    claims = [f for f in result.findings if not any(f.claim.startswith(f"{row.name}: ") for row in result.rows)]
    lines += [f"| {f.claim} | **{f.verdict}** | {f.sentence} |" for f in claims]
    return "\n".join(lines)


def nearest(result: StudyResult) -> str:
    """Return how near the images of each minimal attack lie, and of them all, a line a row."""
    rows = [row for row in result.rows if row.nearest]
    names = [name.split("(")[0] for row in rows[:1] for name in (row.nearest.attacked if row.nearest else ())]
    means = {"distance": "least of them, mean", "distance over all images": "with images already wrong, at 0"}
    heads = ["row", *(f"{name}, median" for name in names), *means.values()]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in rows:
        each = row.nearest.attacked.values() if row.nearest else ()
        of = {figure.name: figure.honest for figure in row.figures}
        cells = [f"{attacked.median_distance:.3g}" for attacked in each]
        cells += [printed(of.get(name), "number") for name in means]
        lines.append(f"| {' | '.join([row.name, *cells])} |")
    return "\n".join(lines) if rows else ""


def generatives(result: StudyResult) -> str:
    """Return how good each generative model is."""
    lines = ["| model | figure | value |", "| --- " * 3 + "|"]
    lines += [f"| {g.name} | {m.name} | {printed(m.value, m.unit)} |" for g in result.generatives for m in g.quality]
    return "\n".join(lines) if len(lines) > 2 else ""


def shown(result: StudyResult) -> str:
    """Return each row's accuracy on images that were made on others, and in brackets on such made on itself."""
    names = {f.name: None for row in result.rows for f in row.figures if f.name.startswith(SHOWN)}
    heads = [name.removeprefix("accuracy under ") for name in names]
    lines = [f"| row | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for row in result.rows:
        of = {f.name: f for f in row.figures}
        lines.append(f"| {' | '.join([row.name, *(_both(of.get(name)) for name in names)])} |")
    return "\n".join(lines) if names else ""


def _both(figure: Figure | None) -> str:
    if figure is None or figure.compatibility.n == 0:
        return "-"
    honest = "" if figure.honest is None else f" ({100 * figure.honest.value:.1f})"
    return f"{100 * figure.compatibility.value:.1f}{honest}"


def geometries(result: StudyResult) -> str:
    """Return what each figure of where adversarial images lie shows."""
    return "\n".join(f"- {plot.title}: {plot.sentence}" for found in result.geometries for plot in found.plots)


def certificates(result: StudyResult) -> str:
    """Return what is proven of each smoothed row: within some L2 radii and within the threat, and what attacks left."""
    heads = ["row", "right, smoothed", *(f"certified beyond L2 {radius:g}" for radius in RADII), "within the threat"]
    heads += ["left by attacks", "abstained"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in result.rows:
        proven = row.evaluation.certified
        if proven is not None:
            beyond = [next((share for radius, share in proven.curve if radius >= asked), None) for asked in RADII]
            shares = [proven.smoothed, *beyond, proven.accuracy, row.evaluation.robust, proven.abstained]
            lines.append(f"| {' | '.join([row.name, *map(percent, shares)])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


AUDITED = "-audited"  # of a record of one seed, judged again
SHOWN = ("accuracy under ", "fooling rate of ")
RADII = (0.25, 0.5, 1.0)
WHERE_ANY = {
    "nearest": nearest,
    "generatives": generatives,
    "shown": shown,
    "certificates": certificates,
    "geometries": geometries,
}
