"""Real data past a compiled function, a block at a time."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

__all__ = ["in_blocks"]


def in_blocks(
    function: Callable[[Array], Array],
    inputs: Float[Array | ndarray, "n *shape"],
    *,
    block: int,
) -> ndarray:
    """Applies a jitted function to blocks of rows and gathers the results.

    Every block has the same shape (the last is padded with zeros), so that the function
    compiles once; one block and the gathered results are all that is ever held.

    Args:
      function: `(block, *shape) -> (block, *result)`, row by row.
      inputs: on device, in memory, or a memory map.
      block: rows a block.

    Returns:
      `(n, *result)` on the host.

    Raises:
      ValueError: no inputs.
    """
    gathered = None
    block = min(block, len(inputs))
    for start in range(0, len(inputs), block):
        rows = jnp.asarray(inputs[start : start + block], jnp.float32)
        count = rows.shape[0]
        padding = ((0, block - count),) + ((0, 0),) * (rows.ndim - 1)
        found = np.asarray(function(jnp.pad(rows, padding)))
        if gathered is None:
            gathered = np.empty((len(inputs), *found.shape[1:]), found.dtype)
        gathered[start : start + count] = found[:count]
    if gathered is None:
        raise ValueError("there are no inputs")
    return gathered
