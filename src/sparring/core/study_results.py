"""Records of a study: the evaluations of its rows, the figures beside the paper's, its searches and its verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sparring.core.results import SCHEMA_VERSION, Arrays, Calibration, Curve, Estimate, Evaluation, Provenance

Unit = Literal["share", "number"]
Verdict = Literal[
    "holds",
    "does not hold",
    "not settled",
    "holds only by the paper's protocol",
    "holds only without the protocol's fault",
    "note",
]


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
    that fool it, by minimal attacks without a bound. `series` and `at`: of rows that differ in a number alone, what
    they are called, with the number's name in braces, and that number.
    `arrays`: by column and figure ("honest/clean accuracy") which images (N,) that share counts, saved beside the JSON
    as npz; of several trainings the first's. Rows of one study that count as many images count the same ones.
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
    series: str = ""
    at: float | None = None
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)


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
class Trace:
    """One line of a plot, or one cloud of its points: whose it is, and where."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Something to look at, and the sentence that says what it shows."""

    title: str
    sentence: str
    x_title: str
    y_title: str
    traces: tuple[Trace, ...]
    kind: Literal["lines", "points"] = "lines"


@dataclass(frozen=True)
class Geometry:
    """Where images that attacks made on a row's model lie among clean ones."""

    name: str
    threat: str
    examples: int
    reference: int
    plots: tuple[Plot, ...]


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
    """A claim, whether it holds, and the sentence that says so.

    It holds, or does not hold, where the whole 95 % interval is on that side; otherwise it is not settled.
    """

    claim: str
    verdict: Verdict
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
    geometries: tuple[Geometry, ...] = ()
    schema_version: int = SCHEMA_VERSION


def bare(name: str, evaluation: Evaluation) -> Row:
    """Return a row of which nothing is known but its evaluation."""
    return Row(name, "", "", "", (), (), (), evaluation)


def side_by_side(rows: Sequence[Row], summary: str = "") -> StudyResult:
    """Return a result that holds these rows, so that they can be reported like a study; by default it says their data.

    `rows`: at least one. The provenance of several begins with the earliest and takes the seconds of all.
    """
    made = [row.evaluation.provenance for row in rows]
    data = dict.fromkeys(f"{row.evaluation.data}, {row.evaluation.split}" for row in rows)
    name, title, provenance = "evaluation", f"Evaluation of {rows[0].name}", made[0]
    if len(rows) > 1:
        name, title, started = "evaluations", "Evaluations side by side", min(each.started for each in made)
        provenance = replace(made[0], started=started, seconds=sum(each.seconds for each in made), command="")
    return StudyResult(name, title, "", summary or f"On {'; '.join(data)}.", "", tuple(rows), None, (), provenance)


def distinct(names: Sequence[str], evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the names, and behind those that are alike what tells their evaluations apart, if anything does."""
    under = [", ".join((e.threat, *(f"{key}={value}" for key, value in e.means.items()))) for e in evaluations]
    by = [f"{' and '.join(e.attacked)} on {e.examples} of {e.split}" for e in evaluations]
    told = list(names)
    for further in (under, by):
        told = [name if told.count(name) == 1 else f"{name}, {more}" for name, more in zip(told, further, strict=True)]
    return told
