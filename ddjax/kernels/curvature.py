r"""Curvature of a loss: Hessian-vector products, and both ends of its spectrum.

Lanczos' iteration (`lanczos`, `extreme_eigenvalues`) needs nothing of a symmetric
operator but its products with vectors; `hessian_extremes` and `curvature_near` apply it
to the Hessian of a loss. Which rate of gradient descent follows from the two is in
`ddjax.solvers.convergence`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.kernels._lanczos import (
    ExtremeEigenvalues,
    Tridiagonal,
    extreme_eigenvalues,
    lanczos,
)

__all__ = [
    "ExtremeEigenvalues",
    "LocalCurvature",
    "Tridiagonal",
    "curvature_near",
    "extreme_eigenvalues",
    "hessian_extremes",
    "hessian_vector_product",
    "lanczos",
]


class LocalCurvature(NamedTuple):
    """The ends of the Hessian's spectrum over points near one.

    Attributes:
      lipschitz: largest magnitude of an eigenvalue over all points: an estimate of the
        gradient's Lipschitz constant, from below, since points are sampled.
      smallest: least eigenvalue over all points.
      distances: of each point from the centre; the centre itself comes first.
      extremes: both ends at each point, with their bounds.
    """

    lipschitz: Float[Array, ""]
    smallest: Float[Array, ""]
    distances: Float[Array, " points"]
    extremes: ExtremeEigenvalues


def hessian_vector_product(
    loss: Callable[[Any], Array], point: Any, vector: Any
) -> Any:
    """The Hessian at a point times a vector, forward over reverse.

    >>> import jax.numpy as jnp
    >>> print(hessian_vector_product(lambda z: z[0] * z[1] ** 2, jnp.array([1.0, 2.0]),
    ...                              jnp.array([0.0, 1.0])))
    [4. 2.]

    Args:
      loss: from a tree of arrays to a scalar, twice differentiable (of the forms of
        `unrolled.iterate` that is scan or doubling).
      point: the tree.
      vector: a tree like it.

    Returns:
      A tree like the point.
    """
    return jax.jvp(jax.grad(loss), (point,), (vector,))[1]


def _flat(loss: Callable[[Any], Array], point: Any) -> tuple[Callable, Array]:
    vector, unravel = ravel_pytree(point)
    return (lambda flat: loss(unravel(flat))), vector


def _extremes(
    loss: Callable[[Array], Array], point: Array, key: PRNGKeyArray, steps: int
) -> ExtremeEigenvalues:
    # Linearised once: the products then cost no second forward pass each.
    _, product = jax.linearize(jax.grad(loss), point)
    return extreme_eigenvalues(
        product, point.shape[0], key=key, steps=steps, dtype=point.dtype
    )


def hessian_extremes(
    loss: Callable[[Any], Array], point: Any, *, key: PRNGKeyArray, steps: int = 30
) -> ExtremeEigenvalues:
    """Smallest and largest eigenvalue of the Hessian at a point, by Lanczos.

    Args:
      loss: from a tree of arrays of one floating type to a scalar, twice differentiable
        (of the forms of `unrolled.iterate` that is scan or doubling).
      point: where.
      key: for the random start.
      steps: Hessian-vector products; the bounds that come back say whether they were
        enough.
    """
    flat_loss, vector = _flat(loss, point)
    return _extremes(flat_loss, vector, key, steps)


def curvature_near(
    loss: Callable[[Any], Array],
    point: Any,
    *,
    radius: float,
    points: int = 4,
    key: PRNGKeyArray,
    steps: int = 30,
) -> LocalCurvature:
    """The Hessian's extremes at a point and at random points around it.

    Estimates the L of Theorem 2.9 of "Toward Dataset Distillation for Regression
    Problems", and shows whether the smallest eigenvalue stays positive, as its Lemma
    2.7 assumes. Directions are uniform, distances uniform up to the
    radius.

    Args:
      loss: as in `hessian_extremes`.
      point: the centre.
      radius: r, the largest distance, >= 0, Euclidean over the whole tree.
      points: how many random points besides the centre.
      key: for points and starts.
      steps: Hessian-vector products at each point.

    Raises:
      ValueError: a negative radius or number of points.
    """
    if not radius >= 0 or points < 0:
        raise ValueError(
            f"radius is {radius} and points is {points}, but both must be >= 0"
        )
    flat_loss, centre = _flat(loss, point)
    direction_key, distance_key, start_key = jax.random.split(key, 3)
    shape = (points + 1, centre.shape[0])
    directions = jax.random.normal(direction_key, shape, centre.dtype)
    directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    distances = radius * jax.random.uniform(distance_key, shape[:1], centre.dtype)
    distances = distances.at[0].set(0.0)
    where = centre[None, :] + distances[:, None] * directions

    def one(arguments: tuple[Array, PRNGKeyArray]) -> ExtremeEigenvalues:
        return _extremes(flat_loss, *arguments, steps)

    extremes = jax.lax.map(one, (where, jax.random.split(start_key, points + 1)))
    largest = jnp.maximum(jnp.abs(extremes.smallest), jnp.abs(extremes.largest))
    return LocalCurvature(
        lipschitz=largest.max(),
        smallest=extremes.smallest.min(),
        distances=distances,
        extremes=extremes,
    )
