"""Checks of rows of features, or of a Gram, with their targets and weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

__all__ = ["as_matrix", "check_floats", "check_ridge", "check_rows"]


def check_ridge(ridge: Any) -> None:
    """Raises for a ridge known to be negative or not finite; traced ones pass."""
    try:
        known = float(ridge)
    except jax.errors.ConcretizationTypeError:
        return
    if not 0 <= known < np.inf:
        raise ValueError(f"ridge is {ridge}, but must be finite and >= 0")


def check_floats(inputs: Any) -> None:
    """Raises for inputs that are bytes, integers or truth values."""
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"inputs are of type {inputs.dtype}, but floating numbers are taken: scale "
            "or standardise images first (bytes by 1/255)"
        )


def check_rows(rows: Any, targets: Any, weights: Any, name: str) -> None:
    """Raises when the rows called `name`, targets and weights do not go together."""
    for label, value in ((name, rows), ("targets", targets)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{label} are {value.dtype}; floating numbers are needed")
    if rows.ndim != 2 or rows.shape[0] < 1:
        raise ValueError(
            f"{name} have shape {rows.shape}; at least one row is needed, in a matrix"
        )
    if targets.ndim < 1 or targets.shape[0] != rows.shape[0]:
        raise ValueError(
            f"{rows.shape[0]} rows of {name}, but targets of shape {targets.shape}"
        )
    if weights is not None and weights.shape != rows.shape[:1]:
        raise ValueError(
            f"{rows.shape[0]} rows of {name}, but weights of shape {weights.shape}"
        )


def as_matrix(targets: Array | np.ndarray, dtype: Any) -> Array:
    """Targets as (rows, columns)."""
    return jnp.asarray(targets, dtype).reshape(targets.shape[0], -1)
