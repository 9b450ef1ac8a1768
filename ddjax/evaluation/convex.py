"""Convex learners on features or kernels: fit a small set, predict real data.

The real data pass in blocks. Their features are kept between evaluations only while
they are few (`FeatureStore`), because features cost far more than what is done with
them, and the same validation split is looked at again and again during a run.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.blocks import gram_in_blocks, map_in_blocks
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap

__all__ = [
    "KEPT_BYTES",
    "FeatureStore",
    "Fitted",
    "Learner",
    "compiled_kernel",
    "fit_and_predict",
    "refuse_larger",
    "ridge_learner",
]

KEPT_BYTES = 2**28
"""Features of real data are kept up to this many bytes."""


class Fitted(NamedTuple):
    """A linear predictor.

    Attributes:
      weights: `(p, *c)` to be multiplied with features, or `(m, *c)` with the kernel
        between new and training inputs.
      solver_gap: relative duality gap at which the solver stopped; 0 when direct.
    """

    weights: Float[Array | ndarray, "k *c"]
    solver_gap: float = 0.0


class Learner(NamedTuple):
    """How a convex problem is solved, given either view of the training inputs.

    Attributes:
      from_features: `(m, p) -> Fitted` with weights of features.
      from_gram: `(m, m) -> Fitted` with coefficients of the kernel.
    """

    from_features: Callable[[ndarray], Fitted]
    from_gram: Callable[[ndarray], Fitted]


class FeatureStore:
    """The features of one array of real inputs under one feature map, if small."""

    def __init__(self, limit: int = KEPT_BYTES):
        """Keeps up to `limit` bytes."""
        self._limit = limit
        self._kept: dict[FeatureMap, tuple[object, ndarray]] = {}

    def find(self, feature_map: FeatureMap, inputs: object) -> ndarray | None:
        """What was kept for these very inputs, or None."""
        found = self._kept.get(feature_map)
        return found[1] if found is not None and found[0] is inputs else None

    def keep(self, feature_map: FeatureMap, inputs: object, features: ndarray) -> None:
        """Keeps them, dropping what was kept before where both are too many."""
        held = sum(array.nbytes for _, array in self._kept.values())
        if held + features.nbytes > self._limit:
            self._kept.clear()
        self._kept[feature_map] = inputs, features

    def allows(self, size: int) -> bool:
        """Whether so many bytes may be kept."""
        return size <= self._limit


# The same compiled function for the same features, evaluation after evaluation.
@functools.lru_cache(maxsize=32)
def _linear(apply: feature_maps.Features) -> Callable[..., Array]:
    return jax.jit(lambda params, weights, rows: apply(params, rows) @ weights)


@functools.lru_cache(maxsize=32)
def compiled_kernel(feature_map: FeatureMap) -> feature_maps.Kernel:
    """The exact kernel's function, compiled once for the same kernel."""
    return jax.jit(feature_maps.kernel(feature_map))


@functools.lru_cache(maxsize=32)
def _kernel_expansion(feature_map: FeatureMap) -> Callable[..., Array]:
    kernel = feature_maps.kernel(feature_map)
    return jax.jit(lambda training, weights, rows: kernel(rows, training) @ weights)


def fit_and_predict(
    feature_map: FeatureMap,
    learner: Learner,
    training: Float[Array | ndarray, "m *shape"],
    inputs: Float[Array | ndarray, "n *shape"],
    *,
    block: int,
    store: FeatureStore | None = None,
    largest: int | None = None,
) -> tuple[Float[ndarray, "n *c"], Fitted]:
    """Fits on the training inputs and predicts others, block by block.

    Args:
      feature_map: what the learner sees inputs through.
      learner: how it is solved.
      training: inputs of the training set.
      inputs: what to predict.
      block: inputs a block.
      store: where features of `inputs` are kept and found again.
      largest: bytes that the training set's features, or its kernel, may take; None
        for any number.

    Returns:
      Predictions on the host, and the fit.

    Raises:
      ValueError: the training set needs more than `largest` bytes.
    """
    if feature_map.kind in ("nngp", "ntk"):
        refuse_larger(4 * len(training) ** 2, largest, "kernel")
        gram = gram_in_blocks(compiled_kernel(feature_map), training, block=block)
        fitted = learner.from_gram(gram)
        arguments = jnp.asarray(training), jnp.asarray(fitted.weights, jnp.float32)
        expansion = _kernel_expansion(feature_map)
        return (
            map_in_blocks(expansion, inputs, block=block, arguments=arguments),
            fitted,
        )
    params, apply = feature_maps.build(feature_map, training.shape[1:])
    one = jax.eval_shape(apply, params, jnp.zeros((1, *training.shape[1:])))
    refuse_larger(4 * len(training) * one.size, largest, "features")
    features = map_in_blocks(apply, training, block=block, arguments=(params,))
    fitted = learner.from_features(features)
    weights = jnp.asarray(fitted.weights, jnp.float32)
    store = store or FeatureStore(0)
    known = store.find(feature_map, inputs)
    if known is None and store.allows(4 * len(inputs) * one.size):
        known = map_in_blocks(apply, inputs, block=block, arguments=(params,))
        store.keep(feature_map, inputs, known)
    if known is not None:
        return np.asarray(jnp.asarray(known) @ weights), fitted
    arguments = params, weights
    return (
        map_in_blocks(_linear(apply), inputs, block=block, arguments=arguments),
        fitted,
    )


def ridge_learner(
    targets: Float[Array | ndarray, "m *c"],
    *,
    ridge: float,
    convention: ridge_regression.Convention,
) -> Learner:
    """Ridge regression without intercept as a `Learner`, solved in float64.

    Args:
      targets: what is fitted.
      ridge: strength, >= 0.
      convention: see `ddjax.kernels.ridge`.
    """
    values = np.asarray(targets, np.float64)

    # At a ridge of 1e-6 the rounding of float32 is no longer small beside it.
    def from_features(features: ndarray) -> Fitted:
        with jax.enable_x64(True):
            found = ridge_regression.solve(
                jnp.asarray(features.astype(np.float64)),
                jnp.asarray(values),
                ridge=ridge,
                convention=convention,
            )
            return Fitted(np.asarray(found.weights, np.float32))

    def from_gram(gram: ndarray) -> Fitted:
        with jax.enable_x64(True):
            found = ridge_regression.kernel_solve(
                jnp.asarray(gram.astype(np.float64)),
                jnp.asarray(values),
                ridge=ridge,
                convention=convention,
            )
            return Fitted(np.asarray(found.coefficients, np.float32))

    return Learner(from_features, from_gram)


def refuse_larger(size: int, largest: int | None, what: str) -> None:
    """Refuses features or kernels of more bytes than allowed.

    Raises:
      ValueError: `size` above `largest`.
    """
    if largest is not None and size > largest:
        raise ValueError(
            f"the {what} of the training set would take {size / 2**30:.1f} GiB, more "
            f"than the {largest / 2**30:.1f} GiB allowed; take fewer networks or "
            "samples, or raise the limit"
        )
