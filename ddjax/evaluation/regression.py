"""Ridge regression on a distilled set: how well it predicts real-valued targets."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.problem import Problem
from ddjax.evaluation.accuracy import (
    mean_absolute_errors,
    r_squared,
    root_mean_squared_errors,
)
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import check_match, check_ridge, chosen_split
from ddjax.evaluation.convex import (
    FeatureStore,
    Learner,
    fit_and_predict,
    ridge_learner,
)
from ddjax.evaluation.representation import representation
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.random_features import Architecture
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = ["natural_scores", "predict_targets", "regression"]


def regression(
    *,
    ridge: float | None = None,
    convention: ridge_regression.Convention = "per_sample",
    features: str = "distillation",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    draws: int = 3,
    block: int = 4096,
    label: str = "",
) -> Evaluation:
    r"""How well (kernel) ridge regression on a distilled set predicts real targets.

    .. math::
        W = \Phi(X)^\top (\Phi(X)\Phi(X)^\top + \lambda I)^{-1} Y, \qquad
        f(x) = W^\top \phi(x),

    solved in float64 on the set as stored (preprocessed, without an intercept: the
    preprocessing of inputs and targets has centred them). Scalars: `regression/r2`, the
    coefficient of determination, averaged over outputs; `regression/rmse` and
    `regression/mae`, root mean squared and mean absolute error in the targets' natural
    units, one each where there are several outputs (`regression/rmse_<output>`).

    Args:
      ridge: strength, >= 0; None takes the one that the set was distilled for
        (`ridge` in its provenance).
      convention: see `ddjax.kernels.ridge`.
      features: one of `representation.FEATURES`; `inputs` is a linear model.
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks a draw.
      draws: of the random features.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated, a
        problem with classes, a set that is not of regression, or one that does not say
        its ridge where none is given.
    """
    check_ridge(ridge, convention)
    maps = representation(
        features, architecture=architecture, networks=networks, draws=draws
    )
    name = "regression" + (f"_{label}" if label else "")
    store = FeatureStore()

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        _check_regression(distilled, problem)
        check_match(distilled, problem)
        learner = _learner(distilled, ridge, convention)
        found = [
            fit_and_predict(
                feature_map,
                learner,
                decoded_inputs(distilled),
                data.inputs,
                block=block,
                store=store,
            )[0]
            for feature_map in maps(key, distilled)
        ]
        return natural_scores(name, found, np.asarray(data.targets), problem)

    return Evaluation(name, evaluate)


def predict_targets(
    distilled: DistilledSet,
    rows: Float[Array | ndarray, "n *shape"],
    *,
    ridge: float | None = None,
    convention: ridge_regression.Convention = "per_sample",
    block: int = 4096,
) -> Float[ndarray, "n c"]:
    """Predictions of what ridge regression learns from a set, in natural units.

    Through the features that the set was distilled through; the equation is that of
    `regression`.

    Args:
      distilled: a regression set.
      rows: new inputs in natural units, their columns as in `distilled.columns`.
      ridge: as in `regression`.
      convention: as in `regression`.
      block: rows at once.

    Raises:
      ValueError: a set that is not of regression, rows of another shape, or a set that
        does not say its ridge or its features.
    """
    _check_kind(distilled)
    samples = decoded_inputs(distilled)
    values = np.asarray(rows, np.float64)
    if values.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"rows have shape {values.shape}; the set's inputs have shape "
            f"{samples.shape[1:]} a sample"
        )
    inputs = preprocess.apply(distilled.preprocessing, values)
    maps = representation("distillation", architecture=None, networks=None, draws=1)
    predictions, _ = fit_and_predict(
        maps(jax.random.key(0), distilled)[0],
        _learner(distilled, ridge, convention),
        samples,
        np.asarray(inputs, np.float32),
        block=block,
    )
    if distilled.targets_preprocessing is None:
        return predictions
    return np.asarray(preprocess.invert(distilled.targets_preprocessing, predictions))


def natural_scores(
    name: str,
    found: list[ndarray],
    targets: Float[Array | ndarray, "n *c"],
    problem: Problem,
) -> dict[str, Score]:
    """R2, RMSE and MAE of predictions, one a draw, in natural units.

    Args:
      name: prefix of the scalars.
      found: preprocessed predictions.
      targets: preprocessed real targets.
      problem: it has the map to natural units, and the outputs' names.
    """

    def natural(values: Any) -> ndarray:
        values = np.asarray(values, np.float64).reshape(len(values), -1)
        if problem.targets_preprocessing is None:
            return values
        return np.asarray(preprocess.invert(problem.targets_preprocessing, values))

    wanted, predicted = natural(targets), [natural(each) for each in found]
    scores = {f"{name}/r2": score([r_squared(each, wanted) for each in predicted])}
    names = (
        range(wanted.shape[1]) if problem.columns is None else problem.columns.targets
    )
    for what, errors in (
        ("rmse", root_mean_squared_errors),
        ("mae", mean_absolute_errors),
    ):
        values = np.stack([errors(each, wanted) for each in predicted])
        for output, column in zip(names, values.T, strict=True):
            ending = "" if wanted.shape[1] == 1 else f"_{output}"
            scores[f"{name}/{what}{ending}"] = score(column.tolist())
    return scores


def _check_regression(distilled: DistilledSet, problem: Problem) -> None:
    if problem.classes:
        raise ValueError(
            f"evaluation 'regression' needs real-valued targets, but problem "
            f"{problem.name!r} has {problem.classes} classes; use 'probe' or "
            "'kernel_regression'"
        )
    _check_kind(distilled)
    stored = int(np.prod(np.shape(distilled.targets)[1:], dtype=int))
    outputs = np.asarray(problem.train.targets).shape[1]
    if stored != outputs:
        raise ValueError(
            f"the set has {stored} target(s) a sample, problem {problem.name!r} has "
            f"{outputs}"
        )
    kinds = [
        "none" if each is None else each.kind
        for each in (distilled.targets_preprocessing, problem.targets_preprocessing)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the set's targets live behind {kinds[0]!r} preprocessing, problem "
            f"{problem.name!r} was loaded with {kinds[1]!r}: see standardize_targets"
        )


def _check_kind(distilled: DistilledSet) -> None:
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"regression needs a set with targets of kind 'regression', not "
            f"{distilled.targets_kind!r}"
        )


def _learner(
    distilled: DistilledSet,
    ridge: float | None,
    convention: ridge_regression.Convention,
) -> Learner:
    targets = np.asarray(distilled.targets, np.float32)
    return ridge_learner(
        targets.reshape(len(targets), -1),
        ridge=_strength(ridge, distilled),
        convention=convention,
    )


def _strength(ridge: float | None, distilled: DistilledSet) -> float:
    if ridge is not None:
        return ridge
    known = distilled.provenance.get("ridge")
    if known is None:
        raise ValueError("the set does not say which ridge it was made for; give ridge")
    return float(known)
