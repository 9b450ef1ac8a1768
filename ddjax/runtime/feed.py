"""A method's data on the device, and the rows of each step, made ready in advance."""

import collections
import concurrent.futures
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from ddjax.data.feed import Batches, gather, on_device, rows_of_step
from ddjax.data.problem import Split

__all__ = [
    "Feed",
    "RowReader",
    "feed_data",
    "no_rows",
    "rows_bytes",
    "with_rows",
]

# Steps whose rows are made ready before they are asked for, and threads that do it:
# decoding images lets go of Python's lock.
_STEPS_AHEAD = 64
_THREADS = 2


class Feed(NamedTuple):
    """What `Method.prepare` returned, taken apart by where it lives.

    Attributes:
      structure: of the whole, `Batches` counting as one leaf.
      device: leaves on the device, by position; of `Batches` on the device, the split.
      batches: `Batches`, by position.
    """

    structure: Any
    device: dict[str, Any]
    batches: dict[str, Batches]


def feed_data(data: PyTree) -> Feed:
    """Puts everything in `data` on the device except `Batches` of host arrays."""
    leaves, structure = jax.tree.flatten(data, is_leaf=_is_batches)
    named = {str(position): leaf for position, leaf in enumerate(leaves)}
    batches = {name: leaf for name, leaf in named.items() if _is_batches(leaf)}
    device = {
        name: leaf.split if _is_batches(leaf) else leaf
        for name, leaf in named.items()
        if not _is_batches(leaf) or on_device(leaf.split)
    }
    return Feed(structure, jax.device_put(device), batches)


def _is_batches(node: Any) -> bool:
    return isinstance(node, Batches)


def rows_bytes(feed: Feed) -> int:
    """Bytes that one step's rows take on their way to the device."""
    return sum(each.nbytes for each in jax.tree.leaves(no_rows(feed, 1)))


def no_rows(feed: Feed, capacity: int) -> dict[str, Any]:
    """Arrays of the shapes of `capacity` steps' rows, holding nothing."""
    empty = {}
    for name, rows in feed.batches.items():
        shape = (capacity, rows.batch_size)
        empty[name] = np.zeros(shape, np.int32)
        if not on_device(rows.split):
            # Nothing is read: what a row is like is known of the whole.
            empty[name] = jax.tree.map(
                lambda each, of=shape: np.zeros((*of, *each.shape[1:]), each.dtype),
                rows.split,
            )
    return empty


def with_rows(feed: Feed, device: dict[str, Any], rows: dict[str, Any]) -> PyTree:
    """The method's data again, with one step's rows in place of `Batches`.

    Args:
      feed: says what goes where.
      device: `feed.device`.
      rows: by position, one step's rows as `RowReader.take` stacks them: a `Split` of
        rows that came from the host, positions of rows that are on the device.
    """
    named = dict(device)
    for name, found in rows.items():
        if not isinstance(found, Split):
            positions = found
            found = jax.tree.map(lambda each, at=positions: each[at], device[name])
        named[name] = found
    leaves = [named[str(position)] for position in range(len(named))]
    return jax.tree.unflatten(feed.structure, leaves)


class RowReader:
    """Makes the rows of coming steps ready while the device computes.

    What it returns is a function of the seed and the step alone.
    """

    def __init__(self, feed: Feed, *, seed: int, capacity: int, steps: int):
        """Reads for a run of `steps` steps, at most `capacity` of them at a time."""
        self._feed, self._seed = feed, seed
        self._capacity, self._steps = capacity, steps
        self._ahead = min(_STEPS_AHEAD, 2 * capacity)
        self._ready: collections.deque[Any] = collections.deque()
        self._first = 0
        self._pool = None
        if feed.batches:
            self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)

    def take(self, start: int, length: int) -> dict[str, Any]:
        """The rows of steps `start ... start + length - 1`, on the host.

        Their leading axis is `capacity`; what is beyond `length` is zero.
        """
        if self._pool is None:
            return {}
        if self._first != start:
            self._cancel()
            self._first = start
        self._read_ahead(length)
        parts = [self._ready.popleft().result() for _ in range(length)]
        self._first += length
        self._read_ahead(self._ahead)
        return {
            name: jax.tree.map(
                lambda *each: self._stacked(each), *(part[name] for part in parts)
            )
            for name in self._feed.batches
        }

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._cancel()
            self._pool.shutdown()

    def _read_ahead(self, count: int) -> None:
        assert self._pool is not None
        for step in range(self._first + len(self._ready), self._first + count):
            if step < self._steps:
                self._ready.append(self._pool.submit(self._rows_at, step))

    def _rows_at(self, step: int) -> dict[str, Any]:
        return {
            name: _rows(rows, seed=self._seed, step=step)
            for name, rows in self._feed.batches.items()
        }

    def _cancel(self) -> None:
        for future in self._ready:
            future.cancel()
        self._ready.clear()

    def _stacked(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        out = np.zeros((self._capacity, *parts[0].shape), parts[0].dtype)
        for index, part in enumerate(parts):
            out[index] = part
        return out


def _rows(rows: Batches, *, seed: int, step: int) -> Split | Array | np.ndarray:
    chosen = rows_of_step(rows, seed=seed, step=step)
    if on_device(rows.split):
        return chosen.astype(np.int32)
    return gather(rows.split, chosen)
