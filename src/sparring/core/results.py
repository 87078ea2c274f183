"""Records of what was measured: frozen dataclasses that round-trip through JSON. No torch here: reports open fast."""

import json
import math
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from cattrs import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter
from numpy.typing import NDArray

from sparring.core.errors import InputError
from sparring.core.files import replacing

SCHEMA_VERSION = 1
Arrays = dict[str, NDArray[Any]]
DAMAGED = (OSError, ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # what numpy raises


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over `n` examples (or runs); NaN where nothing was there to average."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Confidence:
    """Accuracy and the mean of the largest softmax: over all images, over those classified right, over those wrong."""

    accuracy: Estimate
    confidence: Estimate
    confidence_correct: Estimate
    confidence_error: Estimate

    @property
    def error(self) -> Estimate:
        """The share classified wrong."""
        a = self.accuracy
        return Estimate(1 - a.value, 1 - a.high, 1 - a.low, a.n)


@dataclass(frozen=True)
class Attacked:
    """What one attack left, at one threat; `forwards` and `backwards` are means over the examples attacked."""

    attack: str
    threat: str
    accuracy: Estimate
    success_rate: Estimate
    median_distance: float
    confidence: Confidence
    forwards: float
    backwards: float
    seconds: float


@dataclass(frozen=True)
class CurvePoint:
    """One point of an accuracy-eps curve."""

    eps: float
    accuracy: Estimate
    confidence: Confidence


@dataclass(frozen=True)
class Curve:
    """Accuracy against eps under one attack.

    `worst_case`: an example once broken stays broken at every larger eps, so the curve is monotone. Otherwise each
    point stands on its own, as papers print them, and a curve that rises betrays an attack that fails.
    """

    attack: str
    norm: str
    worst_case: bool
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Flag:
    """Something a reader of the result must know; a `fail` means that the result cannot be trusted."""

    check: str
    severity: Literal["fail", "warn", "note"]
    message: str


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from, enough to make it again."""

    started: str
    seconds: float
    seed: int
    device: str
    threads: int
    versions: dict[str, str]
    command: str


@dataclass(frozen=True)
class Evaluation:
    """One model's verdict under one threat.

    `robust` is the share right on the clean example and under every listed attack; `robust_confidence` is read on each
    example's worst image. `adaptation` names what the model's modules called for and the attacks did: "bpda", "eot".
    `arrays` holds per-example flags and the images of the gallery, saved beside the JSON as npz.
    """

    model: str
    data: str
    split: str
    note: str
    classes: tuple[str, ...]
    threat: str
    clean: Estimate
    clean_confidence: Confidence
    robust: Estimate
    robust_confidence: Confidence
    attacked: dict[str, Attacked]
    curves: tuple[Curve, ...]
    flags: tuple[Flag, ...]
    provenance: Provenance
    adaptation: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)

    def save(self, path: str | Path) -> None:
        """Write the record to `path` as JSON, and its arrays beside it as npz; neither is ever half written."""
        save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "Evaluation":
        """Read what `save` wrote; raises InputError if it is no such record."""
        return load(Evaluation, Path(path))


@dataclass(frozen=True)
class Figure:
    """A paper's figure beside ours: by the paper's own protocol (compatibility) and as an honest attacker leaves it."""

    name: str
    published: float | None
    compatibility: Estimate
    honest: Estimate | None
    tolerance: float | None

    @property
    def reproduced(self) -> bool | None:
        """Whether ours is within the stated tolerance of the published figure; None if nothing was published."""
        if self.published is None or self.tolerance is None:
            return None
        return abs(self.compatibility.value - self.published) <= self.tolerance + 1e-12


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl: the means of an epoch, and its seconds."""

    epoch: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Row:
    """One defence of a study: what was trained, how training went, the paper's figures, and the verdict."""

    name: str
    defence: str
    recipe: str
    run: str
    figures: tuple[Figure, ...]
    sweep: tuple[Curve, ...]
    training: tuple[EpochMetrics, ...]
    evaluation: Evaluation


@dataclass(frozen=True)
class Trial:
    """One point of a search on the validation split: what was tried, what it gave, and its score (less is better)."""

    settings: dict[str, float]
    figures: dict[str, float]
    score: float


@dataclass(frozen=True)
class Search:
    """How a value that the paper leaves open was chosen; never on the test split."""

    split: str
    rule: str
    trials: tuple[Trial, ...]
    chosen: dict[str, float]


@dataclass(frozen=True)
class Finding:
    """A claim, whether it holds, and the sentence that says so."""

    claim: str
    verdict: Literal["holds", "does not hold", "note"]
    sentence: str


@dataclass(frozen=True)
class StudyResult:
    """A whole study: its rows side by side, and what follows from them."""

    name: str
    title: str
    paper: str
    summary: str
    settings: str
    rows: tuple[Row, ...]
    search: Search | None
    findings: tuple[Finding, ...]
    provenance: Provenance
    schema_version: int = SCHEMA_VERSION


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
_converter.register_unstructure_hook(Evaluation, make_dict_unstructure_fn(Evaluation, _converter, arrays=_aside))
_converter.register_structure_hook(Evaluation, make_dict_structure_fn(Evaluation, _converter, arrays=_aside))


def save(record: Evaluation | StudyResult, path: Path) -> None:
    """Write `record` as JSON to `path` and all its arrays beside it as npz, each by rename."""
    if path.suffix == ".npz":
        raise InputError(f"{path}: the record itself is JSON, its arrays go beside it; choose a name in .json")
    arrays = {f"{place}{key}": value for place, part in _evaluations(record) for key, value in part.arrays.items()}
    with replacing(path.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the first key for a flag
    text = json.dumps(_converter.unstructure(record), indent=1, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load(kind: type[R], path: Path) -> R:
    """Read a record of `kind`; raises InputError, naming the file, if it is missing or no such record."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such record") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable record ({error})") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version is {version!r}, this Sparring reads {SCHEMA_VERSION}; evaluate again")
    try:
        record = _converter.structure(raw, kind)
    except BaseValidationError as error:
        raise InputError(f"{path}: not a {kind.__name__} record ({error.exceptions[0]})") from None
    _read_arrays(record, path.with_suffix(".npz"))
    return record


def _evaluations(record: Evaluation | StudyResult) -> list[tuple[str, Evaluation]]:
    if isinstance(record, Evaluation):
        return [("", record)]
    return [(f"{index}/", row.evaluation) for index, row in enumerate(record.rows)]


def _read_arrays(record: Evaluation | StudyResult, path: Path) -> None:
    """Fill in the arrays; a record whose npz was not kept (a committed result, say) is read without them."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for place, part in _evaluations(record):
                part.arrays.update({key.removeprefix(place): stored[key] for key in stored if key.startswith(place)})
    except DAMAGED as error:
        raise InputError(f"{path}: not readable as arrays ({error}); delete it to read the record alone") from None
