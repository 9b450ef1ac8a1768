"""Theorem 2.9 beside a run: L and mu measured near the end point, rate predicted.

The loss is the sum over 30 fixed draws of initial weights on all real rows, so that it
is one function. From the end point of a run: the ends of its Hessian's spectrum, there
and nearby; a stretch of gradient descent at the paper's alpha; the local optimum by
L-BFGS from where that ends; the Polyak-Lojasiewicz constant along the stretch; and the
rate that follows from both beside the one that was seen. In float64.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ddjax.kernels import unrolled
from ddjax.methods import least_squares
from ddjax.solvers import convergence, curvature
from ddjax.synthetic.distilled import DistilledSet, decoded

__all__ = ["error_after", "near", "objective"]


def error_after(
    steps: Any,
    inputs: Array,
    targets: Array,
    start: Array,
    step_size: Any,
    ridge: Any,
    error: least_squares.SquaredError,
) -> Array:
    """The error of the weights that some inner steps lead to."""
    weights = unrolled.iterate(
        inputs, targets, start, step_size=step_size, ridge=ridge, steps=steps
    )
    return least_squares.squared_error_at(weights, error)


def objective(
    error: least_squares.SquaredError,
    starts: Array,
    *,
    inner_steps: int,
    step_size: float,
    inner_ridge: float,
    outer_ridge: float,
) -> Callable[[tuple[Array, Array]], Array]:
    """The outer loss of inputs and targets, summed over fixed draws."""

    def loss(point: tuple[Array, Array]) -> Array:
        inputs, targets = point

        def one(start: Array) -> Array:
            return error_after(
                inner_steps, inputs, targets, start, step_size, inner_ridge, error
            )

        squares = jnp.sum(jnp.square(inputs)) + jnp.sum(jnp.square(targets))
        draws = starts.shape[0]
        return jax.vmap(one)(starts).sum() + 0.5 * draws * outer_ridge * squares

    return loss


def near(
    distilled: DistilledSet,
    error: least_squares.SquaredError,
    *,
    outer_ridge: float,
    alpha: float,
    draws: int,
    stretch: int = 500,
    refinements: int = 500,
) -> dict[str, Any]:
    """Curvature, constants and rates around one end point.

    Args:
      distilled: where the run ended; its recipe says T, eta and lambda_I.
      error: of all real rows.
      outer_ridge: lambda_O.
      alpha: step size of the outer loop.
      draws: Q.
      stretch: outer steps of gradient descent from there.
      refinements: most iterations of L-BFGS for the local optimum.
    """
    from scipy.optimize import minimize

    inner = distilled.recipe["inner"]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), error)
        point = tuple(
            jnp.asarray(np.asarray(each), jnp.float64) for each in decoded(distilled)
        )
        shape = (draws, point[0].shape[1], point[1].shape[1])
        starts = jax.random.normal(jax.random.key(0), shape, jnp.float64)
        loss = objective(
            wide,
            starts,
            inner_steps=inner["steps"],
            step_size=inner["step_size"],
            inner_ridge=inner["ridge"],
            outer_ridge=outer_ridge,
        )
        flat, unravel = ravel_pytree(point)
        both = jax.jit(jax.value_and_grad(lambda z: loss(unravel(z))))

        def descend(z: Array, _: None):
            value, gradient = both(z)
            return z - alpha * gradient, (value, jnp.linalg.norm(gradient))

        end, (values, norms) = jax.jit(
            lambda z: jax.lax.scan(descend, z, None, length=stretch)
        )(flat)
        found = minimize(
            lambda z: tuple(np.asarray(each, np.float64) for each in both(z)),
            np.asarray(end),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": refinements, "maxcor": 30, "ftol": 0, "gtol": 1e-12},
        )
        optimum = min(float(found.fun), float(np.min(values)) * (1 - 1e-9))
        distance = float(np.linalg.norm(np.asarray(flat) - found.x))
        around = curvature.curvature_near(loss, point, radius=distance, points=2)
        at_optimum = curvature.hessian_extremes(loss, unravel(jnp.asarray(found.x)))
        values, norms = np.asarray(values), np.asarray(norms)
        constants = convergence.polyak_lojasiewicz(values, norms, optimum=optimum)
        fit = convergence.log_linear_fit(values, optimum=optimum)
        lipschitz, constant = around.lipschitz, float(constants.min())
        rates = convergence.compare_rates(
            fit, step_size=alpha, constant=constant, lipschitz=lipschitz
        )
    return {
        "inner_steps": inner["steps"],
        "lipschitz": lipschitz,
        "alpha_times_lipschitz": alpha * lipschitz,
        "smallest_at_end": around.extremes[0].smallest,
        "smallest_nearby": around.smallest,
        "largest_at_optimum": at_optimum.largest,
        "smallest_at_optimum": at_optimum.smallest,
        "distance_to_optimum": distance,
        "loss_at_end": float(values[0]),
        "optimum": optimum,
        "gradient_at_optimum": float(np.linalg.norm(found.jac)),
        "constant": constant,
        "fit_r_squared": fit.r_squared,
        "rates": rates,
        "theorem_slope": float(np.log1p(-min(constant / lipschitz, 1 - 1e-12))),
    }
