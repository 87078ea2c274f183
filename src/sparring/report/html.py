"""The page: records in, one self-contained HTML file out."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sparring.core.study_results import Row, StudyResult
from sparring.report import (
    audit,
    beside,
    cells,
    certificates,
    charts,
    crossing,
    explorer,
    format,
    gallery,
    geometry,
    learning,
    panels,
    ranking,
    remake,
    series,
    sheets,
    tables,
    verdict,
    wording,
)
from sparring.report.style import APART, DARK, LIGHT, style

LIMIT = 7_900_000  # bytes of a page

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("report.js", "explorer.js")
_EMPTY, _END = '<script type="application/json" id="pictures">', "</script>"  # nothing in a record can spell these


@dataclass(frozen=True)
class Chart:
    """One chart's place on the page: its id, what stands above it, and what a screen reader says of it."""

    id: str
    title: str
    subtitle: str
    label: str
    spec: charts.Spec


def render(result: StudyResult, command: str = "") -> str:
    """Return the whole page; it loads nothing, and whatever the record holds is shown as text, never run."""
    explored = explorer.explorable(result.rows)
    surveys = [
        (each, geometry.names_of(each), _line_charts(f"geometry-{place}", geometry.panels(each)))
        for place, each in enumerate(result.geometries)
    ]
    drawn = _charts(result.rows) | {f"geometry-{place}": of for place, (_, _, of) in enumerate(surveys)}
    context = {
        "result": result,
        "charts": drawn,
        "tables": _tables(result),
        "surveys": surveys,
        "explored": explored,
        "remade": remake.page(command or result.provenance.command),
        "sheets": [(model, sheets.of(model, len(result.generatives))) for model in result.generatives],
        "apart": APART,
        "palettes": (LIGHT, DARK),
    }
    of_rows = _of_rows(result.rows, gallery.ASIDE if explored else gallery.BYTES)
    page = _environment().get_template("report.html").render(**context, **of_rows, **_assets(drawn))
    room = min(explorer.BYTES, LIMIT - len(page.encode()))
    return (
        page.replace(_EMPTY + _END, _EMPTY + _inert(explorer.pack(result.rows, room)) + _END, 1) if explored else page
    )


def _charts(rows: Sequence[Row]) -> dict[str, tuple[Chart, ...]]:
    return {
        "honest": _line_charts("honest", (*panels.honest_curves(rows), *certificates.curves(rows))),
        "sweep": _line_charts("sweep", panels.sweeps(rows)),
        "series": _line_charts("series", series.panels(rows)),
        "confidence": _bar_charts(panels.confidences(rows)) if rows else (),
        "reliability": _line_charts("reliability", panels.reliability(rows)),
        "training": _line_charts("training", learning.panels(rows)),
    }


def _of_rows(rows: Sequence[Row], budget: int) -> dict[str, Any]:
    """Return what is said and shown of the rows besides charts and tables; their images have so many bytes."""
    return {
        "crossing": crossing.tables(rows),
        "series": max((panel.lines for panel in series.panels(rows)), key=len, default=()),
        "ranking": ranking.ranking(rows),
        "headline": verdict.headline(rows),
        "remarks": verdict.remarks(rows),
        "failures": verdict.grouped(rows, "fail"),
        "warnings": verdict.grouped(rows, "warn"),
        "notes": verdict.raised(rows, "note"),
        "audits": audit.of(rows),
        "audited": audit.total(rows),
        "matrix": audit.matrix(rows),
        "marks": audit.MARKS,
        "shared": _shared(rows),
        "rises": panels.rises(rows),
        "published": beside.published(rows),
        "unpublished": beside.without(rows),
        "banded": len(rows) <= panels.BANDED,
        "strips": [(row, gallery.strip(row.evaluation, len(rows), budget)) for row in rows],
    }


def _line_charts(section: str, of_section: Sequence[panels.Panel]) -> tuple[Chart, ...]:
    return tuple(
        Chart(
            f"{section}-{index}",
            panel.title,
            panel.subtitle,
            f"{panel.y_title} against {panel.x_title} for {format.listed([line.name for line in panel.lines])}",
            charts.line_chart(panel),
        )
        for index, panel in enumerate(of_section)
    )


def _bar_charts(of_section: Sequence[panels.Bars]) -> tuple[Chart, ...]:
    return tuple(
        Chart(
            f"confidence-{index}",
            bars.title,
            "",
            f"Mean confidence, clean and attacked, {bars.title.lower()}",
            charts.bar_chart(bars),
        )
        for index, bars in enumerate(of_section)
    )


def _tables(result: StudyResult) -> dict[str, cells.Table]:
    rows = result.rows
    made = {
        "figures": beside.figures(rows),
        "attacks": tables.attacks(rows),
        "confidence": tables.confidences(rows),
        "calibration": tables.calibrations(rows),
        "honest": tables.honest_curves(rows),
        "sweep": tables.sweeps(rows),
        "training": learning.table(rows),
    }
    if any(row.evaluation.certified for row in rows):
        made["certificates"] = certificates.table(rows)
    if any(row.nearest for row in rows):
        made["nearest"] = tables.nearest(rows)
    if any(row.adversaries for row in rows):
        made["adversaries"] = tables.adversaries(rows)
    if any(len(row.repeats) > 1 for row in rows):
        made["repeats"] = tables.repeats(rows)
    if result.generatives:
        made["generatives"] = tables.generatives(result.generatives)
    return made | ({"search": tables.search(result.search)} if result.search else {})


def _shared(rows: Sequence[Row]) -> dict[str, str]:
    """Return what all rows have in common, to be said once; empty where they differ."""
    return {
        "threat": verdict.common([row.evaluation.threat for row in rows]) if rows else "",
        "images": verdict.common([images(row) for row in rows]) if rows else "",
        "source": verdict.common([source(row) for row in rows]) if rows else "",
        "trainings": verdict.common([trainings(row) for row in rows]) if rows else "",
    }


def images(row: Row) -> str:
    """Say which images, and how many, a row was judged on."""
    return f"{count(row)} examples of {source(row)}"


def count(row: Row) -> str:
    """Say how many images a row was judged on."""
    return f"{row.evaluation.examples or row.evaluation.robust.n:,}"


def source(row: Row) -> str:
    """Say of which images those that a row was judged on are."""
    return f"{row.evaluation.data}, {row.evaluation.split} split"


def trainings(row: Row) -> str:
    """Say of how many trainings a row's figures are the means."""
    count = len(row.evaluation.seeds)
    return f"means of {count} trainings" if count else "one training"


def _assets(drawn: dict[str, tuple[Chart, ...]]) -> dict[str, Any]:
    """Return scripts and styles to stand inside the page, and the hashes that let these scripts alone run."""
    specs = {chart.id: chart.spec for section in drawn.values() for chart in section}
    plotly, *ours = get_plotlyjs(), *((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return {
        "plotly": Markup(plotly),  # noqa: S704  # Plotly's own bundle, from the installed package
        "scripts": [Markup(script) for script in ours],  # noqa: S704  # ours
        "css": Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704  # ours
        "specs": Markup(_json(specs)),  # noqa: S704  # escaped by _json
        "hashes": [_hash(script) for script in (plotly, *ours)],
    }


def _json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return _inert(json.dumps(value, allow_nan=False, separators=(",", ":")))


def _inert(text: str) -> str:
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": format.percent,
        "published": format.published,
        "in_unit": format.value,
        "interval": format.interval,
        "with_interval": format.with_interval,
        "eps": format.eps,
        "short_call": format.short_call,
        "sentence": wording.sentence,
        "number": format.number,
        "seconds": format.seconds,
        "sentence_list": format.listed,
        "style": style,
        "images": images,
        "count_of": count,
        "trainings": trainings,
        "briefly": audit.briefly,
        "remade": remake.row,
        "data_uri": gallery.data_uri,
        "track": _track,
    }
    return environment


def _track(share: float) -> str:
    """Return where on a bar a share stands, as a CSS length; an unknown share stands at its start."""
    return f"{100 * min(max(share, 0), 1):.2f}%" if share == share else "0"
