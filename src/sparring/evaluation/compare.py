"""Two evaluations of the same examples: which model is right where the other is not (McNemar 1947)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparring.core.errors import InputError
from sparring.core.results import Estimate, Evaluation
from sparring.core.statistics import mcnemar_p, share

CLEAN, WORST = "clean", "worst case"
_CORRECT, _STANDING = "correct/", "standing"


@dataclass(frozen=True)
class Compared:
    """On the same examples: the share that each of two models has right, and how many one of them alone has.

    `what`: "clean", an attack's call string, or "worst case", as robust accuracy counts it, or where they faced
    different attacks under all that both have faced. `p`: of the exact two-sided McNemar test, for the claim that
    neither is better.
    """

    what: str
    first: Estimate
    second: Estimate
    only_first: int
    only_second: int
    p: float


def compare(first: Evaluation, second: Evaluation) -> tuple[Compared, ...]:
    """Compare two evaluations example by example, on those that both have, under the attacks that both have.

    Raises InputError if one is no verdict, if data, split, threat, the statistics of batch norm or what attacks were
    limited to differ, if they share no example or no attack, if an example is another image in one than in the other,
    or if the flags of single examples are not at hand (a record read without its arrays).
    """
    both: tuple[object, ...] = first, second
    for given in both:
        if not isinstance(given, Evaluation):
            kind = type(given).__name__
            raise InputError(f"compare: expected two verdicts, not {kind}; Evaluation.load(path) reads a file")
    for what, one, other in (
        ("data", first.data, second.data),
        ("split", first.split, second.split),
        ("threat", first.threat, second.threat),
        ("kind of statistics", first.statistics, second.statistics),
        ("limit of the attacks", _limits(first), _limits(second)),
    ):
        if one != other:
            raise InputError(f"compare: the two have another {what}: {one} and {other}")
    if not {"ids", f"{_CORRECT}{CLEAN}"} <= set(first.arrays) & set(second.arrays):
        raise InputError("compare: the flags of single examples are not beside the records (their .npz files)")
    attacks = [name for name in first.attacked if name in second.attacked]
    if not attacks:
        raise InputError(f"compare: no attack in common: {', '.join(first.attacked)}; and {', '.join(second.attacked)}")
    _, rows, others = np.intersect1d(first.arrays["ids"], second.arrays["ids"], return_indices=True)
    if not len(rows):
        raise InputError("compare: the two have no example in common")
    _check_images(first, second, rows, others)
    whole = set(first.attacked) == set(second.attacked) and _STANDING in set(first.arrays) & set(second.arrays)
    ours, theirs = (_flags(of, attacks, at, whole=whole) for of, at in ((first, rows), (second, others)))
    return tuple(_compared(what, ours[what], theirs[what]) for what in ours)


def _limits(evaluation: Evaluation) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(evaluation.means.items())) or "none"


def _check_images(first: Evaluation, second: Evaluation, rows: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Raise InputError if an example's number means two images; older records do not say."""
    known = "fingerprints"
    if not {known} <= set(first.arrays) & set(second.arrays):
        return
    differ = (first.arrays[known][rows] != second.arrays[known][others]).nonzero()[0]
    if len(differ):
        number = int(first.arrays["ids"][rows[differ[0]]])
        raise InputError(f"compare: example {number} is another image, or has another label, in one than in the other")


def _flags(
    evaluation: Evaluation, attacks: list[str], rows: NDArray[np.int64], *, whole: bool
) -> dict[str, NDArray[np.bool_]]:
    """Return which of these examples are right: clean, under each attack, and under these, or all that was tried."""
    clean = evaluation.arrays[f"{_CORRECT}{CLEAN}"][rows]
    under = {name: evaluation.arrays[f"{_CORRECT}{name}"][rows] & clean for name in attacks}
    worst = evaluation.arrays[_STANDING][rows] if whole else np.logical_and.reduce(list(under.values()))
    return {CLEAN: clean, **under, WORST: worst}


def _compared(what: str, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Compared:
    alone, others_alone = int((one & ~other).sum()), int((other & ~one).sum())
    first, second = (share(int(flags.sum()), len(flags)) for flags in (one, other))
    return Compared(what, first, second, alone, others_alone, mcnemar_p(alone, others_alone))
