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

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.methods import least_squares
from ddjax.methods.base import Method, without_steps
from ddjax.methods.row_selection import (
    check_settings,
    choose,
    exact_decoder,
    leverage_scores,
    regression_set,
)
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.solvers import analytic as closed_form
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["FittedLandmarks", "LandmarkData", "nystrom"]


class LandmarkData(NamedTuple):
    """What the landmarks are chosen by, and the data that they are fitted to.

    Attributes:
      scores: ridge leverage scores of the training rows; None where they are not used.
      moments: of the real data; on the host.
      params: parameters of random features ({} for the inputs themselves).
    """

    scores: Float[np.ndarray, " n"] | None
    moments: least_squares.Moments
    params: Any


class FittedLandmarks(NamedTuple):
    """The set, and half the mean squared error of its predictor on the real data."""

    stored: Stored
    loss: Float[Array, ""]


def nystrom(
    *,
    count: int = 10,
    how: str = "uniform",
    ridge: float = 1e-3,
    distilled_ridge: float | None = None,
    features: Mapping[str, Any] | None = None,
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    block: int = 4096,
) -> Method:
    """Builds Nyström regression as a `Method`; a step changes nothing.

    Metric: `loss`, half the mean squared error of the predictor on the real data.

    Args:
      count: landmarks m.
      how: one of `ddjax.methods.row_selection.HOW`.
      ridge: lambda per real sample (`per_sample` in `ddjax.kernels.ridge`), > 0.
      distilled_ridge: lambda_S per landmark, what the set is to be trained with; None
        takes `ridge`.
      features: see `ddjax.models.feature_maps.from_settings`; `inputs` by default.
      decoder: see `ddjax.synthetic.decoders.from_setting`; one that stores any pairs
        exactly.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name or a number out of range; when a run starts, a problem
        without regression targets or with fewer than `count` rows.
    """
    given = dict(locals())
    strength = ridge if distilled_ridge is None else distilled_ridge
    keywords = check_settings(
        count=count, how=how, ridges=(ridge, strength), features=features
    )
    checks.check_positive(ridge=ridge)
    made = exact_decoder(decoder, "nystrom")

    def feature_map(key: PRNGKeyArray) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(key, keywords)

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> LandmarkData:
        drawn = feature_map(key)
        found = least_squares.moments(problem, drawn, block=block, cache=cache)
        scores = None
        if how == "leverage":
            scores = leverage_scores(problem, drawn, found, ridge=ridge, block=block)
        params, _ = feature_maps.build(drawn, problem.train.inputs.shape[1:])
        return LandmarkData(scores, found, params)

    def init(
        key: PRNGKeyArray, problem: Problem, data: LandmarkData
    ) -> FittedLandmarks:
        chosen = choose(key, problem, data.scores, count=count, how=how)
        gram, cross = data.moments.gram, data.moments.cross
        # With (G + lambda I) W = C, the nearest to W in the metric G + lambda I is the
        # minimum above.
        metric = gram + ridge * np.eye(len(gram))
        apply = feature_maps.application(feature_map(jax.random.key(0)))
        found = closed_form.targets_for_inputs(
            np.linalg.solve(metric, cross),
            np.asarray(apply(data.params, jnp.asarray(chosen.inputs))),
            ridge=strength,
            convention="per_sample",
            approximate=True,
            metric=metric,
        )
        weights = np.asarray(found.weights)
        quadratic = np.sum(weights * (gram @ weights - 2.0 * cross))
        loss = 0.5 * (quadratic + data.moments.targets)
        pairs = Pairs(chosen.inputs, jnp.asarray(found.targets))
        stored = made.init(pairs, made.fit(problem.train))
        return FittedLandmarks(stored, jnp.asarray(loss))

    def distilled(
        key: PRNGKeyArray,
        state: FittedLandmarks,
        problem: Problem,
        data: LandmarkData,
    ) -> DistilledSet:
        del data
        return regression_set(
            problem,
            made,
            state.stored,
            ridge=strength,
            features=feature_map(key),
            real_ridge=ridge,
        )

    resolved = {
        "features": feature_settings(feature_map(jax.random.key(0))),
        "decoder": made,
    }
    return without_steps(
        "nystrom",
        given | resolved,
        prepare=prepare,
        init=init,
        distilled=distilled,
        metrics=lambda state: {"loss": state.loss},
    )
