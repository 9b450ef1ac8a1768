"""Ridge regression on a distilled set: how well it predicts real-valued targets."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.problem import Problem
from ddjax.data.table_rows import Cells, encoded_rows
from ddjax.evaluation import accuracy, checks, convex
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.convex import ConvexLearner
from ddjax.evaluation.matching import learning_pairs, matched_problem
from ddjax.evaluation.representation import representation
from ddjax.kernels.random_features import Architecture
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet, decoded
from ddjax.synthetic.json_text import plain

__all__ = ["natural_scores", "predict_targets", "regression"]


def regression(
    *,
    ridge: float | None = None,
    convention: str = "per_sample",
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
      ridge: strength, >= 0, read by `convention`; None takes strength and convention
        that the set was distilled for (`ridge` in its recipe).
      convention: of a `ridge` that is given, see `ddjax.kernels.ridge`.
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
    settings = plain(locals(), "settings")
    checks.check_ridge(ridge, convention)
    maps = representation(
        features, architecture=architecture, networks=networks, draws=draws
    )
    name = "regression" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        if problem.classes and problem.train.targets is None:
            raise ValueError(
                f"evaluation 'regression' needs real-valued targets, but problem "
                f"{problem.name!r} has {problem.classes} classes; use 'probe' or "
                "'kernel_regression'"
            )
        _check_kind(distilled)
        problem = matched_problem(distilled, problem, split)
        wanted = checks.known_targets(problem, split)
        pairs = learning_pairs(distilled, problem)
        learner = _learner(distilled, pairs.targets, ridge, convention)
        found = []
        for feature_map in maps(key, distilled):
            view = convex.view_through(feature_map, pairs.inputs.shape[1:])
            fitted = convex.fit(view, learner, pairs.inputs, block=block)
            found.append(
                convex.predict_split(
                    view, fitted, pairs.inputs, problem, split, block=block, cache=cache
                )
            )
        return natural_scores(name, found, wanted, problem)

    return Evaluation(name, settings, evaluate)


def predict_targets(
    distilled: DistilledSet,
    rows: Float[Array | ndarray, "n *shape"] | Cells,
    *,
    ridge: float | None = None,
    convention: str = "per_sample",
    block: int = 4096,
) -> Float[ndarray, "n c"]:
    """Predictions of what ridge regression learns from a set, in natural units.

    Through the features that the set was distilled through; the equation is that of
    `regression`.

    Args:
      distilled: a regression set.
      rows: new inputs in natural units: of a table its own columns, text included, as a
        mapping of names to cells or as a CSV or Parquet file (other columns are passed
        over); or numbers, their columns as in `distilled.columns`.
      ridge: as in `regression`.
      convention: as in `regression`.
      block: rows at once.

    Raises:
      ValueError: a set that is not of regression, rows of another shape, columns or
        cells that the set does not know (`ddjax.data.DataError`, with where they are),
        or a set that does not say its ridge or its features.
    """
    _check_kind(distilled)
    if isinstance(rows, Mapping | str | os.PathLike):
        rows = _own_columns(distilled, rows)
    samples, targets = decoded(distilled)
    values = np.asarray(rows, np.float64)
    if values.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"rows have shape {values.shape}; the set's inputs have shape "
            f"{samples.shape[1:]} a sample"
        )
    inputs = preprocess.apply(distilled.preprocessing, values)
    maps = representation("distillation", architecture=None, networks=None, draws=1)
    view = convex.view_through(maps(jax.random.key(0), distilled)[0], samples.shape[1:])
    learner = _learner(distilled, targets, ridge, convention)
    predictions = convex.predict(
        view,
        convex.fit(view, learner, samples, block=block),
        samples,
        np.asarray(inputs, samples.dtype),
        block=block,
    )
    if distilled.targets_preprocessing is None:
        return predictions
    return np.asarray(preprocess.invert(distilled.targets_preprocessing, predictions))


def _own_columns(distilled: DistilledSet, rows: Cells) -> Float[ndarray, "n d"]:
    """Rows with the columns of the file that a set's table was read from."""
    if distilled.columns is None:
        raise ValueError(
            "the set names no columns; give rows as an array of its inputs' shape"
        )
    known: Any = distilled.provenance
    for key in ("data", "source", "text"):
        known = known.get(key) if isinstance(known, Mapping) else None
    return encoded_rows(rows, distilled.columns, known or {})


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
    scores = {
        f"{name}/r2": score([accuracy.r_squared(each, wanted) for each in predicted])
    }
    names = (
        range(wanted.shape[1]) if problem.columns is None else problem.columns.targets
    )
    for what, errors in (
        ("rmse", accuracy.root_mean_squared_errors),
        ("mae", accuracy.mean_absolute_errors),
    ):
        values = np.stack([errors(each, wanted) for each in predicted])
        for output, column in zip(names, values.T, strict=True):
            ending = "" if wanted.shape[1] == 1 else f"_{output}"
            scores[f"{name}/{what}{ending}"] = score(column.tolist())
    return scores


def _check_kind(distilled: DistilledSet) -> None:
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"regression needs a set with targets of kind 'regression', not "
            f"{distilled.targets_kind!r}"
        )


def _learner(
    distilled: DistilledSet,
    targets: Float[Array | ndarray, "m *c"],
    ridge: float | None,
    convention: str,
) -> ConvexLearner:
    if ridge is None:
        strength, read_by = checks.recipe_ridge(distilled)
    else:
        strength, read_by = ridge, checks.check_ridge(ridge, convention)
    values = np.asarray(targets)
    return convex.ridge_learner(
        values.reshape(len(values), -1), ridge=strength, convention=read_by
    )
