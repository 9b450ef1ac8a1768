"""What a distilled set is worth: train on it, probe it, bound it."""

from collections.abc import Callable

from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.certificate import certificate
from ddjax.evaluation.full_data import full_data
from ddjax.evaluation.kernel_regression import kernel_regression
from ddjax.evaluation.linear_probe import full_data_linear_probe, linear_probe
from ddjax.evaluation.network import network
from ddjax.evaluation.probe import probe
from ddjax.evaluation.regression import predict_targets, regression

__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "Score",
    "certificate",
    "full_data",
    "full_data_linear_probe",
    "kernel_regression",
    "linear_probe",
    "network",
    "predict_targets",
    "probe",
    "regression",
    "score",
]

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "certificate": certificate,
    "full_data": full_data,
    "full_data_linear_probe": full_data_linear_probe,
    "kernel_regression": kernel_regression,
    "linear_probe": linear_probe,
    "network": network,
    "probe": probe,
    "regression": regression,
}
"""Evaluations by name; each factory takes keyword-only settings."""
