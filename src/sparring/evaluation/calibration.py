"""Calibration: is a network right as often as it is sure? (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
import torch
from torch import Tensor

from sparring.attacks.losses import succeeded
from sparring.core.errors import InputError
from sparring.core.results import Bin, Calibration, Estimate
from sparring.core.statistics import TAIL

BINS = 15
RESAMPLED = 400  # times, for the interval


def calibration(logits: Tensor, y: Tensor, bins: int = BINS) -> Calibration:
    """Return how far confidence, the largest softmax, is from accuracy for logits (N, K) and labels (N,).

    Expected calibration error: over equal bins of confidence, the mean of |accuracy - confidence|, each weighed by its
    share of the images. It is above 0 of a network that is right exactly as often as it is sure, too, the more so the
    fewer the images. The interval is the basic bootstrap's, which takes off a part of that; where such a network would
    show as large an error (in more than 2.5 % of draws of who is right: Bröcker & Smith 2007), it reaches down to 0.
    """
    if bins < 1:
        raise InputError(f"calibration: bins must be at least 1, not {bins}")
    confidence = torch.softmax(logits.double(), dim=1).amax(1).nan_to_num(1).numpy()
    right = (~succeeded(logits, y)).numpy().astype(np.float64)
    # a bin holds its upper end, as torchmetrics and the authors have it
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    accuracy = np.bincount(place, right, bins) / np.maximum(count, 1)
    mean = np.bincount(place, confidence, bins) / np.maximum(count, 1)
    made = zip(count.tolist(), accuracy.tolist(), mean.tolist(), strict=True)
    return Calibration(_estimate(place, confidence, right, bins), tuple(Bin(*part) for part in made))


def _estimate(place: np.ndarray, confidence: np.ndarray, right: np.ndarray, bins: int) -> Estimate:
    """Return the error, given each image's bin, confidence and whether it is right."""
    n = len(place)
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)

    def error(excess: np.ndarray) -> float:
        return float(np.abs(np.bincount(place, excess, bins)).sum()) / n

    excess, random = confidence - right, np.random.default_rng(0)
    value = error(excess)
    drawn = [error(np.bincount(random.integers(0, n, n), minlength=n) * excess) for _ in range(RESAMPLED)]
    of_calibrated = [error(confidence - (random.random(n) < confidence)) for _ in range(RESAMPLED)]
    low, high = np.quantile(drawn, (TAIL, 1 - TAIL))
    least = 0.0 if value <= np.quantile(of_calibrated, 1 - TAIL) else max(0.0, 2 * value - float(high))
    return Estimate(value, least, max(value, 2 * value - float(low)), n)
