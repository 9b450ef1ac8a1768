"""How predictions are counted."""

import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

__all__ = ["accuracy", "correct", "mean_squared_error"]


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
    found, wanted = np.asarray(predictions), np.asarray(targets)
    if found.shape != wanted.shape:
        raise ValueError(
            f"predictions have shape {found.shape}, targets {wanted.shape}"
        )
    return float(np.mean(np.square(found.astype(np.float64) - wanted)))
