"""Records as files: dataclasses to JSON and back, their arrays beside it as npz."""

import hashlib
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cattrs import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter

from sparring.core.errors import InputError, missing
from sparring.core.files import replacing
from sparring.core.results import SCHEMA_VERSION, Evaluation
from sparring.core.study_results import GenerativeRow, Row, StudyResult

DAMAGED = (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # what numpy raises
STAMP = "arrays_sha256"  # in the JSON alone: which npz was written with it
R = TypeVar("R", Evaluation, StudyResult)


def _exactly(value: object, kind: type[Any]) -> object:
    """Take a value of that very type: a record in which a number has become a text is no such record."""
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, not {value!r}")
    return value


_converter = make_converter()
_converter.register_unstructure_hook(float, lambda v: v if math.isfinite(v) else None if math.isnan(v) else str(v))
_converter.register_structure_hook(float, lambda v, _: math.nan if v is None else float(v))
for _plain in (str, int, bool):
    _converter.register_structure_hook(_plain, _exactly)
_aside = override(omit=True)
for _kept in (Evaluation, GenerativeRow, Row):  # a Row holds an Evaluation, which must be known before
    _converter.register_unstructure_hook(_kept, make_dict_unstructure_fn(_kept, _converter, arrays=_aside))
    _converter.register_structure_hook(_kept, make_dict_structure_fn(_kept, _converter, arrays=_aside))


def save(record: Evaluation | StudyResult, path: Path) -> None:
    """Write `record` as JSON to `path` and all its arrays beside it as npz, each by rename."""
    if path.suffix == ".npz":
        raise InputError(f"{path}: the record itself is JSON, its arrays go beside it; choose a name in .json")
    arrays = {f"{place}{key}": value for place, part in _with_arrays(record) for key, value in part.arrays.items()}
    with replacing(arrays_of(path)) as temporary:
        with temporary.open("wb") as file:  # numpy would add its suffix to a name
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes the first key for a flag
        stamp = _sha256(temporary)
    text = json.dumps(_converter.unstructure(record) | {STAMP: stamp}, indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load(kind: type[R], path: Path) -> R:
    """Read a record of `kind`; raises InputError, naming the file, if it is missing or no such record."""
    raw = _raw(path)
    if (kind is StudyResult) is not _of_study(raw):
        holds, wanted = ("a study's results", "one verdict") if _of_study(raw) else ("one verdict", "a study's results")
        raise InputError(f"{path}: holds {holds}, not {wanted}")
    try:
        record = _converter.structure(raw, kind)
    except BaseValidationError as error:
        raise InputError(f"{path}: damaged, not readable as a record ({error.exceptions[0]})") from None
    _read_arrays(record, arrays_of(path), raw.get(STAMP))
    return record


def load_any(path: Path) -> Evaluation | StudyResult:
    """Read a record of either kind; raises InputError as `load` does."""
    return load(StudyResult, path) if _of_study(_raw(path)) else load(Evaluation, path)


def _of_study(raw: dict[str, Any]) -> bool:
    return "rows" in raw


def _raw(path: Path) -> dict[str, Any]:
    """Return what the JSON holds, of this version."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged, not readable as a record ({error})") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version is {version!r}, this Sparring reads {SCHEMA_VERSION}; evaluate again")
    assert isinstance(raw, dict)
    return raw


def arrays_of(path: Path) -> Path:
    """Return where a record's arrays are: names that differ after a dot only (linf-0.1, linf-0.2) share no file."""
    return path.with_suffix(".npz") if path.suffix == ".json" else path.with_name(f"{path.name}.npz")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_arrays(record: Evaluation | StudyResult) -> list[tuple[str, Evaluation | GenerativeRow | Row]]:
    """Return what has arrays, each with the place of its own in the npz."""
    if isinstance(record, Evaluation):
        return [("", record)]
    rows = [(f"{index}/", row.evaluation) for index, row in enumerate(record.rows)]
    counted = [(f"row {index}/", row) for index, row in enumerate(record.rows)]
    return [*rows, *counted, *((f"generative {index}/", model) for index, model in enumerate(record.generatives))]


def _read_arrays(record: Evaluation | StudyResult, path: Path, stamp: str | None) -> None:
    """Fill in the arrays; a record whose npz was not kept (a committed result, say) is read without them.

    `stamp`: the SHA-256 of the npz; None in older records, whose npz is believed.
    """
    if not path.exists():
        return
    try:
        if stamp is not None and _sha256(path) != stamp:
            raise ValueError("it is another record's")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for place, part in _with_arrays(record):
                part.arrays.update({key.removeprefix(place): stored[key] for key in stored if key.startswith(place)})
    except DAMAGED as error:
        told = f"{path}: damaged, not readable as arrays ({error}); delete it to read the record alone"
        raise InputError(told) from None
