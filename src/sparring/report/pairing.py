"""Whether one row is better than another, or chance alone: paired by trainings, else by images, else by intervals."""

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from sparring.core.results import Evaluation
from sparring.core.statistics import mcnemar_p, paired_p
from sparring.core.study_results import Row

SIGNIFICANT = 0.05
ROBUST = "adversarial accuracy"  # what a repeat calls the robust accuracy of its training
_CORRECT = "correct/"


def better(row: Row, other: Row) -> bool:
    """Return whether the row's robust accuracy is above the other's by more than chance explains.

    By the paired t-test where they share two seeds or more; of one training each by McNemar's exact test on the
    examples that both were judged on; where neither can be made, their intervals must not overlap.
    """
    gaps = _gaps(row, other)
    if len(gaps) > 1 and not math.isnan(p := paired_p(gaps)):
        return fmean(gaps) > 0 and p < SIGNIFICANT
    alone = _alone(row, other)
    if alone is not None:
        return alone[0] > alone[1] and mcnemar_p(*alone) < SIGNIFICANT
    apart = row.evaluation.robust.low > other.evaluation.robust.high
    return apart and len(gaps) < 2  # gaps alike to the last digit say nothing of how far seeds differ


def _gaps(row: Row, other: Row) -> Sequence[float]:
    """Return the differences of robust accuracy of the trainings with the same seeds."""
    theirs = {repeat.seed: repeat.honest.get(ROBUST, math.nan) for repeat in other.repeats}
    pairs = [(repeat.honest.get(ROBUST, math.nan), theirs.get(repeat.seed, math.nan)) for repeat in row.repeats]
    return [ours - of_other for ours, of_other in pairs if not math.isnan(ours + of_other)]


def _alone(row: Row, other: Row) -> tuple[int, int] | None:
    """Return how many examples one row alone has right, and the other alone; None where that is not known.

    The arrays of several trainings are those of the first: they say nothing of the others.
    """
    first, second = row.evaluation, other.evaluation
    if first.seeds or second.seeds or not (_known(first) and _known(second)):
        return None
    _, ours, theirs = np.intersect1d(first.arrays["ids"], second.arrays["ids"], return_indices=True)
    known = "fingerprints"  # older records have none
    if not len(ours) or (
        {known} <= set(first.arrays) & set(second.arrays)
        and (first.arrays[known][ours] != second.arrays[known][theirs]).any()  # the same numbers of other images
    ):
        return None
    right, others_right = _right(first)[ours], _right(second)[theirs]
    return int((right & ~others_right).sum()), int((others_right & ~right).sum())


def _known(evaluation: Evaluation) -> bool:
    flags = {f"{_CORRECT}{name}" for name in ("clean", *evaluation.attacked)}
    return {"ids", *flags} <= set(evaluation.arrays)


def _right(evaluation: Evaluation) -> NDArray[np.bool_]:
    """Return which examples (N,) are right as they are and under all that was tried."""
    if "standing" in evaluation.arrays:
        return evaluation.arrays["standing"]
    flags = [evaluation.arrays[f"{_CORRECT}{name}"] for name in ("clean", *evaluation.attacked)]
    right: NDArray[np.bool_] = np.logical_and.reduce(flags)
    return right
