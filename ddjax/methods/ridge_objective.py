"""The objective that KIP and RFAD share: kernel ridge regression on the samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split
from ddjax.kernels import ridge as ridge_regression
from ddjax.methods import learned_set
from ddjax.synthetic.decoders.base import Fitted
from ddjax.synthetic.targets import centred_one_hot

__all__ = [
    "KernelData",
    "real_of_step",
    "real_rows",
    "real_targets",
    "ridge_loss",
]


class KernelData(NamedTuple):
    """What steps look at.

    Attributes:
      real: real inputs and labels; `Batches` of them until rows are drawn.
      params: parameters of random networks ({} for an exact kernel, or where they are
        drawn anew in every step).
      fitted: what the decoder took from the real data.
    """

    real: Split | Batches
    params: Any
    fitted: Fitted


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
      ridge: lambda over the mean diagonal of the Gram, with gradient through the trace.
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


def real_rows(problem: Problem, batch_size: int) -> Split | Batches:
    """The training split to draw from; all of it where a step sees it all.

    Raises:
      ValueError: a split without class labels.
    """
    learned_set.class_labels(problem.train)
    return batches(problem.train, batch_size)


def real_of_step(data: KernelData) -> Split:
    """The real samples that a step sees."""
    assert isinstance(data.real, Split)  # the loop has drawn the rows of `Batches`
    return Split(jnp.asarray(data.real.inputs), data.real.labels)


def real_targets(real: Split, classes: int) -> Float[Array, "b c"]:
    """Centred one-hot targets of a batch's labels."""
    return centred_one_hot(learned_set.class_labels(real), classes)
