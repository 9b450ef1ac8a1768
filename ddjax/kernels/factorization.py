"""The Cholesky factor of a symmetric positive definite matrix, and what it gives.

A factorisation that fails, or whose smallest pivot is nothing but rounding, is tried
again with a jitter added to the diagonal, which grows by decades and is returned.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

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


_Used = TypeVar("_Used")


def _one_unless_positive(value: Array) -> Array:
    return jnp.where(value > 0, value, jnp.ones_like(value))


def _add_diagonal(matrix: Array, value: Array) -> Array:
    return matrix + value * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


def _jitters(dtype: Any) -> np.ndarray:
    """What each try adds, relative to the mean diagonal; nothing at the first."""
    eps = float(jnp.finfo(dtype).eps)
    decades = range(1, 2 + int(-np.log10(eps)))
    return np.array([0.0] + [eps * 10.0**k for k in decades], dtype)


def _attempt(gram: Array, ridge: Array) -> tuple[Array, Array]:
    """The Cholesky factor of gram + ridge I, and whether the factorisation succeeded.

    It has where every pivot is finite and at least eps times its diagonal entry.
    """
    matrix = _add_diagonal(gram, ridge)
    # The transpose is the same matrix, laid out as LAPACK reads it: nothing is copied.
    factor = jax.lax.linalg.cholesky(matrix.T, symmetrize_input=False)
    # What is not finite ends in a pivot, and a comparison with NaN is no success.
    pivots = jnp.square(jnp.diagonal(factor))
    least = float(jnp.finfo(matrix.dtype).eps) * jnp.diagonal(matrix)
    good = jnp.logical_and(pivots >= least, jnp.isfinite(pivots))
    return factor, good.all()


class _FirstTry(NamedTuple):
    """The matrix gram + ridge I, and its factor without jitter.

    Attributes:
      gram: symmetric; the upper triangle counts.
      ridge: strength.
      factor: Cholesky factor of gram + ridge I.
      good: whether the factorisation succeeded.
    """

    gram: Array
    ridge: Array
    factor: Array
    good: Array

    def use(self, function: Callable[[Array], _Used]) -> tuple[_Used, Array]:
        """What a function makes of the first good factor, and that factor's jitter.

        The factor itself goes through no control flow, which would copy it: where the
        first try is good, as almost always, the guard costs nothing. Where it is not,
        each use tries again. A vmap that makes a selection of the condition still ends
        the loop at once.
        """
        jitters = jnp.asarray(_jitters(self.gram.dtype))

        def unfinished(state: tuple[Array, _Used, Array]) -> Array:
            tries, _, good = state
            return jnp.logical_and(jnp.logical_not(good), tries < len(jitters))

        def again(state: tuple[Array, _Used, Array]) -> tuple[Array, _Used, Array]:
            tries, _, _ = state
            mean = jnp.trace(self.gram) / self.gram.shape[0] + self.ridge
            added = jitters[tries] * _one_unless_positive(mean)
            factor, good = _attempt(self.gram, self.ridge + added)
            return tries + 1, function(factor), good

        first = (jnp.array(1), function(self.factor), self.good)
        tries, found, good = jax.lax.cond(
            self.good,
            lambda: first,
            lambda: jax.lax.while_loop(unfinished, again, first),
        )
        none = jnp.array(jnp.inf, self.gram.dtype)
        return found, jnp.where(good, jitters[tries - 1], none)


def _first_try(gram: Array, ridge: Array) -> _FirstTry:
    fixed = jax.lax.stop_gradient((gram, ridge))
    return _FirstTry(gram, ridge, *_attempt(*fixed))


def _identity(factor: Array) -> Array:
    return factor


@jax.custom_jvp
def _cholesky_with_jitter(first: _FirstTry) -> tuple[Array, Array]:
    return first.use(_identity)


def cholesky(matrix: Float[Array, "m m"]) -> tuple[Float[Array, "m m"], Array]:
    """Factor of a symmetric positive definite matrix, with as little jitter as works.

    The first try adds nothing. A try is accepted when the factor is finite and no pivot
    is below eps times its diagonal entry (a smaller one is nothing but rounding).
    Otherwise jitter times the mean diagonal is added, the jitter being 10 eps and then
    ten times more at each try, up to 1 or 2. The derivatives of the factor take
    no further factorisation; what was added counts as a constant.

    >>> import jax.numpy as jnp
    >>> factor, jitter = cholesky(jnp.ones((2, 2)))  # singular
    >>> float(jitter) > 0, bool(jnp.isfinite(factor).all())
    (True, True)

    Args:
      matrix: symmetric and positive semi-definite up to rounding; the upper triangle
        counts.

    Returns:
      The lower triangular factor and the jitter used, relative to the mean diagonal:
      0 where none was needed, infinite where none helped (the factor is then NaN).
    """
    return _cholesky_with_jitter(_first_try(matrix, jnp.zeros((), matrix.dtype)))


def _half_lower(matrix: Array) -> Array:
    """The lower triangle with half the diagonal."""
    lower = jnp.tril(matrix)
    return lower - 0.5 * jnp.diag(jnp.diagonal(matrix))


@_cholesky_with_jitter.defjvp
def _cholesky_with_jitter_jvp(primals, tangents):
    (first,), (tangents,) = primals, tangents
    factor, jitter = _cholesky_with_jitter(first)
    tangent = _add_diagonal(tangents.gram, tangents.ridge)
    tangent = 0.5 * (tangent + tangent.T)
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
      gram: symmetric positive semi-definite up to rounding; the upper triangle is
        factored.
      ridge: strength >= 0.
      apply: right-hand sides (m, c) to gram times them, in terms of what the gram was
        made of; None multiplies by the gram.
      trace: trace of the gram where it is known more exactly; None sums its diagonal.
    """
    first = _first_try(gram, ridge)
    factor, jitter = _cholesky_with_jitter(first)
    fixed = jax.lax.stop_gradient(first)
    added = jnp.where(jnp.isfinite(jitter), jitter, jnp.zeros_like(jitter))
    trace = jnp.trace(gram) if trace is None else trace
    mean = jax.lax.stop_gradient(trace / gram.shape[0] + ridge)
    ridge = ridge + added * _one_unless_positive(mean)
    multiply = functools.partial(product, gram) if apply is None else apply

    def solver(right: Array) -> Array:
        return jax.lax.custom_linear_solve(
            lambda x: multiply(x) + ridge * x,
            right,
            lambda _, b: fixed.use(lambda factor: _cholesky_solve(factor, b))[0],
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
