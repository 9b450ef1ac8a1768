r"""What methods for regression share: the real data through their second moments.

The mean squared error of a linear model over fixed features F (n, p) depends on the
data through :math:`F^\top F/n`, :math:`F^\top Y/n` and :math:`\lVert Y \rVert^2/n`
alone. Two forms of it serve here: the moments themselves, in float64, and

.. math::
    \tfrac{1}{2n} \lVert F W - Y \rVert^2
      = \tfrac12 \lVert R\,(W - W^*) \rVert^2 + e^*, \qquad R^\top R = F^\top F / n,

with the least squares solution W* of least norm and its error e*. Nothing cancels in
the second form, so that float32 has all its digits near a perfect fit as well.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax import checks
from ddjax.data.problem import Problem, identity
from ddjax.data.stored import on_host
from ddjax.kernels import precision, statistics
from ddjax.methods.learned_set import regression_targets
from ddjax.models import feature_maps
from ddjax.storage.cache import Arrays, Cache, no_cache

__all__ = [
    "MOST_FEATURES",
    "Moments",
    "SquaredError",
    "moments",
    "ridge_weights",
    "squared_error",
    "squared_error_at",
]


MOST_FEATURES = 8192
"""Moments of more features are refused: they take p² numbers and p³ operations."""


class Moments(NamedTuple):
    """Means over the real data, float64 on the host.

    Attributes:
      gram: FᵀF / n.
      cross: FᵀY / n.
      targets: ‖Y‖² / n.
      count: n.
    """

    gram: Float[np.ndarray, "p p"]
    cross: Float[np.ndarray, "p c"]
    targets: float
    count: int


class SquaredError(NamedTuple):
    """Half the mean squared error as a function of the weights.

    Attributes:
      root: R with RᵀR = FᵀF / n, a row for every direction that the data have.
      optimum: W*, the least squares solution of least norm.
      least: e*, the error there.
    """

    root: Float[Array, "r p"]
    optimum: Float[Array, "p c"]
    least: Float[Array, ""]


def moments(
    problem: Problem,
    feature_map: feature_maps.FeatureMap,
    *,
    block: int = 4096,
    cache: Cache = no_cache,
) -> Moments:
    """Moments of the training split, in one pass over blocks of its rows.

    Neither the features nor the rows (a memory map, say) need to fit anywhere.

    Args:
      problem: the real data; its training split is used.
      feature_map: what the model sees inputs through; not an exact kernel.
      block: rows at once.
      cache: keeps the result as `moments`.

    Raises:
      ValueError: no regression targets, an exact kernel, more than `MOST_FEATURES`
        features, or a block below 1.
    """
    regression_targets(problem.train)
    checks.check_counts(block=block)
    shape = problem.train.inputs.shape[1:]
    params, apply = feature_maps.build(feature_map, shape)
    one = jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float))
    size = jax.eval_shape(apply, params, one).shape[1]
    if size > MOST_FEATURES:
        raise ValueError(
            f"{size} features are more than the {MOST_FEATURES} whose moments can be "
            "held; take fewer, or batches of real rows"
        )

    def compute() -> Arrays:
        # On the host: a slice of a device array at a new place would be compiled anew.
        inputs = on_host(problem.train.inputs)
        targets = on_host(regression_targets(problem.train))
        total = None
        for start in range(0, len(inputs), block):
            rows = slice(start, start + block)
            features = np.asarray(apply(params, jnp.asarray(inputs[rows])))
            with jax.enable_x64(True):
                part = statistics.sufficient_statistics(
                    jnp.asarray(features, jnp.float64),
                    jnp.asarray(targets[rows], jnp.float64),
                )
                if total is not None:
                    part = statistics.add_statistics(total, part)
                total = part
        if total is None:
            raise ValueError(f"problem {problem.name!r} has no training data")
        return {
            name: np.asarray(value)
            for name, value in zip(total._fields, total, strict=True)
        }

    about = {
        "problem": identity(problem),
        "features": feature_maps.to_recipe(feature_map),
    }
    found = cache("moments", about, compute)
    sums = {name: np.asarray(array, np.float64) for name, array in found.items()}
    count = float(sums["count"])
    return Moments(
        gram=sums["gram"] / count,
        cross=sums["cross"] / count,
        targets=float(sums["targets_norm"]) / count,
        count=round(count),
    )


def squared_error(found: Moments) -> SquaredError:
    """The squared error as steps use it, in jax's float dtype on the device.

    Directions in which the data vary by less than p eps of the largest variance count
    as absent.
    """
    values, vectors = np.linalg.eigh(found.gram)
    present = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[present], vectors[:, present]
    optimum = vectors @ ((vectors.T @ found.cross) / values[:, None])
    least = 0.5 * (found.targets - np.sum(optimum * found.cross))
    return SquaredError(
        root=jnp.asarray(np.sqrt(values)[:, None] * vectors.T),
        optimum=jnp.asarray(optimum),
        least=jnp.asarray(max(least, 0.0)),
    )


def squared_error_at(
    weights: Float[Array, "p c"], error: SquaredError
) -> Float[Array, ""]:
    """Half the mean squared error of weights, summed over outputs."""
    away = precision.product(error.root, weights - error.optimum)
    return 0.5 * jnp.sum(jnp.square(away)) + error.least


def ridge_weights(found: Moments, *, ridge: float) -> Float[np.ndarray, "p c"]:
    r"""Ridge regression on all the real data, in float64.

    .. math:: W = (F^\top F/n + \lambda I)^{-1} F^\top Y/n

    Args:
      found: the moments.
      ridge: lambda >= 0 per sample; 0 gives the least squares solution of least norm.

    Raises:
      ValueError: a negative or non-finite ridge.
    """
    checks.check_not_negative(ridge=ridge)
    values, vectors = np.linalg.eigh(found.gram)
    shifted = values + ridge
    present = shifted > len(values) * np.finfo(np.float64).eps * shifted[-1]
    inverse = np.where(present, 1.0 / np.where(present, shifted, 1.0), 0.0)
    return vectors @ (inverse[:, None] * (vectors.T @ found.cross))
