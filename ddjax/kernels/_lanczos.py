"""Extreme eigenvalues of a symmetric operator that is known only by its products."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.kernels.precision import product

__all__ = ["ExtremeEigenvalues", "Tridiagonal", "extreme_eigenvalues", "lanczos"]


class Tridiagonal(NamedTuple):
    """A Q = Q T + remainder q e_kᵀ with orthonormal columns of Q and T tridiagonal.

    Attributes:
      diagonal: of T.
      off_diagonal: of T, >= 0; zero where an invariant subspace was complete.
      basis: (k, n), the columns of Q as rows.
      remainder: norm of what A adds to the span of Q.
    """

    diagonal: Float[Array, " k"]
    off_diagonal: Float[Array, " k-1"]
    basis: Float[Array, "k n"]
    remainder: Float[Array, ""]


class ExtremeEigenvalues(NamedTuple):
    """Ritz values at both ends of the spectrum, and how far off they can be.

    An eigenvalue lies within the bound of each. Ritz values never leave the spectrum:
    `largest` is a lower bound on the largest eigenvalue, `smallest` an upper bound on
    the smallest.

    Attributes:
      smallest: the least Ritz value.
      largest: the greatest Ritz value.
      smallest_bound: residual norm of the pair that belongs to `smallest`.
      largest_bound: residual norm of the pair that belongs to `largest`.
    """

    smallest: Float[Array, ""]
    largest: Float[Array, ""]
    smallest_bound: Float[Array, ""]
    largest_bound: Float[Array, ""]


def _orthogonalise(vector: Array, basis: Array) -> Array:
    """Takes the span of the rows away, twice: once leaves rounding behind."""
    for _ in range(2):
        vector = vector - product(basis.T, product(basis, vector))
    return vector


def _unit(vector: Array) -> Array:
    norm = jnp.linalg.norm(vector)
    return vector / jnp.where(norm > 0, norm, jnp.ones_like(norm))


def lanczos(
    operator: Callable[[Array], Array],
    start: Float[Array, " n"],
    *,
    key: PRNGKeyArray,
    steps: int,
) -> Tridiagonal:
    """Lanczos' iteration with full reorthogonalisation, O(steps² n) of its own.

    When the span is invariant, the iteration goes on from a random vector orthogonal to
    it, so that repeated eigenvalues and unlucky starts lose nothing. Works under `jit`.

    Args:
      operator: v -> A v for a symmetric A.
      start: the first direction, not zero.
      key: for the vectors of a fresh start.
      steps: k, at most n; at n the decomposition is complete.

    Raises:
      ValueError: `steps` outside 1 to n.
    """
    size, dtype = start.shape[0], start.dtype
    if not 1 <= steps <= size:
        raise ValueError(f"steps is {steps}, but must be from 1 to {size}, the size")
    eps = float(jnp.finfo(dtype).eps)

    def body(carry: tuple[Array, ...], step: Array) -> tuple[tuple[Array, ...], tuple]:
        basis, vector, scale = carry
        basis = basis.at[step].set(vector)
        image = operator(vector)
        diagonal = product(vector, image)
        rest = _orthogonalise(image, basis)
        norm = jnp.linalg.norm(rest)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(diagonal), norm))
        complete = norm <= 10.0 * size * eps * scale
        fresh = jax.random.normal(jax.random.fold_in(key, step), (size,), dtype)
        rest = jnp.where(complete, _orthogonalise(fresh, basis), rest)
        following = _unit(_orthogonalise(_unit(rest), basis))
        norm = jnp.where(complete, jnp.zeros_like(norm), norm)
        return (basis, following, scale), (diagonal, norm)

    carry = (jnp.zeros((steps, size), dtype), _unit(start), jnp.zeros((), dtype))
    (basis, _, _), (diagonal, norms) = jax.lax.scan(body, carry, jnp.arange(steps))
    return Tridiagonal(diagonal, norms[:-1], basis, norms[-1])


def extreme_eigenvalues(
    operator: Callable[[Array], Array],
    size: int,
    *,
    key: PRNGKeyArray,
    steps: int = 30,
    dtype: jnp.dtype | type | None = None,
) -> ExtremeEigenvalues:
    """Both ends of the spectrum of a symmetric operator on vectors of length `size`.

    From a random start. The bound of a Ritz pair is |remainder| times the last entry of
    its vector in the basis.

    >>> import jax, jax.numpy as jnp
    >>> scale = jnp.arange(5.0)
    >>> ends = extreme_eigenvalues(lambda v: scale * v, 5, key=jax.random.key(0))
    >>> f"{abs(ends.smallest):.4f} {ends.largest:.4f}"
    '0.0000 4.0000'

    Args:
      operator: v -> A v for a symmetric A.
      size: n.
      key: for the random start.
      steps: products with A, cut to n; 30 usually give the ends a few digits or more,
        and the bounds tell.
      dtype: floating type of the vectors; jax's default when None.

    Raises:
      ValueError: `steps` or `size` below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, but an operator needs at least 1")
    key, start_key = jax.random.split(key)
    start = jax.random.normal(start_key, (size,), dtype or float)
    found = lanczos(operator, start, key=key, steps=min(steps, size))
    matrix = jnp.diag(found.diagonal)
    if found.off_diagonal.size:
        beside = jnp.diag(found.off_diagonal, 1)
        matrix = matrix + beside + beside.T
    values, vectors = jnp.linalg.eigh(matrix)
    bounds = jnp.abs(found.remainder * vectors[-1])
    return ExtremeEigenvalues(values[0], values[-1], bounds[0], bounds[-1])
