"""What a study has measured of a run, kept in the run's folder: a stopped study measures nothing twice."""

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from sparring.core.records import load, save
from sparring.core.study_results import Row, StudyResult
from sparring.studies.plan import EvaluationPlan, RowPlan


def kept_row(
    folder: Path,
    row: RowPlan,
    plan: EvaluationPlan,
    threat: str,
    data: str,
    runs: Mapping[str, str],
    measure: Callable[[], Row],
) -> Row:
    """Return what `measure` gives, or gave before of the same: it is kept under a hash of all that decides it.

    That is the row, the evaluation's plan, the threat, the data, the runs whose adversaries attack, and the version.
    """
    text = "\n".join(map(repr, (row, plan, threat, data, sorted(runs.items()), version("sparring"))))
    path = folder / "measured" / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
    if path.exists():
        return load(StudyResult, path).rows[0]
    found = measure()
    provenance = found.evaluation.provenance
    save(StudyResult(row.name, row.name, "", "", "", (found,), None, (), provenance), path)
    return found
