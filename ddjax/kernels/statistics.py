"""The squared loss of a linear model over fixed features, through its statistics."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.kernels._rows import as_matrix, check_rows
from ddjax.kernels.precision import product

__all__ = [
    "SufficientStatistics",
    "add_statistics",
    "squared_loss_from_statistics",
    "streamed_statistics",
    "sufficient_statistics",
    "zero_statistics",
]


class SufficientStatistics(NamedTuple):
    """All that a squared loss over fixed features depends on.

    Attributes:
      gram: FᵀF.
      cross: FᵀY.
      targets_norm: ‖Y‖² (squared Frobenius norm).
      count: the number of rows, or the sum of their weights.
    """

    gram: Float[Array, "p p"]
    cross: Float[Array, "p *c"]
    targets_norm: Float[Array, ""]
    count: Float[Array, ""]


@jax.jit
def sufficient_statistics(
    features: Float[Array | np.ndarray, "n p"],
    targets: Float[Array | np.ndarray, "n *c"],
    *,
    weights: Float[Array | np.ndarray, " n"] | None = None,
) -> SufficientStatistics:
    """FᵀF, FᵀY, ‖Y‖² and n, or the same with every row counted by its weight.

    For an intercept, append a column of ones to the features.

    >>> import jax.numpy as jnp
    >>> float(sufficient_statistics(jnp.ones((3, 2)), jnp.ones((3, 1))).count)
    3.0

    Args:
      features: (n, p).
      targets: (n, c) or (n,).
      weights: sample weights >= 0; weight 0 makes a row of padding.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit.
    """
    check_rows(features, targets, weights, "features")
    values = as_matrix(targets, features.dtype)
    mass = jnp.ones_like(features[:, 0]) if weights is None else weights
    weighted = features if weights is None else mass[:, None] * features
    return SufficientStatistics(
        gram=product(weighted.T, features),
        cross=product(weighted.T, values).reshape(
            features.shape[1:] + targets.shape[1:]
        ),
        targets_norm=product(mass, jnp.square(values).sum(axis=1)),
        count=mass.sum(),
    )


def zero_statistics(
    size: int, *, target_shape: tuple[int, ...] = (), dtype: Any = jnp.float32
) -> SufficientStatistics:
    """The statistics of no rows at all, to start a sum from.

    Args:
      size: number of features p.
      target_shape: shape of one target: `()` or `(c,)`.
      dtype: floating type.
    """
    return SufficientStatistics(
        gram=jnp.zeros((size, size), dtype),
        cross=jnp.zeros((size, *target_shape), dtype),
        targets_norm=jnp.zeros((), dtype),
        count=jnp.zeros((), dtype),
    )


def add_statistics(
    left: SufficientStatistics, right: SufficientStatistics
) -> SufficientStatistics:
    """The statistics of the rows of both."""
    return jax.tree.map(jnp.add, left, right)


def streamed_statistics(
    blocks: Iterable[tuple[Array | np.ndarray, Array | np.ndarray]],
) -> SufficientStatistics:
    """The statistics of rows that come block by block.

    One block is held at a time. A block of another shape costs another compilation.

    >>> import numpy as np
    >>> rows, labels = np.ones((5, 2), np.float32), np.ones((5, 1), np.float32)
    >>> blocks = ((rows[i : i + 2], labels[i : i + 2]) for i in range(0, 5, 2))
    >>> print(streamed_statistics(blocks).cross[:, 0])
    [5. 5.]

    Args:
      blocks: pairs of features (n_i, p) and targets (n_i, c) or (n_i,).

    Raises:
      ValueError: no block at all, or shapes that do not fit.
    """
    total = None
    for features, targets in blocks:
        features, targets = jnp.asarray(features), jnp.asarray(targets)
        if total is None:
            total = zero_statistics(
                features.shape[1],
                target_shape=targets.shape[1:],
                dtype=features.dtype,
            )
        total = _accumulate(total, features, targets)
    if total is None:
        raise ValueError("blocks is empty: statistics need at least one block")
    return total


@functools.partial(jax.jit, donate_argnums=0)
def _accumulate(
    total: SufficientStatistics, features: Array, targets: Array
) -> SufficientStatistics:
    return add_statistics(total, sufficient_statistics(features, targets))


@jax.jit
def squared_loss_from_statistics(
    weights: Float[Array | np.ndarray, "p *c"], statistics: SufficientStatistics
) -> Float[Array, ""]:
    r"""Half the summed squared error, at a cost that does not depend on n.

    .. math::
        \tfrac12 \lVert F W - Y \rVert^2 = \tfrac12 \left( \lVert Y \rVert^2
        - 2 \langle W, F^\top Y \rangle + \langle W, F^\top F\, W \rangle \right).

    Divide by `statistics.count` for the mean. The three terms cancel where the fit is
    near perfect: the absolute error is about eps ‖Y‖², so that in float32 a loss below
    1e-6 ‖Y‖² has no digits left.

    Args:
      weights: (p, c) or (p,).
      statistics: of the features and targets.

    Raises:
      ValueError: weights that do not have the shape of `statistics.cross`.
    """
    if weights.shape != statistics.cross.shape:
        raise ValueError(
            f"weights have shape {weights.shape}, but the statistics are for "
            f"{statistics.cross.shape}"
        )
    linear = jnp.sum(weights * statistics.cross)
    quadratic = jnp.sum(weights * product(statistics.gram, weights))
    return 0.5 * (statistics.targets_norm - 2.0 * linear + quadratic)
