"""Convex learners on features or kernels: fit a small set, predict real data.

The real data pass in blocks. Features of a split go through the cache that an
evaluation is given, while they are few: they cost far more than what is done with them,
and the same validation split is looked at again and again during a run.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.data.problem import Problem, identity
from ddjax.kernels import precision
from ddjax.kernels import ridge as ridge_regression
from ddjax.kernels.blocks import gram_in_blocks, map_in_blocks
from ddjax.kernels.losses import Loss
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.solvers import erm
from ddjax.storage.cache import Cache

__all__ = [
    "KEPT_BYTES",
    "ConvexLearner",
    "Fitted",
    "View",
    "cached_fit",
    "compiled_kernel",
    "features_bytes",
    "features_of",
    "fit",
    "predict",
    "predict_split",
    "real_data_dependencies",
    "refuse_larger",
    "ridge_learner",
    "risk_learner",
    "split_features",
    "view_through",
]

KEPT_BYTES = 2**28
"""Features of a split are offered to the cache up to this many bytes; more are never
held at once."""


class Fitted(NamedTuple):
    """A linear predictor.

    Attributes:
      weights: `(p, *c)` to be multiplied with features, or `(m, *c)` with the kernel
        between new and training inputs; float64.
      gap: duality gap at which the solver stopped; 0 when direct.
      primal: primal objective there; not known (NaN) when direct.
      iterations: of the solver; 0 when direct.
      converged: whether the gap is within the tolerance asked for.
      squared_norm: of the predictor; not known (NaN) when direct.
    """

    weights: Float[ndarray, "k *c"]
    gap: float = 0.0
    primal: float = math.nan
    iterations: int = 0
    converged: bool = True
    squared_norm: float = math.nan

    @property
    def relative_gap(self) -> float:
        """The gap over the primal objective."""
        return self.gap / max(abs(self.primal), 1e-300) if self.gap else 0.0


class ConvexLearner(NamedTuple):
    """How a convex problem is solved, given either view of the training inputs.

    Attributes:
      from_features: `(m, p) -> Fitted` with weights of features.
      from_gram: `(m, m) -> Fitted` with coefficients of the kernel.
    """

    from_features: Callable[[ndarray], Fitted]
    from_gram: Callable[[ndarray], Fitted]


class View(NamedTuple):
    """What a learner sees inputs through, its random networks drawn.

    Attributes:
      feature_map: the description.
      exact: whether it is an exact kernel, without features.
      params: of the features.
      apply: `(params, inputs) -> features`.
    """

    feature_map: FeatureMap
    exact: bool
    params: Any
    apply: Any


def view_through(feature_map: FeatureMap, shape: tuple[int, ...]) -> View:
    """Draws the networks of a feature map for inputs of a shape."""
    if feature_map.kind in ("nngp", "ntk"):
        return View(feature_map, True, {}, None)
    return View(feature_map, False, *feature_maps.build(feature_map, shape))


def features_of(
    view: View, inputs: Float[Array | ndarray, "n *shape"], *, block: int
) -> Float[ndarray, "n p"]:
    """Features of inputs, on the host."""
    return map_in_blocks(view.apply, inputs, block=block, arguments=(view.params,))


def features_bytes(view: View, inputs: Any) -> int:
    """What the features of inputs take."""
    one = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    found = jax.eval_shape(view.apply, view.params, one)
    return len(inputs) * math.prod(found.shape) * found.dtype.itemsize


# The same compiled function for the same features, evaluation after evaluation.
@functools.lru_cache(maxsize=32)
def _linear(apply: feature_maps.Features) -> Callable[..., Array]:
    return jax.jit(
        lambda params, weights, rows: precision.product(apply(params, rows), weights)
    )


@functools.lru_cache(maxsize=32)
def compiled_kernel(feature_map: FeatureMap) -> feature_maps.Kernel:
    """The exact kernel's function, compiled once for the same kernel."""
    return jax.jit(feature_maps.kernel(feature_map))


@functools.lru_cache(maxsize=32)
def _kernel_expansion(feature_map: FeatureMap) -> Callable[..., Array]:
    kernel = feature_maps.kernel(feature_map)
    return jax.jit(
        lambda training, weights, rows: precision.product(
            kernel(rows, training), weights
        )
    )


def fit(
    view: View,
    learner: ConvexLearner,
    training: Float[Array | ndarray, "m *shape"],
    *,
    block: int,
    largest: int | None = None,
) -> Fitted:
    """Fits on the training inputs.

    Args:
      view: what the learner sees inputs through.
      learner: how it is solved.
      training: inputs of the training set.
      block: inputs a block.
      largest: bytes that the training set's features, or its kernel, may take; None
        for any number.

    Raises:
      ValueError: the training set needs more than `largest` bytes.
    """
    if view.exact:
        size = len(training) ** 2 * np.dtype(training.dtype).itemsize
        refuse_larger(size, largest, "kernel")
        kernel = compiled_kernel(view.feature_map)
        return learner.from_gram(gram_in_blocks(kernel, training, block=block))
    refuse_larger(features_bytes(view, training), largest, "features")
    return learner.from_features(features_of(view, training, block=block))


def cached_fit(
    cache: Cache,
    name: str,
    depends_on: dict[str, Any],
    compute: Callable[[], Fitted],
) -> Fitted:
    """A fit that a cache keeps; arguments are those of `ddjax.storage.cache.Cache`."""
    found = cache(
        name,
        depends_on,
        lambda: {key: np.asarray(each) for key, each in compute()._asdict().items()},
    )
    arrays = {key: np.asarray(each) for key, each in found.items()}
    weights = arrays.pop("weights")
    return Fitted(weights, **{key: each.item() for key, each in arrays.items()})


def predict(
    view: View,
    fitted: Fitted,
    training: Float[Array | ndarray, "m *shape"],
    inputs: Float[Array | ndarray, "n *shape"],
    *,
    block: int,
) -> Float[ndarray, "n *c"]:
    """Predictions for inputs, block by block, on the host.

    Args:
      view: what the learner saw its training inputs through.
      fitted: from `fit`.
      training: the inputs that it was fitted on; used by exact kernels.
      inputs: what to predict.
      block: inputs a block.
    """
    if view.exact:
        weights = jnp.asarray(fitted.weights).astype(training.dtype)
        arguments = jnp.asarray(training), weights
        expansion = _kernel_expansion(view.feature_map)
        return map_in_blocks(expansion, inputs, block=block, arguments=arguments)
    arguments = view.params, jnp.asarray(fitted.weights).astype(inputs.dtype)
    return map_in_blocks(_linear(view.apply), inputs, block=block, arguments=arguments)


def predict_split(
    view: View,
    fitted: Fitted,
    training: Float[Array | ndarray, "m *shape"],
    problem: Problem,
    split: str,
    *,
    block: int,
    cache: Cache,
) -> Float[ndarray, "n *c"]:
    """`predict` for a split of real data, whose features are cached while few."""
    inputs = getattr(problem, split).inputs
    if view.exact or features_bytes(view, inputs) > KEPT_BYTES:
        return predict(view, fitted, training, inputs, block=block)
    features = jnp.asarray(
        split_features(view, problem, split, block=block, cache=cache)
    )
    weights = jnp.asarray(fitted.weights).astype(features.dtype)
    return np.asarray(precision.product(features, weights))


def split_features(
    view: View, problem: Problem, split: str, *, block: int, cache: Cache
) -> Float[Array | ndarray, "n p"]:
    """Features of a split of real data, from the cache (`features`) while few."""
    inputs = getattr(problem, split).inputs

    def compute() -> dict[str, Any]:
        return {"features": features_of(view, inputs, block=block)}

    if features_bytes(view, inputs) > KEPT_BYTES:
        return compute()["features"]
    about = {**real_data_dependencies(view.feature_map, problem), "split": split}
    return cache("features", about, compute)["features"]


def real_data_dependencies(feature_map: FeatureMap, problem: Problem) -> dict[str, Any]:
    """What everything computed from real data through a feature map depends on."""
    return {
        "problem": identity(problem),
        "dtype": str(problem.train.inputs.dtype),
        "features": feature_maps.to_recipe(feature_map),
    }


def ridge_learner(
    targets: Float[Array | ndarray, "m *c"],
    *,
    ridge: float,
    convention: ridge_regression.Convention,
) -> ConvexLearner:
    """Ridge regression without intercept as a `ConvexLearner`, solved in float64.

    The convention says how the ridge is read, see `ddjax.kernels.ridge`.
    """
    values = np.asarray(targets, np.float64)

    # At a ridge of 1e-6 the rounding of float32 is no longer small beside it.
    def solved(solve: Callable[..., Any], rows: ndarray) -> Any:
        with jax.enable_x64(True):
            wide = jnp.asarray(rows.astype(np.float64))
            return solve(wide, jnp.asarray(values), ridge=ridge, convention=convention)

    def from_features(features: ndarray) -> Fitted:
        return Fitted(np.asarray(solved(ridge_regression.solve, features).weights))

    def from_gram(gram: ndarray) -> Fitted:
        found = solved(ridge_regression.kernel_solve, gram)
        return Fitted(np.asarray(found.coefficients))

    return ConvexLearner(from_features, from_gram)


def risk_learner(
    targets: Float[Array, "m *c"], *, loss: Loss, ridge: float, **settings: Any
) -> ConvexLearner:
    """Regularised empirical risk as a `ConvexLearner`.

    Args:
      targets: in the units of the loss.
      loss: of each sample.
      ridge: absolute, > 0.
      **settings: tolerance and iterations of `ddjax.solvers.erm.solve`.
    """

    def from_features(features: ndarray) -> Fitted:
        found = erm.solve(features, targets, loss=loss, ridge=ridge, **settings)
        return _fitted(found.weights, float(np.sum(found.weights**2)), found)

    def from_gram(gram: ndarray) -> Fitted:
        found = erm.solve_kernel(gram, targets, loss=loss, ridge=ridge, **settings)
        return _fitted(found.coefficients, found.squared_norm, found)

    return ConvexLearner(from_features, from_gram)


def _fitted(
    weights: ndarray, squared_norm: float, found: erm.Solution | erm.KernelSolution
) -> Fitted:
    return Fitted(
        np.asarray(weights),
        float(found.gap),
        float(found.primal),
        int(found.iterations),
        bool(found.converged),
        float(squared_norm),
    )


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
