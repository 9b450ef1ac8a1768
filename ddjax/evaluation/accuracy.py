"""How predictions are counted."""

import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

__all__ = [
    "accuracy",
    "correct",
    "mean_absolute_errors",
    "mean_squared_error",
    "r_squared",
    "root_mean_squared_errors",
]


def correct(
    predictions: Float[Array | ndarray, "n *c"], labels: Int[Array | ndarray, " n"]
) -> ndarray:
    """Whether each prediction is right.

    One output a sample, `(n,)` or `(n, 1)`: its sign, > 0 for class 1 and < 0 for
    class 0; exactly 0 is wrong. Several: the largest, the first of equals. A
    prediction that is not finite is wrong.

    Returns:
      Booleans `(n,)`.
    """
    values, truth = np.asarray(predictions), np.asarray(labels)
    if values.ndim == 1 or values.shape[1] == 1:
        values = values.reshape(-1)
        right = values * np.where(truth == 1, 1.0, -1.0) > 0
        return right & np.isfinite(values)
    return (values.argmax(axis=1) == truth) & np.isfinite(values).all(axis=1)


def accuracy(
    predictions: Float[Array | ndarray, "n *c"], labels: Int[Array | ndarray, " n"]
) -> float:
    """Fraction of predictions that are right (see `correct`), in [0, 1]."""
    return float(correct(predictions, labels).mean())


def mean_squared_error(
    predictions: Float[Array | ndarray, "n *c"],
    targets: Float[Array | ndarray, "n *d"],
) -> float:
    """Mean over samples and outputs of the squared error.

    Raises:
      ValueError: shapes that differ.
    """
    return float(np.mean(np.square(_residuals(predictions, targets))))


def r_squared(
    predictions: Float[Array | ndarray, "n c"], targets: Float[Array | ndarray, "n c"]
) -> float:
    r"""Coefficient of determination, averaged over outputs.

    .. math::
        R^2 = 1 - \frac{\sum_i (y_i - f_i)^2}{\sum_i (y_i - \bar y)^2},

    1 for a perfect prediction, 0 for the mean of these targets, negative for worse. It
    does not depend on the targets' units. An output whose targets are all the same
    counts as 1 where it is predicted exactly and as 0 where it is not, as in
    scikit-learn.

    Raises:
      ValueError: shapes that differ.
    """
    left = np.square(_residuals(predictions, targets)).sum(axis=0)
    wanted = np.asarray(targets, np.float64)
    total = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    constant = np.where(left == 0, 1.0, 0.0)
    shares = 1.0 - left / np.where(total > 0, total, 1.0)
    return float(np.where(total > 0, shares, constant).mean())


def root_mean_squared_errors(
    predictions: Float[Array | ndarray, "n c"], targets: Float[Array | ndarray, "n c"]
) -> Float[ndarray, " c"]:
    """Root of the mean squared error of each output, in the targets' units.

    Raises:
      ValueError: shapes that differ.
    """
    return np.sqrt(np.square(_residuals(predictions, targets)).mean(axis=0))


def mean_absolute_errors(
    predictions: Float[Array | ndarray, "n c"], targets: Float[Array | ndarray, "n c"]
) -> Float[ndarray, " c"]:
    """Mean absolute error of each output, in the targets' units.

    Raises:
      ValueError: shapes that differ.
    """
    return np.abs(_residuals(predictions, targets)).mean(axis=0)


def _residuals(predictions: Array | ndarray, targets: Array | ndarray) -> ndarray:
    found, wanted = np.asarray(predictions), np.asarray(targets)
    if found.shape != wanted.shape:
        raise ValueError(
            f"predictions have shape {found.shape}, targets {wanted.shape}"
        )
    return found.astype(np.float64) - wanted
