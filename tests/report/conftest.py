"""A small study with everything in it that a report must survive."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sparring.report
from sparring.core.results import (
    Arrays,
    Attacked,
    Bin,
    Calibration,
    Checked,
    Confidence,
    Curve,
    CurvePoint,
    Estimate,
    Evaluation,
    Flag,
    Provenance,
)
from sparring.core.statistics import share
from sparring.core.study_results import EpochMetrics, Figure, Finding, Row, Search, StudyResult, Trial

EVIL = "<script>alert('x')</script> & $\\frac{1$ %{x}"
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)
PROVENANCE = Provenance("2025-11-20T13:00:00+00:00", 75.0, 7, "cpu", 2, {"numpy": "1.26.4"}, "sparring study toy")


def confidence(right: int, n: int, mean: float, wrong: Estimate = UNKNOWN) -> Confidence:
    around = Estimate(mean, mean - 0.011, mean + 0.011, n)
    return Confidence(share(right, n), around, around, wrong)


def curve(attack: str, *, worst_case: bool, counts: tuple[int, ...], n: int = 500) -> Curve:
    points = tuple(CurvePoint(0.1 * i, share(k, n), confidence(k, n, 0.813)) for i, k in enumerate(counts, start=1))
    return Curve(attack, "linf", worst_case, points)


def gallery(channels: int, side: int, count: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (count, channels, side, side)).astype(np.float32)
    p = np.full((count, 3), 0.1)
    p_clean, p_adv = p.copy(), p.copy()
    p_clean[:, 0], p_adv[:, 2] = 0.8, 0.8
    return {
        "gallery/ids": np.arange(70, 70 + count),
        "gallery/y": np.zeros(count, np.int64),
        "gallery/x": x,
        "gallery/x_adv": (x + 0.1 * np.sign(x - 0.5)).astype(np.float32),
        "gallery/p_clean": p_clean,
        "gallery/p_adv": p_adv,
    }


def every_eps(arrays: Arrays, eps: tuple[float, ...] = (0.1, 0.2, 0.3)) -> Arrays:
    """Add the worst image at each eps, of random signs, with the likeliest class wrong from the second eps on."""
    rng = np.random.default_rng(1)
    x, p = arrays["gallery/x"], arrays["gallery/p_clean"]
    signs = np.sign(rng.normal(size=x.shape))
    at = [np.rint(255 * np.clip(x + e * signs, 0, 1)).astype(np.uint8) for e in eps]
    p_at = [p if place == 0 else np.roll(p, place, axis=1) for place, _ in enumerate(eps)]
    return arrays | {"gallery/eps": np.array(eps), "gallery/at": np.stack(at), "gallery/p_at": np.stack(p_at)}


def audit(*outcomes: str) -> tuple[Checked, ...]:
    """Return the first checks with these outcomes."""
    names = ("randomness", "zero gradients", "unfinished optimisation", "sandwich")
    return tuple(Checked(n, o, f"{n}: {EVIL}", 0.5) for n, o in zip(names, outcomes, strict=False))


def attacked(attack: str, right: int, distance: float, n: int = 500) -> Attacked:
    left = confidence(right, n, 0.777, Estimate(0.654, 0.6, 0.7, n - right))
    return Attacked(attack, "linf(0.3)", share(right, n), share(n - right, n), distance, left, 17.25, 1234.0, 3.21)


def evaluation(robust: int, n: int = 500) -> Evaluation:
    return Evaluation(
        model="cnn()",
        data="digits()",
        split="test",
        note="white box",
        classes=("zero", "one", "two"),
        threat="linf(0.3)",
        clean=share(480, n),
        clean_confidence=confidence(480, n, 0.951),
        robust=share(robust, n),
        robust_confidence=confidence(robust, n, 0.888, Estimate(0.612, 0.58, 0.64, n - robust)),
        attacked={"fgsm": attacked("fgsm()", robust + 20, math.inf), "pgd": attacked("pgd(steps=40)", robust, 0.123)},
        curves=(curve("pgd(steps=40)", worst_case=True, counts=(450, 400, robust)),),
        flags=(),
        provenance=PROVENANCE,
        calibration=calibration(),
    )


def calibration() -> Calibration:
    """Return one with an empty bin, one of too few images to be shown, and two that are shown."""
    return Calibration(
        Estimate(0.05, 0.04, 0.06, 500), (Bin(0, 0, 0), Bin(3, 0.3, 0.2), Bin(97, 0.5, 0.55), Bin(400, 0.9, 0.95))
    )


def row(name: str, robust: int = 300) -> Row:
    return Row(
        name=name,
        defence="pgd_training(steps=10)",
        recipe='name = "toy"\nepochs = 3\n',
        run="runs/toy-abc123",
        figures=(Figure("clean accuracy", 0.9858, share(480, 500), share(479, 500), 0.006),),
        sweep=(curve("fgsm()", worst_case=False, counts=(400, 450, 480)),),
        training=tuple(EpochMetrics(e - 1, {"loss": 1.5 / e, "accuracy": 1 - 0.3 / e}, 12.5) for e in (1, 2, 3)),
        evaluation=evaluation(robust),
    )


def study(*rows: Row) -> StudyResult:
    return StudyResult(
        name="toy",
        title="Does it hold?",
        paper="A. Author 2019",
        summary="It does not.",
        settings="eps = [0.1, 0.2]",
        rows=rows,
        search=Search(
            "validation",
            "the lowest score",
            tuple(Trial({"eps": e}, {"accuracy": 0.432 + e}, 5.678 - e) for e in (0.1, 0.2)),
            {"eps": 0.2},
        ),
        findings=(
            Finding("It is robust", "does not hold", "PGD leaves nothing."),
            Finding("It reproduces", "holds", "Within tolerance."),
            Finding("No eps is stated", "note", "0.3 was chosen."),
        ),
        provenance=PROVENANCE,
    )


def awkward() -> StudyResult:
    """Return three rows: an evil name with images and flags; unicode, colour images and NaN; and one with nothing."""
    flags = (
        Flag("label leaking", "note", "FGSM is <b>weak</b>."),
        Flag("unfinished", "warn", "More steps are needed."),
        Flag("many steps beat one", "fail", "PGD leaves less than FGSM."),
    )
    first = row(EVIL, 200)
    first = replace(first, evaluation=replace(first.evaluation, flags=flags, arrays=gallery(1, 8)))
    second = row("Rauschen ü 噪声 \N{GREEK SMALL LETTER SIGMA}=¼ " + "x" * 90, 100)
    nothing = Confidence(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    second = replace(
        second,
        figures=(Figure("error", None, UNKNOWN, None, None), Figure("clean", 0.9, share(480, 500), None, 0.001)),
        evaluation=replace(
            second.evaluation, robust=UNKNOWN, robust_confidence=nothing, classes=(), arrays=gallery(3, 32, 2)
        ),
    )
    third = row("bare")
    bare = replace(third.evaluation, attacked={}, curves=(), note="", calibration=None)
    third = replace(third, figures=(), sweep=(), training=(), recipe="", run="", evaluation=bare)
    return study(first, second, third)


def lively() -> StudyResult:
    """Return four rows with audits and images at every eps, each shown the others' images; the last was not audited."""
    names = (EVIL, "standard", "PGD training", "older")
    flags = (
        Flag("zero gradients", "fail", f"None is left. {EVIL}", (3, 17, 40), f"square(note={EVIL!r})"),
        Flag("unfinished optimisation", "warn", "The loss still rises.", (3,), "apgd(steps=200)"),
        Flag("sandwich", "note", "Nothing to compare."),
    )
    audits = (
        audit("passed", "fail", "warn", "note"),
        audit("passed", "passed", "passed", "not run"),
        audit("passed", "passed", "note"),
        (),
    )
    rows = []
    for place, (name, checks) in enumerate(zip(names, audits, strict=True)):
        made = row(name, 100 + 90 * place)
        images = every_eps(gallery(3, 12, 4), (0.1, 0.2, 0.3, 0.4)[: 4 - place % 2])
        crossed = tuple(
            Figure(f"accuracy under noise of {other}", None, share(300, 500), None, None) for other in names
        )
        judged = replace(
            made.evaluation,
            audit=checks,
            flags=flags if place == 0 else (),
            detected=("steps without a gradient",) if place == 0 else (),
            adaptation=("eot",) if place == 1 else (),
            arrays=images,
        )
        rows.append(replace(made, evaluation=judged, figures=(*made.figures, *crossed)))
    return study(*rows)


@pytest.fixture(scope="session")
def result() -> StudyResult:
    return awkward()


@pytest.fixture(scope="session")
def written(result: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sparring.report.write(result, tmp_path_factory.mktemp("report"), command="sparring study toy --again")


@pytest.fixture(scope="session")
def living() -> StudyResult:
    return lively()


@pytest.fixture
def make_every_eps():
    return every_eps


@pytest.fixture
def make_audit():
    return audit


@pytest.fixture
def make_row():
    return row


@pytest.fixture
def make_study():
    return study


@pytest.fixture
def make_gallery():
    return gallery


@pytest.fixture
def make_calibration():
    return calibration


@pytest.fixture
def make_curve():
    return curve
