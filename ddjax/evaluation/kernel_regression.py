"""Kernel ridge regression on a distilled set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.evaluation import checks, convex, learning_targets
from ddjax.evaluation.accuracy import accuracy, mean_squared_error
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.matching import learning_pairs, matched_problem
from ddjax.evaluation.representation import representation
from ddjax.kernels.random_features import Architecture
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

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
      ridge: strength, >= 0, read by `convention`.
      convention: see `ddjax.kernels.ridge`.
      draws: of the random networks.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a set
        of representations, or a split without the labels or targets to measure against.
    """
    settings = plain(locals(), "settings")
    read_by = checks.check_ridge(ridge, convention)
    maps = representation(
        kernel, architecture=architecture, networks=networks, draws=draws
    )
    name = "kernel_regression" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        problem = matched_problem(distilled, problem, split)
        pairs = learning_pairs(distilled, problem)
        targets = learning_targets.as_stored(pairs.targets, distilled.targets_kind)
        learner = convex.ridge_learner(targets, ridge=ridge, convention=read_by)
        wanted, labels = _wanted(distilled, targets, problem, split)
        accuracies, errors = [], []
        for feature_map in maps(key, distilled):
            view = convex.view_through(feature_map, pairs.inputs.shape[1:])
            fitted = convex.fit(view, learner, pairs.inputs, block=block)
            predictions = convex.predict_split(
                view, fitted, pairs.inputs, problem, split, block=block, cache=cache
            )
            errors.append(mean_squared_error(predictions, wanted))
            if labels is not None:
                accuracies.append(accuracy(predictions, labels))
        scores = {f"{name}/mse": score(errors)}
        if accuracies:
            scores[f"{name}/accuracy"] = score(accuracies)
        return scores

    return Evaluation(name, settings, evaluate)


def _wanted(
    distilled: DistilledSet, targets: Any, problem: Problem, split: str
) -> tuple[ndarray, ndarray | None]:
    """Real targets in the units of the stored ones, and labels where there are any."""
    if distilled.targets_kind == "regression":
        wanted = checks.known_targets(problem, split)
        return wanted.reshape(-1, *targets.shape[1:]), None
    labels = checks.known_labels(problem, split)
    wanted = learning_targets.natural_targets(
        labels, targets, distilled.targets_kind, problem.classes
    )
    return np.asarray(wanted), labels
