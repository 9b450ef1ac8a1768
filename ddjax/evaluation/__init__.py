"""What a distilled set is worth: train on it, probe it, bound it."""

from collections.abc import Callable

from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.kernel_regression import kernel_regression
from ddjax.evaluation.network import network

__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "Score",
    "kernel_regression",
    "network",
    "score",
]

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "kernel_regression": kernel_regression,
    "network": network,
}
"""Evaluations by name; each factory takes keyword-only settings."""
