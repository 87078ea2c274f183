"""What a study's own figures give away: curves that rise, training that overfits; the audit looks at evaluations."""

from collections.abc import Sequence

from sparring.core.results import Curve, Flag
from sparring.core.statistics import largest_rise
from sparring.core.study_results import EpochMetrics


def rising(curve: Curve) -> Flag | None:
    """Warn where accuracy rises with eps: the attack fails at the larger eps, where whatever broke an image is allowed.

    Gradients may be masked, but a single step may overshoot as well.
    """
    places = largest_rise([(point.eps, point.accuracy) for point in curve.points])
    if places is None:
        return None
    before, after = (curve.points[place] for place in places)
    text = (
        f"accuracy under {curve.attack} rises from {before.accuracy.value:.1%} at eps {before.eps:.4g} "
        f"to {after.accuracy.value:.1%} at {after.eps:.4g}: the attack fails at the larger eps; gradients may be masked"
    )
    return Flag("monotone curve", "warn", text)


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
