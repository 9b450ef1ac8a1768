"""Class labels as the numbers a learner fits, and scores as class labels again."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import TracerArrayConversionError
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.checks import check_counts
from ddjax.kernels.losses import Loss

__all__ = [
    "TARGETS_KINDS",
    "centred_one_hot",
    "hard_targets",
    "one_hot",
    "one_vs_rest",
    "predicted_labels",
    "signs",
]

TARGETS_KINDS = ("scores", "margin", "probabilities", "regression", "representation")

_Labels = Int[Array | ndarray, " m"]


def one_hot(labels: _Labels, classes: int) -> Float[Array, "m c"]:
    """Indicator of each label: `t_ij = [y_i = j]`, in jax's default float dtype.

    Args:
      labels: class indices, `(m,)`.
      classes: number of classes c.

    Raises:
      ValueError: `classes` < 1, or a label outside [0, classes).
    """
    _check_labels(labels, classes)
    return jax.nn.one_hot(labels, classes, dtype=jnp.result_type(float))


def centred_one_hot(labels: _Labels, classes: int) -> Float[Array, "m c"]:
    """One-hot targets with zero row sums, `t_ij = [y_i = j] - 1/c` (KIP's targets).

    Arguments and errors are those of `one_hot`.
    """
    return one_hot(labels, classes) - 1.0 / classes


def signs(labels: _Labels, classes: int = 2) -> Float[Array, " m"]:
    """Binary labels as margins: class 0 -> -1, class 1 -> +1.

    In jax's default float dtype.

    Args:
      labels: class indices, `(m,)`.
      classes: number of classes of the problem; only 2 is allowed.

    Raises:
      ValueError: more or fewer than two classes, or a label that is not 0 or 1.
    """
    if classes != 2:
        raise ValueError(
            f"signs needs exactly 2 classes, got {classes}; use one_vs_rest"
        )
    _check_labels(labels, classes)
    return jnp.where(jnp.asarray(labels) == 1, 1.0, -1.0)


def one_vs_rest(labels: _Labels, classes: int) -> Float[Array, "m c"]:
    """One binary problem a class: `t_ij = +1` if `y_i = j`, else -1.

    Arguments and errors are those of `one_hot`.
    """
    return 2.0 * one_hot(labels, classes) - 1.0


def hard_targets(labels: _Labels, loss: Loss, classes: int) -> Float[Array, "m *c"]:
    """Hard labels in the units of a loss: signs, one-vs-rest signs or one-hot.

    A regression loss gets signs for two classes and centred one-hot rows for more.
    """
    if loss.kind == "multiclass":
        return one_hot(labels, classes)
    if classes == 2:
        return signs(labels)
    if loss.kind == "regression":
        return centred_one_hot(labels, classes)
    return one_vs_rest(labels, classes)


def predicted_labels(
    scores: Float[Array | ndarray, "m *c"], targets_kind: str
) -> Int[Array, " m"]:
    """Classes that a learner's outputs stand for.

    Args:
      scores: outputs in the units of the targets: `(m, c)` for `scores` and
        `probabilities` (the largest column wins), `(m,)` or `(m, 1)` for `margin`
        (> 0 means class 1).
      targets_kind: one of `scores`, `probabilities` and `margin`.

    Returns:
      Class indices, int32.

    Raises:
      ValueError: a kind without classes, or a shape that does not fit the kind.
    """
    values = jnp.asarray(scores)
    if targets_kind == "margin":
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise ValueError(
                f"margin predictions have shape (m,) or (m, 1), got {values.shape}"
            )
        return (values > 0).astype(jnp.int32)
    if targets_kind not in ("scores", "probabilities"):
        raise ValueError(
            f"targets of kind {targets_kind!r} have no classes; allowed: "
            "scores, probabilities, margin"
        )
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            f"{targets_kind} have shape (m, c) with c >= 2, got {values.shape}"
        )
    return jnp.argmax(values, axis=1).astype(jnp.int32)


def _check_labels(labels: _Labels, classes: int) -> None:
    check_counts(required=True, classes=classes)
    try:
        values = np.asarray(labels)
    except TracerArrayConversionError:
        return  # inside jit the values are unknown
    wrong = values[(values < 0) | (values >= classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is outside [0, {classes})")
