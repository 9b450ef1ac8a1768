r"""Nyström: ridge regression on all the data, within the span of a few landmarks.

With landmark rows Z (m, d), the predictor is
:math:`f(x) = \sum_j \alpha_j\, \phi(z_j)^\top\phi(x)`, fitted to all n rows,

.. math::
    \alpha = \operatorname{argmin}_\alpha \tfrac1n \lVert \Phi W - Y \rVert^2
      + \lambda \lVert W \rVert^2, \quad W = \Phi(Z)^\top\alpha
    \qquad\Longrightarrow\qquad
    \big(\Phi_Z (G + \lambda I) \Phi_Z^\top\big)\,\alpha = \Phi_Z C,

:math:`G = \Phi^\top\Phi/n`, :math:`C = \Phi^\top Y/n`, :math:`\Phi_Z = \Phi(Z)`. As a
distilled set it is the landmarks with the targets on which ridge regression of strength
:math:`\lambda_S` gives this very predictor,

.. math:: \tilde Y = (\Phi_Z\Phi_Z^\top + m\lambda_S I)\,\alpha,

so that it stores m rows and m targets like any other set. The inputs are real, and the
targets know all the data. With at least as many landmarks in general position as there
are features, the span is everything and the predictor that of all the data.

Source: Rudi, Camoriano and Rosasco, "Less is more: Nyström computational
regularization" (NeurIPS 2015), section 2; the targets are ours.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.kernels import analytic as closed_form
from ddjax.methods import least_squares
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.row_selection import (
    Reference,
    Rows,
    check_settings,
    choose,
    leverage_scores,
    regression_set,
)
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["Landmarks", "Solved", "nystrom"]


class Landmarks(NamedTuple):
    """What the landmarks are chosen by, and the data that they are fitted to.

    Attributes:
      choice: see `ddjax.methods.row_selection.Reference`.
      gram: G, with what float32 loses of it as a second array.
      cross: C, likewise.
    """

    choice: Reference
    gram: Float[Array, "2 p p"]
    cross: Float[Array, "2 p c"]


class Solved(NamedTuple):
    """The set, and half the mean squared error of its predictor on the real data."""

    rows: Rows
    loss: Float[Array, ""]


def nystrom(
    *,
    count: int = 10,
    how: str = "real",
    ridge: float = 1e-3,
    distilled_ridge: float | None = None,
    features: Mapping[str, Any] | None = None,
    block: int = 4096,
) -> Method:
    """Builds Nyström regression as a `Method`; a step changes nothing.

    Metric: `loss`, half the mean squared error of the predictor on the real data.

    Args:
      count: landmarks m.
      how: one of `ddjax.methods.row_selection.HOW`.
      ridge: lambda per real sample, > 0.
      distilled_ridge: lambda_S per landmark, what the set is to be trained with; None
        takes `ridge`.
      features: see `ddjax.models.feature_maps.from_settings`; `inputs` by default.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without regression targets or with fewer than `count` rows.
    """
    strength = ridge if distilled_ridge is None else distilled_ridge
    settings = check_settings(
        count=count, how=how, ridges=(ridge, strength), features=features
    )
    if ridge == 0:
        raise ValueError("ridge must be > 0, got 0")

    def drawn_map(choice: Reference) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(
            jax.random.wrap_key_data(choice.key_data), settings
        )

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> Landmarks:
        drawn = feature_maps.from_settings(key, settings)
        found = least_squares.moments(problem, drawn, block=block, remember=remember)
        scores = None
        if how == "leverage":
            scores = jnp.asarray(
                leverage_scores(problem, drawn, found, ridge=ridge, block=block)
            )
        words = jnp.asarray(drawn.key_data or (0, 0), jnp.uint32)
        return Landmarks(
            Reference(scores, words), _halves(found.gram), _halves(found.cross)
        )

    def init(key: PRNGKeyArray, problem: Problem, data: Landmarks) -> Solved:
        chosen = choose(key, problem, data.choice.scores, count=count, how=how)
        params, apply = feature_maps.build(
            drawn_map(data.choice), problem.train.inputs.shape[1:]
        )
        gram, cross = _whole(data.gram), _whole(data.cross)
        # With (G + lambda I) W = C, the nearest to W in the metric G + lambda I is the
        # minimum above.
        metric = gram + ridge * np.eye(len(gram))
        found = closed_form.targets_for_inputs(
            np.linalg.solve(metric, cross),
            np.asarray(apply(params, chosen.inputs)),
            ridge=strength,
            convention="per_sample",
            approximate=True,
            metric=metric,
        )
        weights = np.asarray(found.weights)
        squares = np.square(np.asarray(problem.train.targets, np.float64)).sum()
        loss = 0.5 * (
            np.sum(weights * (gram @ weights - 2.0 * cross))
            + squares / len(problem.train.inputs)
        )
        rows = Rows(chosen.inputs, jnp.asarray(found.targets, jnp.float32))
        return Solved(rows, jnp.float32(loss))

    def step(state: Solved, batch: Landmarks, key: PRNGKeyArray):
        del batch, key
        return state, {"loss": state.loss}

    def distilled(state: Solved, problem: Problem, data: Landmarks) -> DistilledSet:
        made = regression_set(
            problem, state.rows, ridge=strength, features=drawn_map(data.choice)
        )
        return made._replace(provenance={**made.provenance, "real_ridge": ridge})

    return Method(prepare, init, lambda key, data: data, step, distilled)


def _halves(array: Float[np.ndarray, "*shape"]) -> Float[Array, "2 *shape"]:
    """Float64 as two float32 arrays, whose sum it is to some 48 bits."""
    high = array.astype(np.float32)
    return jnp.asarray(np.stack([high, (array - high).astype(np.float32)]))


def _whole(halves: Float[Array, "2 *shape"]) -> Float[np.ndarray, "*shape"]:
    return np.asarray(halves, np.float64).sum(axis=0)
