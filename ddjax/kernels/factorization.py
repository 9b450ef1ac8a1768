"""The Cholesky factor of a symmetric positive definite matrix, and what it gives.

A factorisation that fails, or whose smallest pivot is nothing but rounding, is tried
again with a jitter added to the diagonal, which grows by decades and is returned.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.kernels.precision import product

__all__ = [
    "Factored",
    "cholesky",
    "factored",
    "inverse_diagonal",
    "log_determinant",
    "trace_of_inverse",
]


def _mean_diagonal(matrix: Array) -> Array:
    mean = jnp.trace(matrix) / matrix.shape[0]
    return jnp.where(mean > 0, mean, jnp.ones_like(mean))


def _add_diagonal(matrix: Array, value: Array) -> Array:
    return matrix + value * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


@jax.custom_jvp
def cholesky(matrix: Float[Array, "m m"]) -> tuple[Float[Array, "m m"], Array]:
    """Factor of a symmetric positive definite matrix, with as little jitter as works.

    The first try adds nothing. A try is accepted when the factor is finite and no pivot
    is below eps times its diagonal entry (a smaller one is nothing but rounding).
    Otherwise jitter times the mean diagonal is added, the jitter being 10 eps and then
    ten times more at each try, to at most about 10. The derivatives of the factor take
    no further factorisation; the jitter counts as a constant.

    >>> import jax.numpy as jnp
    >>> factor, jitter = cholesky(jnp.ones((2, 2)))  # singular
    >>> float(jitter) > 0, bool(jnp.isfinite(factor).all())
    (True, True)

    Args:
      matrix: symmetric and positive semi-definite up to rounding.

    Returns:
      The lower triangular factor and the jitter used, relative to the mean diagonal:
      0 where none was needed, infinite where none helped (the factor is then NaN).
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    tries = 2 + int(-np.log10(eps))
    jitters = jnp.array([0.0] + [eps * 10.0**k for k in range(1, tries)], matrix.dtype)
    scale = _mean_diagonal(matrix)

    def attempt(added: Array | None = None) -> tuple[Array, Array]:
        raised = matrix if added is None else _add_diagonal(matrix, added)
        factor = jax.lax.linalg.cholesky(raised, symmetrize_input=False)
        # What is not finite ends in a pivot, and a comparison with NaN is no success.
        pivots = jnp.square(jnp.diagonal(factor))
        least = eps * jnp.diagonal(raised)
        good = jnp.logical_and(pivots >= least, jnp.isfinite(pivots))
        return factor, good.all()

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        attempts, _, good = state
        return jnp.logical_and(jnp.logical_not(good), attempts < tries)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        attempts, _, _ = state
        return attempts + 1, *attempt(jitters[attempts] * scale)

    # The first try stands outside of the loop, whose state would be copied; a vmap
    # that makes a selection of the condition still ends the loop at once.
    first = (jnp.array(1), *attempt())
    attempts, factor, good = jax.lax.cond(
        first[2], lambda: first, lambda: jax.lax.while_loop(unfinished, again, first)
    )
    jitter = jnp.where(good, jitters[attempts - 1], jnp.array(jnp.inf, matrix.dtype))
    return factor, jitter


def _half_lower(matrix: Array) -> Array:
    """The lower triangle with half the diagonal."""
    lower = jnp.tril(matrix)
    return lower - 0.5 * jnp.diag(jnp.diagonal(matrix))


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    factor, jitter = cholesky(matrix)
    added = jnp.where(jnp.isfinite(jitter), jitter, jnp.zeros_like(jitter))
    tangent = 0.5 * (tangent + tangent.T)
    tangent = _add_diagonal(tangent, added * jnp.trace(tangent) / tangent.shape[0])
    # dL = L Phi(L⁻¹ dA L⁻ᵀ), Phi keeping the lower triangle and half the diagonal.
    inner = jax.lax.linalg.triangular_solve(factor, tangent, left_side=True, lower=True)
    inner = jax.lax.linalg.triangular_solve(
        factor, inner, left_side=False, lower=True, transpose_a=True
    )
    return (factor, jitter), (
        product(factor, _half_lower(inner)),
        jnp.zeros_like(jitter),
    )


def _cholesky_solve(factor: Array, right: Array) -> Array:
    half = jax.lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(
        factor, half, left_side=True, lower=True, transpose_a=True
    )


class Factored(NamedTuple):
    """A factored matrix A = gram + ridge I.

    Attributes:
      factor: lower triangular with A = factor factorᵀ.
      jitter: what had to be added, relative to the mean diagonal.
      ridge: the strength, jitter included.
      solver: right-hand sides (m, c) to A⁻¹ times them.
    """

    factor: Array
    jitter: Array
    ridge: Array
    solver: Callable[[Array], Array]


def factored(
    gram: Float[Array, "m m"],
    ridge: Float[Array, ""],
    *,
    apply: Callable[[Array], Array] | None = None,
    trace: Float[Array, ""] | None = None,
) -> Factored:
    """Factors gram + ridge I, and solves with it.

    The derivatives of the solver go through the equation A x = b
    (`custom_linear_solve`), not through the factor: they are two more triangular solves
    of the same width, and whatever the derivative of `apply` costs. For a Gram F Fᵀ,
    that of `x -> F (Fᵀ x)` is made of products of the width of x; through the Gram
    itself it would take two of width m.

    Args:
      gram: symmetric positive semi-definite up to rounding; the lower triangle counts.
      ridge: strength >= 0.
      apply: right-hand sides (m, c) to gram times them, in terms of what the gram was
        made of; None multiplies by the gram.
      trace: trace of the gram where it is known more exactly; None sums its diagonal.
    """
    size = gram.shape[0]
    trace = jnp.trace(gram) if trace is None else trace
    factor, jitter = cholesky(_add_diagonal(gram, ridge))
    fixed = jax.lax.stop_gradient(factor)
    added = jnp.where(jnp.isfinite(jitter), jitter, jnp.zeros_like(jitter))
    mean = trace / size + ridge
    ridge = ridge + added * jnp.where(mean > 0, mean, jnp.ones_like(mean))
    multiply = functools.partial(product, gram) if apply is None else apply

    def solver(right: Array) -> Array:
        return jax.lax.custom_linear_solve(
            lambda x: multiply(x) + ridge * x,
            right,
            lambda _, b: _cholesky_solve(fixed, b),
            symmetric=True,
        )

    return Factored(factor, jitter, ridge, solver)


@jax.jit
def log_determinant(factor: Float[Array, "m m"]) -> Float[Array, ""]:
    """The log-determinant of A, 2 sum_i log L_ii.

    Args:
      factor: lower triangular L with A = L Lᵀ, such as `KernelRidgeSolution.factor`.
    """
    return 2.0 * jnp.log(jnp.diagonal(factor)).sum()


@jax.jit
def inverse_diagonal(factor: Float[Array, "m m"]) -> Float[Array, " m"]:
    """The diagonal of A⁻¹, the squared norms of the columns of L⁻¹.

    Args:
      factor: lower triangular L with A = L Lᵀ.
    """
    identity = jnp.eye(factor.shape[0], dtype=factor.dtype)
    inverse = jax.lax.linalg.triangular_solve(
        factor, identity, left_side=True, lower=True
    )
    return jnp.square(inverse).sum(axis=0)


def trace_of_inverse(factor: Float[Array, "m m"]) -> Float[Array, ""]:
    """The trace of A⁻¹, ‖L⁻¹‖².

    Args:
      factor: lower triangular L with A = L Lᵀ, such as `KernelRidgeSolution.factor`.
    """
    return inverse_diagonal(factor).sum()
