"""What a study has measured of a run, kept in the run's folder: a stopped study measures nothing twice."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from sparring.core.errors import InputError
from sparring.core.outside import code_named
from sparring.core.records import load, save
from sparring.core.study_results import GenerativeRow, Geometry, Row, StudyResult
from sparring.evaluation.audit import Level
from sparring.evaluation.provenance import Stopwatch
from sparring.studies.plan import EvaluationPlan, RowPlan
from sparring.studies.showing import Seen

Measured = TypeVar("Measured", Row, GenerativeRow, Geometry)
log = logging.getLogger("sparring")


def kept_row(
    folder: Path,
    row: RowPlan,
    plan: EvaluationPlan,
    threat: str,
    data: str,
    runs: Mapping[str, str],
    shown: tuple[Seen, ...],
    audit: Level,
    measure: Callable[[], Row],
) -> Row:
    """Return what `measure` gives, or gave before of the same row, judged and shown the same.

    That is the row, the evaluation's plan, the threat, the data, the runs whose adversaries attack, the figures of
    images that are shown, and the audit.
    """
    return kept(folder, Row, (row, plan, threat, data, sorted(runs.items()), shown, audit), measure)


def kept(folder: Path, kind: type[Measured], facts: tuple[object, ...], measure: Callable[[], Measured]) -> Measured:
    """Return what `measure` gives, or gave before of the same: it is kept under a hash of the `facts` that decide it.

    The version of Sparring is one of them, and so is the code from outside that they name.
    """
    told: str = "\n".join(map(repr, (*facts, version("sparring"))))
    text = "\n".join([told, *code_named(told)])
    path = folder / "measured" / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
    before = _read(path, kind)
    if before is not None:
        return before
    watch, found = Stopwatch(), measure()
    save(_alone(found, watch), path)
    return found


def _alone(found: Row | GenerativeRow | Geometry, watch: Stopwatch) -> StudyResult:
    """Return a record that holds this and nothing else; of a row, with the provenance of its evaluation."""
    result = StudyResult(found.name, found.name, "", "", "", (), None, (), watch.provenance(seed=0, device=""))
    if isinstance(found, Row):
        return replace(result, rows=(found,), provenance=found.evaluation.provenance)
    if isinstance(found, Geometry):
        return replace(result, geometries=(found,))
    return replace(result, generatives=(found,))


def _read(path: Path, kind: type[Measured]) -> Measured | None:
    """Return what is in a file, or None if there is none or not all of it."""
    if not path.exists():
        return None
    try:
        (found,) = _held(load(StudyResult, path))
    except (InputError, ValueError) as error:
        log.warning("%s; it is measured again", error)
        return None
    if path.with_suffix(".npz").exists() and isinstance(found, kind):
        return found
    log.warning("%s: its arrays are not beside it; it is measured again", path)
    return None


def _held(result: StudyResult) -> list[Row | GenerativeRow | Geometry]:
    return [*result.rows, *result.generatives, *result.geometries]
