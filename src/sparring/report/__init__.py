"""Reports: one page a person can read, and its figures for a paper, drawn from records alone."""

from pathlib import Path

from sparring.core.files import replacing
from sparring.core.results import Evaluation
from sparring.core.study_results import StudyResult, alone


def write(result: StudyResult | Evaluation, folder: Path | str, *, command: str = "") -> Path:
    """Write `folder/report.html`, and its figures as PNG and SVG in `folder/figures/`; return the page's path.

    `result`: a study's, or what `sparring.evaluate` returned. The page is one file that needs no network. `command` is
    what makes it again, as the page prints it; without it the page prints the command in the record. Nothing is ever
    half written.
    Raises InputError when the folder cannot be written or the disk is full.
    """
    from sparring.report import figures, html  # here, because Matplotlib and Jinja take most of a second to import

    result = alone(result) if isinstance(result, Evaluation) else result
    folder = Path(folder)
    figures.write(result, folder / "figures")
    page = folder / "report.html"
    with replacing(page) as part:
        part.write_text(html.render(result, command), encoding="utf-8")
    return page
