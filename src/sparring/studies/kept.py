"""What a study has measured of a run, kept in the run's folder: a stopped study measures nothing twice."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from sparring.core.errors import InputError
from sparring.core.records import load, save
from sparring.core.study_results import Figure, Row, StudyResult
from sparring.studies.plan import EvaluationPlan, RowPlan

log = logging.getLogger("sparring")


def kept_row(
    folder: Path,
    row: RowPlan,
    plan: EvaluationPlan,
    threat: str,
    data: str,
    runs: Mapping[str, str],
    shown: tuple[Figure, ...],
    measure: Callable[[], Row],
) -> Row:
    """Return what `measure` gives, or gave before of the same: it is kept under a hash of all that decides it.

    That is the row, the evaluation's plan, the threat, the data, the runs whose adversaries attack, the figures of
    images that are shown, and the version.
    """
    text = "\n".join(map(repr, (row, plan, threat, data, sorted(runs.items()), shown, version("sparring"))))
    path = folder / "measured" / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
    kept = _read(path)
    if kept is not None:
        return kept
    found = measure()
    provenance = found.evaluation.provenance
    save(StudyResult(row.name, row.name, "", "", "", (found,), None, (), provenance), path)
    return found


def _read(path: Path) -> Row | None:
    """Return the row in a file, or None if there is none or not all of it."""
    if not path.exists():
        return None
    try:
        (found,) = load(StudyResult, path).rows
    except (InputError, ValueError) as error:
        log.warning("%s; it is measured again", error)
        return None
    if path.with_suffix(".npz").exists():
        return found
    log.warning("%s: its arrays are not beside it; it is measured again", path)
    return None
