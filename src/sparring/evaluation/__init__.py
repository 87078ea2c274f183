"""Evaluation: how robust a classifier is, and whether the figure can be trusted."""

from sparring.evaluation.robustness import DEFAULT_ATTACKS, evaluate

__all__ = ["DEFAULT_ATTACKS", "evaluate"]
