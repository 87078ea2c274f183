"""Checks that run with every evaluation, each a small function: what the figures themselves give away."""

from collections.abc import Iterator, Sequence

from sparring.core.results import Attacked, Certified, Curve, Estimate, Flag, NormStatistics
from sparring.core.study_results import EpochMetrics


def checks(clean: Estimate, attacked: dict[str, Attacked], statistics: NormStatistics = "running") -> tuple[Flag, ...]:
    """Return what a reader of these figures must know."""
    return (*label_leaking(clean, attacked), *one_step_flatters(attacked), *batch_dependent(statistics))


def batch_dependent(statistics: NormStatistics) -> Iterator[Flag]:
    """Fail where batch norm was left in training mode: nobody classifies images in such batches."""
    if statistics == "batch":
        text = "batch norm used each batch's statistics, so predictions depend on batch-mates: for comparison only"
        yield Flag("batch statistics", "fail", text)


def label_leaking(clean: Estimate, attacked: dict[str, Attacked]) -> Iterator[Flag]:
    """Fail where a network does better under attack than on clean images: the attack has told it the label."""
    for name, result in attacked.items():
        if result.accuracy.low > clean.high:
            yield Flag(
                "label leaking", "fail", f"{name} leaves {result.accuracy.value:.1%}, above the clean {clean.value:.1%}"
            )


def one_step_flatters(attacked: dict[str, Attacked]) -> Iterator[Flag]:
    """Warn where one step leaves much that a stronger attack breaks: the one step's figure says little."""
    single = [result for name, result in attacked.items() if name.startswith("fgsm")]
    others = [result for result in attacked.values() if result not in single]
    if not others:
        return
    strongest = min(others, key=lambda result: result.accuracy.high)
    for one in single:
        if one.accuracy.low - strongest.accuracy.high > 0.1:
            name = strongest.attack.partition("(")[0]
            left, rest = one.accuracy.value, strongest.accuracy.value
            text = f"FGSM leaves {left:.1%} but {name} {rest:.1%}: FGSM's figure is no robustness"
            yield Flag("many steps beat one", "warn", text)


def sandwich(certified: Certified | None, robust: Estimate) -> Iterator[Flag]:
    """Fail where more is proven than attacks have left: one of the two must be wrong."""
    if certified is not None and certified.accuracy.low > robust.high:
        text = f"{certified.accuracy.value:.1%} are certified, but attacks leave {robust.value:.1%}: one is wrong"
        yield Flag("sandwich", "fail", text)


def rising(curve: Curve) -> Flag | None:
    """Warn where accuracy rises with eps: the attack fails at the smaller eps, so gradients are masked."""
    for before, after in zip(curve.points, curve.points[1:], strict=False):
        if after.accuracy.low > before.accuracy.high:
            text = (
                f"accuracy under {curve.attack} rises from {before.accuracy.value:.1%} at eps {before.eps:.4g} "
                f"to {after.accuracy.value:.1%} at {after.eps:.4g}: the gradients are masked"
            )
            return Flag("monotone curve", "warn", text)
    return None


def catastrophic_overfitting(training: Sequence[EpochMetrics]) -> Flag | None:
    """Warn where training on one step's images came to hold against that step and no longer against PGD.

    The defences say so at the end of each epoch (Wong et al. 2020, arXiv:2001.03994).
    """
    overfitted = [epoch for epoch in training if epoch.metrics.get("overfitting")]
    if not overfitted:
        return None
    first, last = overfitted[0], training[-1]
    text = (
        f"catastrophic overfitting in {len(overfitted)} of {len(training)} epochs: after epoch {first.epoch + 1} one "
        f"step left {first.metrics['one_step_accuracy']:.1%} of training images right, "
        f"PGD {first.metrics['pgd_accuracy']:.1%}"
    )
    still = "; the last epoch among them" if overfitted[-1] is last else ""
    return Flag("catastrophic overfitting", "warn", text + still)
