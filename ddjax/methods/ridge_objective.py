"""The objective that KIP and RFAD share: kernel ridge regression on the samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt

from ddjax.data.problem import Problem, Split
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import optimization
from ddjax.methods.base import HostRows
from ddjax.models import feature_maps
from ddjax.synthetic.targets import centred_one_hot

__all__ = [
    "Batch",
    "RealData",
    "check_batch_size",
    "draw",
    "real_data",
    "real_targets",
    "ridge_loss",
]


class RealData(NamedTuple):
    """What steps draw from.

    Attributes:
      real: real inputs and labels, on device; or `HostRows`, in whose place `sample`
        finds the rows of one step.
      params: parameters of random networks ({} for an exact kernel).
      key_data: words of the key they were drawn from.
    """

    real: Split | HostRows
    params: Any
    key_data: UInt[Array, " words"]


class Batch(NamedTuple):
    """The real samples of one step, and the networks they are seen through."""

    real: Split
    params: Any


def ridge_loss(
    gram: Float[Array, "m m"],
    cross: Float[Array, "n m"],
    targets: Float[Array, "m c"],
    real_targets: Float[Array, "n c"],
    *,
    ridge: float,
    loss: Callable[[Array, Array], Array] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Loss on real data of kernel ridge regression on the samples.

    Args:
      gram: :math:`K_{ss}`.
      cross: :math:`K_{ts}`.
      targets: :math:`Y_s`.
      real_targets: :math:`Y_t`.
      ridge: relative regularisation, with gradient through the trace.
      loss: `(real_targets, predictions) -> scalar`; None is half the mean squared
        error over samples and classes.

    Returns:
      The loss, and the jitter that the factorisation needed.
    """
    solution = ridge_regression.kernel_solve(
        gram, targets, ridge=ridge, convention="relative"
    )
    predictions = ridge_regression.kernel_predict(cross, solution)
    if loss is None:
        value = 0.5 * jnp.mean(jnp.square(real_targets - predictions))
    else:
        value = loss(real_targets, predictions)
    return value, solution.jitter


def real_data(
    problem: Problem, feature_map: feature_maps.FeatureMap, *, batch_size: int
) -> RealData:
    """The training split, and the networks of the map.

    Raises:
      ValueError: a split without class labels.
    """
    optimization.class_labels(problem.train)
    real = problem.train
    params: Any = {}
    if feature_map.kind == "random_features":
        params, _ = feature_maps.build(feature_map, real.inputs.shape[1:])
    on_host = not isinstance(real.inputs, jax.Array)
    return RealData(
        real=HostRows(real, min(batch_size, len(real.inputs))) if on_host else real,
        params=params,
        key_data=jnp.asarray(feature_map.key_data or (0, 0), jnp.uint32),
    )


def draw(key: PRNGKeyArray, data: RealData, batch_size: int) -> Batch:
    """A batch of different real samples, uniformly; all where there are fewer."""
    real = data.real.split if isinstance(data.real, HostRows) else data.real
    inputs, labels = jnp.asarray(real.inputs), optimization.class_labels(real)
    if batch_size < inputs.shape[0]:
        rows = jax.random.choice(key, inputs.shape[0], (batch_size,), replace=False)
        inputs, labels = inputs[rows], labels[rows]
    return Batch(Split(inputs, labels), data.params)


def real_targets(batch: Batch, state: optimization.State) -> Float[Array, "b c"]:
    """Centred one-hot targets of a batch's labels."""
    classes = state.learned["targets"].shape[1]
    return centred_one_hot(optimization.class_labels(batch.real), classes)


def check_batch_size(batch_size: int) -> None:
    """Refuses a batch without samples."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
