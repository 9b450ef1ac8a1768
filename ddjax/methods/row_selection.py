r"""Selection baselines for regression: real rows, or k-means centres, as they are.

Nothing is learned: a step changes nothing. They are what a distilled set of the same
size has to beat. Beside random rows and k-means there is sampling by ridge leverage
scores, the influence of each row on its own prediction,

.. math::
    l_i(\lambda) = \tfrac1n \phi_i^\top \Big(\tfrac1n \Phi^\top\Phi + \lambda I
      \Big)^{-1} \phi_i, \qquad \sum_i l_i = d_{\text{eff}}(\lambda).

Source: Alaoui and Mahoney, "Fast randomized kernel ridge regression with statistical
guarantees" (NeurIPS 2015), definition 1; their lambda is per sample, as here.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt
from scipy.linalg import solve_triangular

from ddjax.data.problem import Problem
from ddjax.kernels.blocks import map_in_blocks
from ddjax.methods import least_squares
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import select_rows
from ddjax.synthetic.parameterization import pixels

__all__ = [
    "HOW",
    "Reference",
    "Rows",
    "check_settings",
    "choose",
    "leverage_scores",
    "regression_set",
    "row_selection",
]

HOW = ("real", "kmeans_centres", "kmeans", "leverage")
"""How rows may be chosen."""


class Reference(NamedTuple):
    """What a choice needs.

    Attributes:
      scores: ridge leverage scores of the training rows; None where they are not used.
      key_data: words of the key that random features were drawn from.
    """

    scores: Float[Array, " n"] | None
    key_data: UInt[Array, " words"]


class Rows(NamedTuple):
    """Chosen rows, preprocessed."""

    inputs: Float[Array, "m *shape"]
    targets: Float[Array, "m c"]


def row_selection(
    *,
    count: int = 10,
    how: str = "real",
    ridge: float = 1e-3,
    weighted: bool = False,
    features: Mapping[str, Any] | None = None,
    block: int = 4096,
) -> Method:
    r"""Builds a selection baseline for regression as a `Method`.

    Args:
      count: rows m.
      how: `real`, `kmeans_centres` or `kmeans`, see
        `ddjax.synthetic.initialization.select_rows`; or `leverage`: real rows drawn
        with probabilities :math:`p_i = l_i / \sum_j l_j`, each used once.
      ridge: per sample, >= 0 (> 0 for `leverage`): of the leverage scores, and what the
        set is to be trained with.
      weighted: with `leverage`, draw with replacement and importance weights
        :math:`w_i = 1/(n p_i)`, so that the weighted loss of the rows is unbiased for
        that of all. Stored are :math:`\sqrt{w_i} x_i` and :math:`\sqrt{w_i} y_i` (both
        preprocessed), on which ridge regression is the weighted one; of linear models
        only, so that `features` must be `inputs`.
      features: what the scores see inputs through, and the set is to be trained
        through; see `ddjax.models.feature_maps.from_settings`, `inputs` by default.
      block: real rows at once.

    Raises:
      ValueError: an unknown name, a number out of range or options that do not go
        together; when a run starts, a problem without regression targets or with fewer
        than `count` rows.
    """
    settings = check_settings(count=count, how=how, ridges=(ridge,), features=features)
    if weighted and (how != "leverage" or settings["kind"] != "inputs"):
        raise ValueError(
            "weighted=True needs how='leverage' and features of kind 'inputs', got "
            f"{how!r} and {settings['kind']!r}"
        )
    if how == "leverage" and ridge == 0:
        raise ValueError("how='leverage' needs ridge > 0, got 0")

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> Reference:
        least_squares.regression_targets(problem.train)
        drawn = feature_maps.from_settings(key, settings)
        scores = None
        if how == "leverage":
            found = least_squares.moments(
                problem, drawn, block=block, remember=remember
            )
            scores = jnp.asarray(
                leverage_scores(problem, drawn, found, ridge=ridge, block=block)
            )
        return Reference(scores, jnp.asarray(drawn.key_data or (0, 0), jnp.uint32))

    def init(key: PRNGKeyArray, problem: Problem, data: Reference) -> Rows:
        if not weighted:
            return choose(key, problem, data.scores, count=count, how=how)
        assert data.scores is not None  # weighted goes with leverage
        shares = data.scores / data.scores.sum()
        chosen = jax.random.choice(key, len(shares), (count,), p=shares)
        roots = np.sqrt(1.0 / (len(shares) * np.asarray(shares[chosen])))[:, None]
        rows = _rows(problem, np.asarray(chosen))
        flat = rows.inputs.reshape(count, -1) * roots
        return Rows(flat.reshape(rows.inputs.shape), rows.targets * roots)

    def step(state: Rows, batch: Reference, key: PRNGKeyArray):
        del batch, key
        return state, {"loss": jnp.zeros(())}

    def distilled(state: Rows, problem: Problem, data: Reference) -> DistilledSet:
        drawn = feature_maps.from_settings(
            jax.random.wrap_key_data(data.key_data), settings
        )
        return regression_set(problem, state, ridge=ridge, features=drawn)

    return Method(prepare, init, lambda key, data: data, step, distilled)


def check_settings(
    *,
    count: int,
    how: str,
    ridges: tuple[float, ...],
    features: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Refuses what makes no sense; returns the settings of the feature map.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if how not in HOW:
        raise ValueError(f"how is {how!r}, not one of {HOW}")
    for ridge in ridges:
        if not (math.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ridge must be finite and >= 0, got {ridge}")
    settings: dict[str, Any] = {"kind": "inputs"} if features is None else {**features}
    # Refuses exact kernels, which have no features.
    feature_maps.application(feature_maps.from_settings(jax.random.key(0), settings))
    return {"kind": "random_features", **settings}


def leverage_scores(
    problem: Problem,
    feature_map: FeatureMap,
    found: least_squares.Moments,
    *,
    ridge: float,
    block: int = 4096,
) -> Float[np.ndarray, " n"]:
    """Ridge leverage scores of the training rows (the equation is the module's).

    Args:
      problem: the real data.
      feature_map: what they are seen through; not an exact kernel.
      found: the moments of the same rows through the same features.
      ridge: lambda per sample, > 0.
      block: rows at once.
    """
    strengthened = found.gram + ridge * np.eye(len(found.gram))
    factor = np.linalg.cholesky(strengthened)
    params, apply = feature_maps.build(feature_map, problem.train.inputs.shape[1:])
    # On the host: a slice of a device array at a new place would be compiled anew.
    inputs, scores = np.asarray(problem.train.inputs), []
    for start in range(0, found.count, block):
        rows = inputs[start : start + block]
        features = map_in_blocks(apply, rows, block=block, arguments=(params,))
        whitened = solve_triangular(factor, features.T.astype(np.float64), lower=True)
        scores.append(np.square(whitened).sum(axis=0) / found.count)
    return np.concatenate(scores).astype(np.float32)


def choose(
    key: PRNGKeyArray,
    problem: Problem,
    scores: Float[Array, " n"] | None,
    *,
    count: int,
    how: str,
) -> Rows:
    """Rows by one of `HOW`, each used once.

    Raises:
      ValueError: fewer real rows than `count`.
    """
    if how != "leverage":
        return Rows(*select_rows(key, problem, count=count, how=how))
    assert scores is not None  # made for leverage
    if len(scores) < count:
        raise ValueError(
            f"{count} samples were asked for, but problem {problem.name!r} has "
            f"{len(scores)} to choose from"
        )
    shares = scores / scores.sum()
    chosen = jax.random.choice(key, len(shares), (count,), replace=False, p=shares)
    return _rows(problem, np.asarray(chosen))


def _rows(problem: Problem, chosen: np.ndarray) -> Rows:
    inputs = np.asarray(problem.train.inputs)[chosen]
    targets = np.asarray(least_squares.regression_targets(problem.train))[chosen]
    return Rows(jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32))


def regression_set(
    problem: Problem, rows: Rows, *, ridge: float, features: FeatureMap
) -> DistilledSet:
    """Rows as a distilled set, to be trained on with a ridge per sample."""
    return DistilledSet(
        stored={"inputs": rows.inputs},
        parameterization=pixels(),
        targets=rows.targets,
        targets_kind="regression",
        labels=None,
        preprocessing=problem.preprocessing,
        class_names=None,
        provenance={"features": feature_maps.to_recipe(features), "ridge": ridge},
        targets_preprocessing=problem.targets_preprocessing,
        columns=problem.columns,
    )
