"""What a distilled set is worth: train on it, probe it, bound it."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.certificate import certificate
from ddjax.evaluation.full_data import full_data
from ddjax.evaluation.full_data_linear_probe import full_data_linear_probe
from ddjax.evaluation.kernel_regression import kernel_regression
from ddjax.evaluation.linear_probe import linear_probe
from ddjax.evaluation.network import network
from ddjax.evaluation.probe import probe
from ddjax.evaluation.random_real import random_real
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
    "make",
    "network",
    "predict_targets",
    "probe",
    "random_real",
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
    "random_real": random_real,
    "regression": regression,
}
"""Evaluations by name; each factory takes keyword-only settings."""


def make(name: str, **settings: Any) -> Evaluation:
    """Builds an evaluation by name.

    Raises:
      ValueError: an unknown evaluation, with the known ones; an unknown setting, with
        those that the evaluation takes; a setting that it needs and was not given.
    """
    if name not in EVALUATIONS:
        near = _near(name, EVALUATIONS)
        known = ", ".join(sorted(EVALUATIONS))
        raise ValueError(f"unknown evaluation {name!r};{near} known: {known}")
    parameters = inspect.signature(EVALUATIONS[name]).parameters
    for keyword in settings:
        if keyword not in parameters:
            near = _near(keyword, parameters)
            raise ValueError(
                f"evaluation {name!r} takes no {keyword!r};{near} "
                f"it takes: {', '.join(parameters)}"
            )
    for keyword, parameter in parameters.items():
        if parameter.default is parameter.empty and keyword not in settings:
            raise ValueError(f"evaluation {name!r} needs {keyword!r}")
    return EVALUATIONS[name](**settings)


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" did you mean {near[0]!r}?" if near else ""
