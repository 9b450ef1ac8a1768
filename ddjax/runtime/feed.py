"""A method's data on the device, and rows of what stays on the host, chunk by chunk."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from ddjax.data.batches import gather, host_batch_indices
from ddjax.data.problem import Split
from ddjax.methods.base import HostRows

__all__ = ["Feed", "feed_data", "host_rows", "rows_bytes", "with_rows"]


class Feed(NamedTuple):
    """What `Method.prepare` returned, taken apart by where it lives.

    Attributes:
      structure: of the whole, `HostRows` counting as one leaf.
      device: leaves on the device, by position.
      host: `HostRows`, by position.
    """

    structure: Any
    device: dict[str, Array]
    host: dict[str, HostRows]


def feed_data(data: PyTree) -> Feed:
    """Puts everything in `data` on the device except its `HostRows`."""
    leaves, structure = jax.tree.flatten(
        data, is_leaf=lambda node: isinstance(node, HostRows)
    )
    named = {str(position): leaf for position, leaf in enumerate(leaves)}
    host = {name: leaf for name, leaf in named.items() if isinstance(leaf, HostRows)}
    device = {name: leaf for name, leaf in named.items() if name not in host}
    return Feed(structure, jax.device_put(device), host)


def rows_bytes(feed: Feed) -> int:
    """Bytes of the rows of one step."""
    return sum(
        rows.batch_size * array.nbytes // len(array)
        for rows in feed.host.values()
        for array in rows.split
        if array is not None
    )


def host_rows(
    feed: Feed, *, seed: int, start: int, length: int, capacity: int
) -> dict[str, Split]:
    """The rows of steps `start ... start + length - 1`, leading axis `capacity`.

    Returns:
      Host arrays; what is beyond `length` is zero.
    """
    steps = {}
    for name, rows in feed.host.items():
        fed = [
            gather(
                rows.split,
                host_batch_indices(
                    seed, start + i, rows.batch_size, len(rows.split.inputs)
                ),
            )
            for i in range(max(length, 1))
        ]
        steps[name] = jax.tree.map(
            lambda *parts: _stacked(parts, capacity), *(Split(*each) for each in fed)
        )
    return steps


def with_rows(
    feed: Feed, device: dict[str, Array], rows: dict[str, Split]
) -> PyTree[Array]:
    """The method's data again, with one step's rows in place of the `HostRows`."""
    named = {**device, **rows}
    leaves = [named[str(position)] for position in range(len(named))]
    return jax.tree.unflatten(feed.structure, leaves)


def _stacked(parts: tuple[np.ndarray, ...], capacity: int) -> np.ndarray:
    out = np.zeros((capacity, *parts[0].shape), parts[0].dtype)
    for index, part in enumerate(parts):
        out[index] = part
    return out
