"""Reports: one page a person can read, and its figures for a paper, drawn from records alone."""

from collections.abc import Collection, Mapping
from pathlib import Path

from sparring.core.errors import InputError
from sparring.core.files import replacing
from sparring.core.results import Evaluation
from sparring.core.study_results import Row, StudyResult, bare, distinct, side_by_side


def write(
    result: StudyResult | Evaluation | Mapping[str, Evaluation] | Collection[Evaluation],
    folder: Path | str,
    *,
    command: str = "",
) -> Path:
    """Write `folder/report.html`, and its figures as PNG and SVG in `folder/figures/`; return the page's path.

    `result`: a study's, or what `sparring.evaluate` returned; or several of the latter side by side, each under a name
    of yours, or in a list under its model's. The page is one file that needs no network. `command` is what makes it
    again, as the page prints it; without it the page prints the command in the record. Nothing is ever half written.
    Raises InputError for anything else, for none, for two of one name, and when the folder cannot be written or the
    disk is full.
    """
    result = result if isinstance(result, StudyResult) else side_by_side(_rows(result))
    from sparring.report import figures, html  # here, because Matplotlib and Jinja take most of a second to import

    folder = Path(folder)
    figures.write(result, folder / "figures")
    page = folder / "report.html"
    with replacing(page) as part:
        part.write_text(html.render(result, command), encoding="utf-8")
    return page


def _rows(given: object) -> list[Row]:
    """Return a row for each verdict given: one, or several by their names, or by their models'."""
    if isinstance(given, Evaluation):
        return [bare(given.model, given)]
    if not isinstance(given, Collection):
        raise InputError(f"report: expected a study's result or verdicts, not {type(given).__name__}")
    if not given:
        raise InputError("report: there is no verdict in what was given")
    if isinstance(given, Mapping):
        return [bare(_text(name), _verdict(each)) for name, each in given.items()]
    verdicts = [_verdict(each) for each in given]
    names = distinct([each.model for each in verdicts], verdicts)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'report: two verdicts are of {name}; give them names: {{"one": ..., "other": ...}}')
    return [bare(name, each) for name, each in zip(names, verdicts, strict=True)]


def _verdict(given: object) -> Evaluation:
    if not isinstance(given, Evaluation):
        kind = type(given).__name__
        raise InputError(f"report: expected a study's result or verdicts, not {kind}; Evaluation.load reads a file")
    return given


def _text(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InputError(f"report: each verdict's name must be a text, not {name!r}")
    return name
