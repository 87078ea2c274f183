"""What was measured, as frozen dataclasses; `core/records.py` writes and reads them. No torch: reports open fast."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

SCHEMA_VERSION = 1
Arrays = dict[str, NDArray[Any]]
NormStatistics = Literal["running", "batch"]  # what batch norm uses at evaluation
Unit = Literal["share", "number"]


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
class Bin:
    """The images with confidence in one of equal parts of [0, 1]: how many, the share right, the mean (0 of none)."""

    count: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy: by parts of [0, 1], and in all (expected calibration error)."""

    ece: Estimate
    bins: tuple[Bin, ...]


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
    conditions: str = ""  # what sets it apart from other curves of the same attack


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
    `statistics`: with "batch" each prediction depended on its batch-mates, which is for comparison only.
    `seeds`: of the trainings whose figures these are the means of, with intervals over them; of one if it is empty.
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
    calibration: Calibration | None = None
    robust_calibration: Calibration | None = None
    examples: int = 0
    statistics: NormStatistics = "running"
    seeds: tuple[int, ...] = ()
    schema_version: int = SCHEMA_VERSION
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)

    def save(self, path: str | Path) -> None:
        """Write the record to `path` as JSON, and its arrays beside it as npz; neither is ever half written."""
        from sparring.core import records  # which knows this class

        records.save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "Evaluation":
        """Read what `save` wrote; raises InputError if it is no such record."""
        from sparring.core import records

        return records.load(Evaluation, Path(path))


@dataclass(frozen=True)
class Figure:
    """A paper's figure beside ours: by the paper's own protocol (compatibility) and as an honest attacker leaves it.

    `mended`: by the same attack, without the protocol's faults; None where it has none. `measured`: which of the two
    the published figure is to be compared with. `unit`: a share, or a number such as a distance between images.
    """

    name: str
    published: float | None
    compatibility: Estimate
    honest: Estimate | None
    tolerance: float | None
    mended: Estimate | None = None
    measured: Literal["compatibility", "mended"] = "compatibility"
    unit: Unit = "share"

    @property
    def ours(self) -> Estimate:
        """What the published figure is compared with."""
        return self.mended if self.measured == "mended" and self.mended is not None else self.compatibility

    @property
    def reproduced(self) -> bool | None:
        """Whether ours is within the stated tolerance of the published figure; None if nothing was published."""
        if self.published is None or self.tolerance is None:
            return None
        return abs(self.ours.value - self.published) <= self.tolerance + 1e-12


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl: the means of an epoch, and its seconds."""

    epoch: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Repeat:
    """One training of a row: its seed and run, and its figures by name, each as in `Figure` (NaN: not measured)."""

    seed: int
    run: str
    compatibility: dict[str, float]
    mended: dict[str, float]
    honest: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One defence of a study: what was trained, how training went, the paper's figures, and the verdict.

    `published_sweep`: the paper's (eps, accuracy) beside the first curve of `sweep`, whose every point should come
    within `sweep_tolerance`. `calibrations` by what they were
    read on. `adversaries`: accuracy under the learned adversary of each row that has one, by that row's name.
    `repeats`: its trainings; if there are several, all other figures are their means. `nearest`: how near images lie
    that fool it, by minimal attacks without a bound.
    """

    name: str
    defence: str
    recipe: str
    run: str
    figures: tuple[Figure, ...]
    sweep: tuple[Curve, ...]
    training: tuple[EpochMetrics, ...]
    evaluation: Evaluation
    published_sweep: tuple[tuple[float, float], ...] = ()
    sweep_tolerance: float | None = None
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    adversaries: tuple[Figure, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    nearest: Evaluation | None = None


@dataclass(frozen=True)
class Measured:
    """A figure of ours for which no paper has another."""

    name: str
    value: Estimate
    unit: Unit = "share"


@dataclass(frozen=True)
class GenerativeRow:
    """A generative model of a study: how it was trained, how good it is, and what it draws.

    `arrays`: images (rows, columns, C, H, W) by what they show, saved beside the JSON as npz: "samples";
    "reconstructions" (originals above what their codes give); "interpolations" from one image's code to another's, at
    the proportions "weights"; "best" and "worst" of the recovered images, as the reconstructions.
    """

    name: str
    generative: str
    recipe: str
    run: str
    training: tuple[EpochMetrics, ...]
    quality: tuple[Measured, ...]
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)


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
    verdict: Literal["holds", "does not hold", "holds only by the paper's protocol", "note"]
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
    generatives: tuple[GenerativeRow, ...] = ()
    schema_version: int = SCHEMA_VERSION
