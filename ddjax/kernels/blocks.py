"""Evaluation over more inputs than fit at once, block by block.

Inputs and results stay on the host (they may be memory-mapped files); the device holds
two blocks at a time. Every block has the same shape, the last one being padded, so that
one compilation serves them all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import core
from jaxtyping import Array, Shaped

from ddjax.kernels.precision import gram

__all__ = ["feature_gram_in_blocks", "gram_in_blocks", "map_in_blocks"]

Rows = Shaped[Array, "n ..."] | Shaped[np.ndarray, "n ..."]
Columns = Shaped[Array, "m ..."] | Shaped[np.ndarray, "m ..."]


def _check(block: int, **inputs: Any) -> None:
    if block < 1:
        raise ValueError(f"block is {block}, but at least 1 row is needed")
    for name, value in inputs.items():
        if value.ndim < 1 or value.shape[0] < 1:
            raise ValueError(f"{name} has shape {value.shape}: there is no row in it")


def _blocks(inputs: Rows, block: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Where each block belongs, and its rows; the last row fills the last block."""
    for start in range(0, inputs.shape[0], block):
        rows = np.asarray(inputs[start : start + block])
        place = slice(start, start + rows.shape[0])
        missing = block - rows.shape[0]
        if missing:
            filler = np.broadcast_to(rows[-1:], (missing, *rows.shape[1:]))
            rows = np.concatenate([rows, filler])
        yield place, rows


def _output(out: np.ndarray | None, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, but the result has {shape}")
    return out


def _write(out: Any, rows: slice, columns: slice, block: np.ndarray) -> None:
    out[rows, columns] = block[: rows.stop - rows.start, : columns.stop - columns.start]


def _compiled(function: Callable[..., Array], *examples: Any) -> Callable[..., Array]:
    """Jits a function once, arrays that it closes over becoming arguments.

    Left to `jax.jit` those become constants of the compiled code: for networks of 300
    MB that takes many times as long to compile.
    """
    if hasattr(function, "lower"):
        return function
    closed = jax.make_jaxpr(function)(*examples)

    @jax.jit
    def evaluate(constants: list[Array], arguments: list[Array]) -> list[Array]:
        return core.eval_jaxpr(closed.jaxpr, constants, *arguments)

    return lambda *arguments: evaluate(closed.consts, jax.tree.leaves(arguments))[0]


def map_in_blocks(
    function: Callable[..., Array],
    inputs: Rows,
    *,
    block: int,
    arguments: Sequence[Any] = (),
) -> np.ndarray:
    """The rows of `function(*arguments, inputs)`, computed `block` rows at a time.

    >>> import numpy as np
    >>> map_in_blocks(lambda rows: 2 * rows, np.ones(5, np.float32), block=2)
    array([2., 2., 2., 2., 2.], dtype=float32)

    Args:
      function: takes `arguments` and then rows, and returns an array of as many rows,
        each of which depends only on its own input. Compiled once a call, or, when it
        is already jitted, as often as that needs.
      inputs: on the host or the device.
      block: rows at a time.
      arguments: passed on before the rows.

    Raises:
      ValueError: no rows, `block` below 1, or a result without one row per input.
    """
    _check(block, inputs=inputs)
    block = min(block, inputs.shape[0])
    compiled, waiting, out = None, None, None
    for place, rows in _blocks(inputs, block):
        compiled = compiled or _compiled(function, *arguments, rows)
        result = compiled(*arguments, rows)
        if waiting is None:
            if result.shape[:1] != (block,):
                raise ValueError(
                    f"function turned {block} rows into an array of {result.shape}"
                )
            out = np.empty((inputs.shape[0], *result.shape[1:]), result.dtype)
        else:
            # Copied out while the next block is being computed.
            _write_rows(out, *waiting)
        waiting = place, result
    assert waiting is not None and out is not None
    _write_rows(out, *waiting)
    return out


def _write_rows(out: Any, place: slice, result: Array) -> None:
    out[place] = np.asarray(result)[: place.stop - place.start]


def gram_in_blocks(
    kernel: Callable[..., Array],
    x1: Rows,
    x2: Columns | None = None,
    *,
    block: int,
    arguments: Sequence[Any] = (),
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The matrix `kernel(*arguments, x1, x2)`, in blocks of `block` by `block`.

    >>> import numpy as np
    >>> x = np.eye(3, dtype=np.float32)
    >>> gram_in_blocks(lambda a, b: a @ b.T, x, block=2).trace().item()
    3.0

    Args:
      kernel: takes `arguments`, rows of x1 and rows of x2. Compiled once a call.
      x1: inputs of the n rows.
      x2: inputs of the m columns. When None, or x1 itself, the kernel is taken to be
        symmetric and only half of the blocks are computed.
      block: rows and columns at a time.
      arguments: passed on first.
      out: where to write, for instance a `numpy.memmap`; a new array when None.

    Returns:
      `out`, (n, m).

    Raises:
      ValueError: no rows, `block` below 1, a kernel whose blocks have another shape, or
        an `out` of another shape.
    """
    return _gram(kernel, None, x1, x2, block=block, arguments=arguments, out=out)


def feature_gram_in_blocks(
    features: Callable[..., Array],
    x1: Rows,
    x2: Columns | None = None,
    *,
    block: int,
    arguments: Sequence[Any] = (),
    out: np.ndarray | None = None,
) -> np.ndarray:
    r"""The Gram :math:`\phi(x_1)^\top\phi(x_2)` of features that never exist together.

    The features of x1 are computed again for every block of x2: what is paid for memory
    that grows with neither. Who can hold n x p features is better served by computing
    them once with `map_in_blocks`.

    >>> import numpy as np
    >>> x = np.eye(3, dtype=np.float32)
    >>> feature_gram_in_blocks(lambda rows: 2 * rows, x, block=2).trace().item()
    12.0

    Args:
      features: takes `arguments` and rows, and returns (rows, p).
      x1: inputs of the n rows.
      x2: inputs of the m columns; x1 when None.
      block: rows and columns at a time.
      arguments: passed on first.
      out: where to write, for instance a `numpy.memmap`; a new array when None.

    Returns:
      `out`, (n, m).

    Raises:
      ValueError: no rows, `block` below 1, or an `out` of another shape.
    """

    def kernel(*operands: Any) -> Array:
        *before, rows, prepared = operands
        return gram(features(*before, rows), prepared)

    return _gram(kernel, features, x1, x2, block=block, arguments=arguments, out=out)


def _gram(kernel, prepare, x1, x2, *, block, arguments, out):
    """Blocks of kernel(rows of x1, rows of x2 after `prepare`)."""
    x2 = x1 if x2 is None else x2
    symmetric = x2 is x1
    _check(block, x1=x1, x2=x2)
    prepared_by, evaluate = None, None
    for columns, right in _blocks(x2, min(block, x2.shape[0])):
        if prepare is not None:
            prepared_by = prepared_by or _compiled(prepare, *arguments, right)
            right = prepared_by(*arguments, right)
        for rows, left in _blocks(x1, min(block, x1.shape[0])):
            if symmetric and rows.start < columns.start:
                continue
            evaluate = evaluate or _compiled(kernel, *arguments, left, right)
            values = np.asarray(evaluate(*arguments, left, right))
            if values.shape != (left.shape[0], right.shape[0]):
                raise ValueError(
                    f"kernel of {left.shape[0]} and {right.shape[0]} rows has shape "
                    f"{values.shape}"
                )
            if rows.start == 0 and columns.start == 0:
                out = _output(out, (x1.shape[0], x2.shape[0]), values.dtype)
            _write(out, rows, columns, values)
            if symmetric:
                _write(out, columns, rows, values.T)
    return out
