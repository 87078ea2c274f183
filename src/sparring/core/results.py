"""What was measured, as frozen dataclasses; `core/records.py` writes and reads them. No torch: reports open fast."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

SCHEMA_VERSION = 1
Arrays = dict[str, NDArray[Any]]
NormStatistics = Literal["running", "batch"]  # what batch norm uses at evaluation
Severity = Literal["fail", "warn", "note"]
Outcome = Literal["not run", "passed", "note", "warn", "fail"]
GRAVITY: tuple[Outcome, ...] = ("not run", "passed", "note", "warn", "fail")  # of what comes of a check, rising


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over `n` examples (or runs); NaN where nothing was there to average."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


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
class Certified:
    """What is proven of a randomly smoothed model (Cohen et al. 2019, arXiv:1902.02918), with exact intervals.

    Each example's certificate was made from `draws` of noise with standard deviation `sigma`, and is wrong by chance
    with a probability of at most `alpha`. `accuracy`: the share right and certified within the L2 `radius` that holds
    the evaluation's threat; `smoothed`: right at all, by the vote of the draws; `abstained`: without a class. `curve`:
    the share right and certified beyond each radius.
    """

    sigma: float
    draws: int
    alpha: float
    radius: float
    accuracy: Estimate
    smoothed: Estimate
    abstained: Estimate
    curve: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True)
class Flag:
    """Something a reader of the result must know; a `fail` means that the result cannot be trusted.

    `examples`: ids of some of the examples that show it. `attack`: the call string of the one to try next.
    """

    check: str
    severity: Severity
    message: str
    examples: tuple[int, ...] = ()
    attack: str = ""


@dataclass(frozen=True)
class Checked:
    """What came of one check of the audit: a flag of that severity, nothing ("passed"), or why it was "not run".

    `evidence`: the figures that it saw, or what it lacked. `seconds`: that it took.
    """

    check: str
    outcome: Outcome
    evidence: str
    seconds: float = 0.0


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

    `robust` is the share right on the clean example, under every listed attack, and under whatever else was tried:
    `otherwise` says how many examples fell to that alone, to the curve's attack or the audit's. `robust_confidence` is
    read on each example's worst image. `most_frequent`: the share of the class that most examples are of. `adaptation`
    names what the model's modules called for and the attacks did: "bpda", "eot"; `detected` what no module had said and
    was found out. `audit`: every check, those that raised one of
    `flags` too. `statistics`: with "batch" each prediction depended on its batch-mates, which is for comparison only.
    `certified`: what is proven beside what was tried, where the model is one of which something can be.
    `means`: what attacks were limited to by who judged (`max_forwards`, `draws`, `precision`), where it was anything.
    `seeds`: of the trainings whose figures these are the means of, with intervals over them; of one if it is empty.
    `arrays` holds per-example flags and the images of the gallery, saved beside the JSON as npz: under
    "gallery/" of G examples `ids` and `y` (G,); `x`, `x_adv` (G, C, H, W) and `p_clean`, `p_adv` (G, K), the clean and
    the worst image and what the model says of them; and at each of `eps` (E,), rising, the worst image within it, `at`
    (E, G, C, H, W) in bytes, with `p_at` (E, G, K).
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
    otherwise: int = 0
    most_frequent: float = 0.0
    statistics: NormStatistics = "running"
    seeds: tuple[int, ...] = ()
    certified: Certified | None = None
    detected: tuple[str, ...] = ()
    audit: tuple[Checked, ...] = ()
    means: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    arrays: Arrays = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the verdict in a few lines: what was judged, both accuracies, whether to trust them, and why not."""
        failed = any(flag.severity == "fail" for flag in self.flags)
        trust = "yes" if self.trustworthy else "no" if failed else "unknown, for it was not audited"
        against = [flag for kind in ("fail", "warn") for flag in self.flags if flag.severity == kind]
        lines = (
            f"{self.model} on {self.data} ({self.split}, {self.examples or self.robust.n} examples), {self.threat}",
            f"clean accuracy   {_percent(self.clean)}",
            f"robust accuracy  {_percent(self.robust)}",
            f"trustworthy      {trust}",
            *(f"{flag.severity.upper()}  {flag.check}: {flag.message}" for flag in against),
        )
        return "\n".join(lines)

    @property
    def curve(self) -> Curve | None:
        """Accuracy against eps in the worst case; None if none was drawn."""
        return next((curve for curve in self.curves if curve.worst_case), None)

    @property
    def trustworthy(self) -> bool:
        """Whether there was an audit, and none of its checks failed."""
        return bool(self.audit) and all(flag.severity != "fail" for flag in self.flags)

    def save(self, path: str | Path) -> None:
        """Write the record to `path` as JSON, and its arrays beside it as npz; neither is ever half written."""
        from sparring.core import records  # which knows this class

        records.save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "Evaluation":
        """Read what `save` wrote; raises InputError if it is no such record."""
        from sparring.core import records

        return records.load(Evaluation, Path(path))


def _percent(share: Estimate) -> str:
    interval = "" if math.isnan(share.low) else f" (95 %: {share.low:.1%} to {share.high:.1%})"
    return f"{share.value:.1%}{interval}"
