"""Kernel ridge regression on a distilled set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.accuracy import accuracy, mean_squared_error
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import check_match, check_ridge, chosen_split
from ddjax.evaluation.convex import FeatureStore, fit_and_predict, ridge_learner
from ddjax.evaluation.representation import representation
from ddjax.kernels.random_features import Architecture
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = ["kernel_regression"]


def kernel_regression(
    *,
    kernel: str = "random_features",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    ridge: float = 1e-6,
    convention: str = "relative",
    draws: int = 3,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    r"""Accuracy and squared error of kernel ridge regression on the distilled set.

    .. math::
        f(x) = k(x, X_s) (k(X_s, X_s) + \lambda I)^{-1} Y_s,

    with the targets as stored. Solved in float64. Scalars: `kernel_regression/mse`,
    the mean over samples and outputs of the squared error against the real labels in
    the units of the stored targets, and for classes `kernel_regression/accuracy`.

    Source: KIP (Nguyen, Chen & Lee, ICLR 2021), equation 3; there
    :math:`\lambda = 10^{-6}\,\mathrm{tr}(K)/m`, the default.

    Args:
      kernel: one of `representation.FEATURES`: the inner product of features, or an
        exact kernel.
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks a draw.
      ridge: strength, >= 0.
      convention: see `ddjax.kernels.ridge`.
      draws: of the random networks.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    read_by = check_ridge(ridge, convention)
    maps = representation(
        kernel, architecture=architecture, networks=networks, draws=draws
    )
    name = "kernel_regression" + (f"_{label}" if label else "")
    store = FeatureStore()

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        targets = learning_targets.as_stored(distilled)
        learner = ridge_learner(targets, ridge=ridge, convention=read_by)
        wanted = _wanted(data.targets, distilled, problem.classes)
        accuracies, errors = [], []
        for feature_map in maps(key, distilled):
            predictions, _ = fit_and_predict(
                feature_map,
                learner,
                decoded_inputs(distilled),
                data.inputs,
                block=block,
                store=store,
            )
            errors.append(mean_squared_error(predictions, wanted))
            if problem.classes:
                accuracies.append(accuracy(predictions, np.asarray(data.targets)))
        scores = {f"{name}/mse": score(errors)}
        if accuracies:
            scores[f"{name}/accuracy"] = score(accuracies)
        return scores

    return Evaluation(name, evaluate)


def _wanted(targets: Any, distilled: DistilledSet, classes: int) -> np.ndarray:
    if classes:
        return np.asarray(learning_targets.natural_targets(targets, distilled, classes))
    return np.asarray(targets, np.float32).reshape(-1, *np.shape(distilled.targets)[1:])
