"""Distilled regression's inner loop: weights from samples, judged on real data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.data.feed import Batches
from ddjax.data.problem import Split
from ddjax.kernels import precision, unrolled
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import least_squares
from ddjax.methods.learned_set import Samples, regression_targets
from ddjax.models.feature_maps import Features
from ddjax.synthetic.decoders.base import Fitted

__all__ = ["InnerLoop", "RegressionData", "errors_of_draws", "step_size_in_range"]

# A learned step size stays between these shares of the limit.
_LEAST_SHARE, _MOST_SHARE = 1e-3, 0.99


class RegressionData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real inputs and targets; None with moments.
      error: the squared error through moments; None with batches.
      params: parameters of random features ({} for the inputs themselves).
      fitted: what the decoder took from the real data.
    """

    real: Split | Batches | None
    error: least_squares.SquaredError | None
    params: Any
    fitted: Fitted


class InnerLoop(NamedTuple):
    """How weights come from samples.

    Attributes:
      apply: `(params, inputs) -> features`.
      ridge: lambda_I per sample.
      form: of the iterate, see `ddjax.kernels.unrolled.iterate`.
      learn_step_size: whether the step size is learned, and so kept from vanishing.
    """

    apply: Features
    ridge: float
    form: unrolled.Form
    learn_step_size: bool


def errors_of_draws(
    inner: InnerLoop,
    pairs: Samples,
    data: RegressionData,
    *,
    starts: Float[Array, "q p c"] | None,
    step_size: Float[Array, ""] | None,
    steps: Any,
) -> Float[Array, " q"]:
    """Half the mean squared error on the real data, for each draw of first weights.

    Args:
      inner: the inner loop.
      pairs: the samples.
      data: the real data; of `Batches`, the rows of the step.
      starts: the draws; None for the limit of many steps, ridge regression, which
        knows none and gives one error.
      step_size: eta.
      steps: T, a number or an integer array.
    """
    rows = inner.apply(data.params, pairs.inputs)
    real_rows = None
    if isinstance(data.real, Split):
        real_rows = inner.apply(data.params, jnp.asarray(data.real.inputs))

    def real_error(weights: Array) -> Array:
        if data.error is not None:
            return least_squares.squared_error_at(weights, data.error)
        assert isinstance(data.real, Split) and real_rows is not None
        away = precision.product(real_rows, weights) - regression_targets(data.real)
        return 0.5 * jnp.sum(jnp.square(away)) / away.shape[0]

    if starts is None:
        solution = ridge_regression.solve(
            rows, pairs.targets, ridge=inner.ridge, convention="per_sample"
        )
        return real_error(solution.weights)[None]

    def one(start: Array) -> Array:
        assert step_size is not None
        weights = unrolled.iterate(
            rows,
            pairs.targets,
            start,
            step_size=step_size,
            ridge=inner.ridge,
            steps=steps,
            form=inner.form,
        )
        return real_error(weights)

    return jax.vmap(one)(starts)


def step_size_in_range(
    inner: InnerLoop, step_size: Float[Array, ""], params: Any, inputs: Array
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A step size with which the loop contracts on these samples, and its limit.

    Args:
      inner: the inner loop.
      step_size: eta; lowered to 0.99 of the limit where it is beyond, and where it is
        learned raised to 0.001 of it where it is below.
      params: parameters of random features.
      inputs: the samples'; no gradient goes through the limit.
    """
    rows = inner.apply(params, jax.lax.stop_gradient(inputs))
    limit = unrolled.step_size_limit(rows, ridge=inner.ridge)
    eta = jnp.minimum(step_size, _MOST_SHARE * limit)
    if inner.learn_step_size:
        eta = jnp.maximum(eta, _LEAST_SHARE * limit)
    return eta, limit
