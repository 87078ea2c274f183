"""What a study's own figures give away: curves that rise, training that overfits; the audit looks at evaluations."""

from collections.abc import Sequence

from sparring.core.results import Curve, Flag
from sparring.core.study_results import EpochMetrics


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
