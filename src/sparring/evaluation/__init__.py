"""Evaluation: how robust a classifier is, and whether the figure can be trusted."""

from sparring.evaluation.robustness import CERTIFY_DRAWS, DEFAULT_ATTACKS, evaluate

__all__ = ["CERTIFY_DRAWS", "DEFAULT_ATTACKS", "evaluate"]
