r"""The exact optimum: a set from which ridge regression gives the full data's weights.

With W the ridge solution on all the real data, a set (X, Y) of m samples with

.. math::
    X^\top (X X^\top + m \lambda_S I)^{-1} Y = W

exists as soon as m is the rank of W, hence with one sample per output, whatever the
number n of real samples; `ddjax.solvers.analytic` has the construction and the
conditions. Nothing is learned: a step changes nothing.

Source: Chen, Huang and Weng, "Provable and efficient dataset distillation for kernel
ridge regression" (NeurIPS 2024); corrections in `ddjax.solvers.analytic`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.methods import least_squares
from ddjax.methods.base import Method, without_steps
from ddjax.methods.row_selection import exact_decoder, regression_set
from ddjax.methods.settings import feature_settings
from ddjax.models import feature_maps
from ddjax.solvers import analytic as closed_form
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders.base import Decoder, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import select_rows

__all__ = ["GIVEN", "ExactData", "ExactSet", "analytic"]

GIVEN = ("nothing", "inputs", "targets")


class ExactData(NamedTuple):
    """The solution on the real data.

    Attributes:
      weights: W, float64 on the host.
      error: the real data's squared error as a function of the weights.
      params: parameters of random features ({} for the inputs themselves).
    """

    weights: Float[ndarray, "p c"]
    error: least_squares.SquaredError
    params: Any


class ExactSet(NamedTuple):
    """The set and how well it does.

    Attributes:
      stored: the decoder's numbers.
      relative_error: of the weights that the set gives, in the metric of the data.
      loss: half the mean squared error of these weights on the real data.
    """

    stored: Stored
    relative_error: Float[Array, ""]
    loss: Float[Array, ""]


def analytic(
    *,
    count: int | None = None,
    real_ridge: float = 1e-3,
    distilled_ridge: float = 1e-3,
    given: str = "nothing",
    approximate: bool = False,
    scale: float | None = None,
    features: Mapping[str, Any] | None = None,
    initialization: str = "uniform",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
    block: int = 4096,
) -> Method:
    r"""Builds the exact optimum as a `Method`.

    Metrics: `loss`, half the mean squared error on the real data of the weights that
    the set gives, and `relative_error`, by how much these miss W in predictions.

    Args:
      count: samples m; None takes one per output.
      real_ridge: per real sample (`per_sample` in `ddjax.kernels.ridge`), of W; 0 is
        least squares.
      distilled_ridge: lambda_S per distilled sample: the strength that the set is to be
        trained on with.
      given: what of the set is given: `nothing`; `inputs` (real ones, by
        `initialization`: the targets are then solved for, exactly if the inputs span
        W); `targets` (of real rows: the inputs are solved for, if the ridge is weak
        enough for them).
      approximate: take the nearest predictor where no exact set exists, instead of
        `ddjax.solvers.analytic.NoExactSet` when the run starts. Not for given targets.
      scale: norm of the inputs' principal components, see
        `ddjax.solvers.analytic.distilled_set`; with `given="nothing"` only.
      features: see `ddjax.models.feature_maps.from_settings`. Other than `inputs` (the
        default) only with `given="inputs"`, since inputs with wanted features need not
        exist.
      initialization: see `ddjax.synthetic.initialization.select_rows`.
      decoder: see `ddjax.synthetic.decoders.from_setting`; one that stores any pairs
        exactly.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name, a number out of range or options that do not go
        together; when a run starts, `NoExactSet` with the condition that fails.
    """
    keywords = dict(locals())
    checks.check_names(given=(given, GIVEN))
    checks.check_counts(count=count)
    checks.check_not_negative(real_ridge=real_ridge, distilled_ridge=distilled_ridge)
    feature_keywords = dict(features or {"kind": "inputs"})

    def feature_map(key: PRNGKeyArray) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(key, feature_keywords)

    example = feature_map(jax.random.key(0))
    apply = feature_maps.application(example)
    for option, wrong in (
        ("features", example.kind != "inputs" and given != "inputs"),
        ("scale", scale is not None and given != "nothing"),
        ("approximate", approximate and given == "targets"),
    ):
        if wrong:
            raise ValueError(f"{option} does not go with given={given!r}")
    made = exact_decoder(decoder, "analytic")

    def prepare(
        key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache
    ) -> ExactData:
        drawn = feature_map(key)
        found = least_squares.moments(problem, drawn, block=block, cache=cache)
        params, _ = feature_maps.build(drawn, problem.train.inputs.shape[1:])
        return ExactData(
            weights=least_squares.ridge_weights(found, ridge=real_ridge),
            error=least_squares.squared_error(found),
            params=params,
        )

    def init(key: PRNGKeyArray, problem: Problem, data: ExactData) -> ExactSet:
        root = np.asarray(data.error.root, np.float64)
        metric = root.T @ root
        common: dict[str, Any] = {"ridge": distilled_ridge, "convention": "per_sample"}
        shape = problem.train.inputs.shape[1:]
        inputs: Array | ndarray
        if given == "nothing":
            found = closed_form.distilled_set(
                data.weights,
                count=count,
                scale=scale,
                approximate=approximate,
                metric=metric,
                **common,
            )
            inputs, targets = found.inputs, found.targets
        else:
            inputs, targets = select_rows(
                key,
                problem,
                count=count or data.weights.shape[1],
                how=initialization,
            )
            if given == "inputs":
                found = closed_form.targets_for_inputs(
                    data.weights,
                    np.asarray(apply(data.params, inputs)),
                    approximate=approximate,
                    metric=metric,
                    **common,
                )
                targets = found.targets
            else:
                found = closed_form.inputs_for_targets(
                    data.weights, np.asarray(targets), **common
                )
                inputs = found.inputs
        pairs = Pairs(jnp.asarray(inputs).reshape(-1, *shape), jnp.asarray(targets))
        return ExactSet(
            stored=made.init(pairs, made.fit(problem.train)),
            relative_error=jnp.asarray(found.error),
            loss=least_squares.squared_error_at(jnp.asarray(found.weights), data.error),
        )

    def distilled(
        key: PRNGKeyArray, state: ExactSet, problem: Problem, data: ExactData
    ) -> DistilledSet:
        del data
        return regression_set(
            problem,
            made,
            state.stored,
            ridge=distilled_ridge,
            features=feature_map(key),
            inner={"name": "ridge", "ridge": distilled_ridge},
            real_ridge=real_ridge,
        )

    resolved = {"features": feature_settings(example), "decoder": made}
    return without_steps(
        "analytic",
        keywords | resolved,
        prepare=prepare,
        init=init,
        distilled=distilled,
        metrics=lambda state: {
            "loss": state.loss,
            "relative_error": state.relative_error,
        },
    )
