r"""The exact optimum: a set from which ridge regression gives the full data's weights.

With W the ridge solution on all the real data, a set (X, Y) of m samples with

.. math::
    X^\top (X X^\top + m \lambda_S I)^{-1} Y = W

exists as soon as m is the rank of W, hence with one sample per output, whatever the
number n of real samples; `ddjax.kernels.analytic` has the construction and the
conditions. Nothing is learned: a step changes nothing.

Source: Chen, Huang and Weng, "Provable and efficient dataset distillation for kernel
ridge regression" (NeurIPS 2024); corrections in `ddjax.kernels.analytic`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.kernels import analytic as closed_form
from ddjax.methods import least_squares
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import select_rows
from ddjax.synthetic.parameterization import pixels

__all__ = ["GIVEN", "Reference", "Solved", "analytic"]

GIVEN = ("nothing", "inputs", "targets")


class Reference(NamedTuple):
    """The solution on the real data.

    Attributes:
      weights: W, float32 (in `init`, what was lost to float32 comes back from `low`).
      low: W minus its float32 part.
      error: the real data's squared error as a function of the weights.
      key_data: words of the key that random features were drawn from.
    """

    weights: Float[Array, "p c"]
    low: Float[Array, "p c"]
    error: least_squares.SquaredError
    key_data: UInt[Array, " words"]


class Solved(NamedTuple):
    """The set and how well it does.

    Attributes:
      inputs: X, (m, *shape).
      targets: Y.
      relative_error: of the weights that the set gives, in the metric of the data.
      loss: half the mean squared error of these weights on the real data.
    """

    inputs: Float[Array, "m *shape"]
    targets: Float[Array, "m c"]
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
    initialization: str = "real",
    block: int = 4096,
) -> Method:
    r"""Builds the exact optimum as a `Method`.

    Metrics: `loss`, half the mean squared error on the real data of the weights that
    the set gives, and `relative_error`, by how much these miss W in predictions.

    Args:
      count: samples m; None takes one per output.
      real_ridge: per real sample, of W; 0 is least squares.
      distilled_ridge: lambda_S per distilled sample: the strength that the set is to be
        trained on with.
      given: what of the set is given: `nothing`; `inputs` (real ones, by
        `initialization`: the targets are then solved for, exactly if the inputs span
        W); `targets` (likewise: the inputs are solved for, if the ridge is weak enough
        for them).
      approximate: take the nearest predictor where no exact set exists, instead of
        `ddjax.kernels.analytic.NoExactSet` when the run starts. Not for given targets.
      scale: norm of the inputs' principal components, see
        `ddjax.kernels.analytic.distilled_set`; with `given="nothing"` only.
      features: see `ddjax.models.feature_maps.from_settings`. Other than `inputs` (the
        default) only with `given="inputs"`, since inputs with wanted features need not
        exist.
      initialization: see `ddjax.synthetic.initialization.select_rows`.
      block: real rows at once in the pass for the moments.

    Raises:
      ValueError: an unknown name, a number out of range or options that do not go
        together; when a run starts, `NoExactSet` with the condition that fails.
    """
    if given not in GIVEN:
        raise ValueError(f"given is {given!r}, not one of {GIVEN}")
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    for name, value in (
        ("real_ridge", real_ridge),
        ("distilled_ridge", distilled_ridge),
    ):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and >= 0, got {value}")
    settings: dict[str, Any] = {"kind": "inputs"} if features is None else {**features}
    seen = feature_maps.from_settings(jax.random.key(0), settings)
    apply = feature_maps.application(seen)
    for option, wrong in (
        ("features", seen.kind != "inputs" and given != "inputs"),
        ("scale", scale is not None and given != "nothing"),
        ("approximate", approximate and given == "targets"),
    ):
        if wrong:
            raise ValueError(f"{option} does not go with given={given!r}")

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> Reference:
        drawn = feature_maps.from_settings(key, settings)
        found = least_squares.moments(problem, drawn, block=block, remember=remember)
        weights = least_squares.ridge_weights(found, ridge=real_ridge)
        high = weights.astype(np.float32)
        return Reference(
            weights=jnp.asarray(high),
            low=jnp.asarray((weights - high).astype(np.float32)),
            error=least_squares.squared_error(found),
            key_data=jnp.asarray(drawn.key_data or (0, 0), jnp.uint32),
        )

    def drawn_map(data: Reference) -> feature_maps.FeatureMap:
        return feature_maps.from_settings(
            jax.random.wrap_key_data(data.key_data), settings
        )

    def init(key: PRNGKeyArray, problem: Problem, data: Reference) -> Solved:
        high, low = (np.asarray(w, np.float64) for w in (data.weights, data.low))
        weights = high + low
        root = np.asarray(data.error.root, np.float64)
        metric = root.T @ root
        common: dict[str, Any] = {"ridge": distilled_ridge, "convention": "per_sample"}
        shape = problem.train.inputs.shape[1:]
        inputs: Array | ndarray
        if given == "nothing":
            found = closed_form.distilled_set(
                weights,
                count=count,
                scale=scale,
                approximate=approximate,
                metric=metric,
                **common,
            )
            inputs, targets = found.inputs, found.targets
        else:
            inputs, targets = select_rows(
                key, problem, count=count or weights.shape[1], how=initialization
            )
            if given == "inputs":
                params, _ = feature_maps.build(drawn_map(data), shape)
                found = closed_form.targets_for_inputs(
                    weights,
                    np.asarray(apply(params, inputs)),
                    approximate=approximate,
                    metric=metric,
                    **common,
                )
                targets = found.targets
            else:
                found = closed_form.inputs_for_targets(
                    weights, np.asarray(targets), **common
                )
                inputs = found.inputs
        return Solved(
            inputs=jnp.asarray(inputs, jnp.float32).reshape(-1, *shape),
            targets=jnp.asarray(targets, jnp.float32),
            relative_error=jnp.float32(found.error),
            loss=least_squares.squared_error_at(
                jnp.asarray(found.weights, jnp.float32), data.error
            ),
        )

    def step(state: Solved, batch: Reference, key: PRNGKeyArray):
        del batch, key
        return state, {"loss": state.loss, "relative_error": state.relative_error}

    def distilled(state: Solved, problem: Problem, data: Reference) -> DistilledSet:
        return DistilledSet(
            stored={"inputs": state.inputs},
            parameterization=pixels(),
            targets=state.targets,
            targets_kind="regression",
            labels=None,
            preprocessing=problem.preprocessing,
            class_names=None,
            provenance={
                "features": feature_maps.to_recipe(drawn_map(data)),
                "inner": {"name": "ridge", "ridge": distilled_ridge},
                "ridge": distilled_ridge,
                "real_ridge": real_ridge,
            },
            targets_preprocessing=problem.targets_preprocessing,
            columns=problem.columns,
        )

    return Method(prepare, init, lambda key, data: data, step, distilled)
