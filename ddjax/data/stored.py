"""Inputs that stay in their files and are read whenever rows are asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

__all__ = ["StoredInputs", "on_host"]


class StoredInputs:
    """Rows of a data set on disk, in the manner of a read-only NumPy array.

    Slices, integers and integer or boolean arrays along the first axis read these rows
    and no others, as floats in natural units; nothing is kept. `numpy.asarray` reads
    everything.

    Attributes:
      shape: `(n, *shape)`.
      dtype: jax's default float when they were made: float32, or float64 under x64.
    """

    def __init__(
        self,
        read: Callable[[ndarray], ndarray],
        indices: ndarray,
        *,
        shape: tuple[int, ...],
        unit: float,
    ):
        """Chooses rows.

        Args:
          read: sorted positions in the files -> raw inputs.
          indices: position of each row.
          shape: of a sample.
          unit: natural inputs are raw ones divided by this.
        """
        self.dtype = np.dtype(jnp.result_type(float))
        self._read, self._indices = read, indices
        self._unit = self.dtype.type(unit)
        self.shape = (len(indices), *shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What they would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        """Number of samples n."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Float[ndarray, "..."]:
        """Reads these rows.

        Raises:
          IndexError: rows that are not there, or more than the first axis.
          DataError: a broken file, by its name.
        """
        places = self._indices[rows]
        if np.ndim(places) == 0:
            return self._rows(places[None])[0]
        if np.ndim(places) != 1:
            raise IndexError(
                f"inputs in files are indexed along their first axis, got {rows!r}"
            )
        return self._rows(places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        """Reads everything."""
        if copy is False:
            raise ValueError("inputs in files cannot be an array without a copy")
        return self._rows(self._indices).astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        """The shape; nothing is read."""
        return f"StoredInputs(shape={self.shape})"

    def _rows(self, places: ndarray) -> ndarray:
        if not len(places):
            return np.empty((0, *self.shape[1:]), self.dtype)
        # Files are read in order, and once each.
        unique, back = np.unique(places, return_inverse=True)
        found = self._read(unique).astype(self.dtype)
        found /= self._unit
        in_order = len(unique) == len(places) and np.array_equal(unique, places)
        return found if in_order else found[back]


def on_host(inputs: Any) -> Any:
    """Arrays on the device as NumPy's; host arrays and inputs in files as they are."""
    return np.asarray(inputs) if isinstance(inputs, jax.Array) else inputs
