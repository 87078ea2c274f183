"""Accuracy and confidence as a report tabulates them: over all images, over those right, over those wrong."""

import torch
from torch import Tensor

from sparring.attacks.losses import succeeded
from sparring.core.results import Confidence
from sparring.core.statistics import mean, share


def confidence(logits: Tensor, y: Tensor) -> Confidence:
    """Return accuracy and the mean of the largest softmax for logits (N, K) and labels (N,)."""
    top = torch.softmax(logits.double(), dim=1).amax(1)
    right = ~succeeded(logits, y)
    parts = (top, top[right], top[~right])
    return Confidence(share(int(right.sum()), len(y)), *(mean(part.tolist()) for part in parts))
