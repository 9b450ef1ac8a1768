"""What a distilled set is worth: train on it, probe it, bound it."""

from collections.abc import Callable
from typing import Any

from ddjax.checks import check_names
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.certificate import certificate
from ddjax.evaluation.full_data import full_data
from ddjax.evaluation.full_data_linear_probe import full_data_linear_probe
from ddjax.evaluation.kernel_regression import kernel_regression
from ddjax.evaluation.linear_probe import linear_probe
from ddjax.evaluation.network import network
from ddjax.evaluation.pretraining import pretraining
from ddjax.evaluation.probe import probe
from ddjax.evaluation.random_real import random_real
from ddjax.evaluation.real_pretraining import real_pretraining
from ddjax.evaluation.regression import predict_targets, regression
from ddjax.kernels._keywords import check_keywords

__all__ = [
    "EVALUATIONS",
    "Evaluation",
    "Score",
    "certificate",
    "full_data",
    "full_data_linear_probe",
    "kernel_regression",
    "linear_probe",
    "make",
    "network",
    "predict_targets",
    "pretraining",
    "probe",
    "random_real",
    "real_pretraining",
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
    "pretraining": pretraining,
    "probe": probe,
    "random_real": random_real,
    "real_pretraining": real_pretraining,
    "regression": regression,
}
"""Evaluations by name; each factory takes keyword-only settings."""


def make(name: str, **settings: Any) -> Evaluation:
    """Builds an evaluation by name.

    Raises:
      ValueError: an unknown evaluation, with the known ones; an unknown setting, with
        those that the evaluation takes; a setting that it needs and was not given.
    """
    check_names(evaluation=(name, sorted(EVALUATIONS)))
    check_keywords(f"evaluation {name!r}", EVALUATIONS[name], settings)
    return EVALUATIONS[name](**settings)
