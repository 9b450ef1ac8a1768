"""Products with a large feature matrix, copied neither in memory nor in precision.

Features stay as they are given (usually float32, possibly on an accelerator); vectors
are float64 on the host. On the CPU the products are NumPy's: XLA's transposed
matrix-vector product is many times slower there.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.kernels.precision import product, transposed_product

__all__ = ["Features"]

_BLOCK_BYTES = 1 << 26
# Of rows that are read once: they stay in the processor's cache.
_ROWS_BYTES = 1 << 21


_forward = jax.jit(product)
_adjoint = jax.jit(transposed_product)


@jax.jit
def _squared_norms(features):
    return jnp.sum(jnp.square(features), axis=1)


class Features:
    """A feature matrix `(n, p)` with the products the solvers need.

    Attributes:
      count: n.
      size: p.
    """

    def __init__(self, features: np.ndarray | jax.Array):
        """Keeps a reference; copies nothing for an array already on the host.

        Raises:
          ValueError: features that are not a matrix of floating-point numbers.
        """
        if not hasattr(features, "ndim"):
            features = np.asarray(features)
        if features.ndim != 2:
            raise ValueError(
                f"features must be (n, p), one row a sample, got shape {features.shape}"
            )
        if not jnp.issubdtype(features.dtype, jnp.floating):
            raise ValueError(
                f"features must be floating-point numbers, got {features.dtype}"
            )
        if features.dtype.itemsize < 4:
            features = features.astype(np.float32)
        on_host = isinstance(features, np.ndarray) or all(
            device.platform == "cpu" for device in features.devices()
        )
        self._matrix = np.asarray(features) if on_host else features
        self._on_host = on_host
        self.count, self.size = features.shape
        self.dtype = np.dtype(features.dtype)

    def forward(self, weights: np.ndarray) -> np.ndarray:
        """`features @ weights` in the precision of the features."""
        weights = weights.astype(self.dtype)
        if self._on_host:
            return np.asarray(self._matrix @ weights).astype(np.float64)
        return np.asarray(_forward(self._matrix, weights)).astype(np.float64)

    def adjoint(self, duals: np.ndarray) -> np.ndarray:
        """`features.T @ duals` in the precision of the features."""
        duals = duals.astype(self.dtype)
        if self._on_host:
            return np.asarray(self._matrix.T @ duals).astype(np.float64)
        return np.asarray(_adjoint(self._matrix, duals)).astype(np.float64)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The chosen rows, on the host."""
        return np.asarray(self._matrix[index])

    def _blocks(self, axis: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices along an axis as float64 blocks of bounded size."""
        length, other = self._matrix.shape[axis], self._matrix.shape[1 - axis]
        largest = _ROWS_BYTES if axis == 0 and self._on_host else _BLOCK_BYTES
        width = max(1, largest // (8 * max(other, 1)))
        for start in range(0, length, width):
            part = slice(start, min(start + width, length))
            block = self._matrix[part] if axis == 0 else self._matrix[:, part]
            yield part, np.asarray(block).astype(np.float64)

    def exact_forward(self, weights: np.ndarray) -> np.ndarray:
        """`features @ weights` in float64."""
        return np.concatenate([block @ weights for _, block in self._blocks(0)])

    def exact_adjoint(self, duals: np.ndarray) -> np.ndarray:
        """`features.T @ duals` in float64."""
        total = np.zeros((self.size, duals.shape[1]))
        for part, block in self._blocks(0):
            total += block.T @ duals[part]
        return total

    def gram(self) -> np.ndarray:
        """`features @ features.T` in float64."""
        total = np.zeros((self.count, self.count))
        for _, block in self._blocks(1):
            total += block @ block.T
        return total

    def exact_norms(self) -> np.ndarray:
        """Norm of each row in float64."""
        norms = [np.linalg.norm(block, axis=1) for _, block in self._blocks(0)]
        return np.concatenate(norms)

    def squared_norms(self) -> np.ndarray:
        """Squared norm of each row."""
        if not self._on_host:
            return np.asarray(_squared_norms(self._matrix)).astype(np.float64)
        return np.einsum("ij,ij->i", self._matrix, self._matrix).astype(np.float64)

    def finite(self) -> bool:
        """Whether every entry is finite."""
        if not self._on_host:
            return bool(jnp.all(jnp.isfinite(self._matrix)))
        rows = max(1, _BLOCK_BYTES // (4 * max(self.size, 1)))
        return all(
            bool(np.isfinite(self._matrix[start : start + rows]).all())
            for start in range(0, self.count, rows)
        )
