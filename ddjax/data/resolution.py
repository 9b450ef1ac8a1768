"""How many digits floating point leaves of a column that lies far from zero."""

import warnings
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from numpy import ndarray

__all__ = [
    "coarse_columns",
    "default_float",
    "warn_of_lost_digits",
    "working_float",
]

# The largest rounding error, in standard deviations of a column, that is not reported.
_LARGEST_ROUNDING = 1e-3
# Columns that a warning names.
_MOST_NAMES = 5


def default_float() -> np.dtype:
    """Of jax: float32, or float64 under `jax_enable_x64`."""
    return np.dtype(jnp.result_type(float))


def working_float(dtype: np.dtype) -> np.dtype:
    """What raw values are worked on in before they are rounded to the default float.

    float64 for what float32 cannot hold: float64 and longer, integers of 32 bits and
    more. The default float for the rest.
    """
    wide = dtype.kind in "iuf" and dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.dtype(np.float64) if wide else default_float()


def coarse_columns(mean: ndarray, std: ndarray, dtype: np.dtype) -> ndarray:
    r"""Mask of the columns whose variation a floating type holds to few digits.

    .. math:: \epsilon\, |\mu| > 10^{-3} \sigma, \qquad \sigma > 0 .
    """
    return (std > 0) & (np.finfo(dtype).eps * np.abs(mean) > _LARGEST_ROUNDING * std)


def warn_of_lost_digits(
    where: str,
    columns: Sequence[str],
    statistics: Sequence[tuple[float, float]],
    *,
    dtype: np.dtype,
    remedy: str,
) -> None:
    """Warns, in one line, of columns whose digits a floating type loses.

    `statistics` are the mean and the standard deviation of each.
    """
    named = [
        f"{name} (varies by {std:.3g} about {mean:.6g})"
        for name, (mean, std) in zip(columns, statistics, strict=True)
    ]
    more = f" and {len(named) - _MOST_NAMES} more" if len(named) > _MOST_NAMES else ""
    warnings.warn(
        f"{where}: {', '.join(named[:_MOST_NAMES])}{more}: {dtype.name} keeps "
        f"fewer than three digits of what varies there; {remedy}",
        stacklevel=5,
    )
