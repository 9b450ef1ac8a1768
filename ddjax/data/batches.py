"""Batches for data that stay on the host: stateless, exact to resume."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ddjax.data.problem import Split

__all__ = ["HostBatch", "gather", "host_batch_indices", "permuted"]

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class HostBatch(NamedTuple):
    """Rows of a split, on the host.

    Attributes:
      inputs: `(batch_size, *shape)`.
      targets: the same rows of the targets, or None.
    """

    inputs: Float[ndarray, "b *shape"]
    targets: Any


def host_batch_indices(
    seed: int, step: int, batch_size: int, n: int
) -> Int[ndarray, " batch_size"]:
    """Which samples a step looks at: a function of (seed, step) and nothing else.

    The steps walk through epoch after epoch of `n` samples; within an epoch the order
    is a keyed permutation (`permuted`), so every sample is seen exactly once an epoch.
    A batch that runs over the end of an epoch continues with the next one, and may
    then hold a sample twice. There is no state to save: a resumed run asks for its
    step's indices again. Cost is proportional to `batch_size`, not to `n`.

    Args:
      seed: the run's seed, >= 0.
      step: the step, >= 0.
      batch_size: how many indices, >= 1.
      n: number of samples, >= 1.

    Returns:
      Indices in `range(n)`, int64.

    Raises:
      ValueError: an argument out of range.
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("step", step, 0),
        ("batch_size", batch_size, 1),
        ("n", n, 1),
    ):
        if value < least:
            raise ValueError(f"{name}={value}; it must be at least {least}")
    positions = int(step) * int(batch_size) + np.arange(batch_size, dtype=np.int64)
    epochs, offsets = np.divmod(positions, n)
    return permuted(offsets, n, seed=seed, stream=epochs)


def permuted(
    positions: Int[ndarray, " b"],
    n: int,
    *,
    seed: int,
    stream: int | Int[ndarray, " b"] = 0,
) -> Int[ndarray, " b"]:
    """Images of some positions under a keyed pseudo-random permutation of `range(n)`.

    An eight-round Feistel network over the next even power of two, walked along its
    cycle until it falls below `n` (Black and Rogaway, 2002); the round function is the
    finaliser of SplitMix64. Good for sampling, not for cryptography.

    Args:
      positions: in `range(n)`.
      n: size of the set, >= 1.
      seed: the key, >= 0.
      stream: a second key, for all positions or one each, for example the epoch.

    Returns:
      Distinct values in `range(n)` for distinct positions of one stream, int64.
    """
    half = np.uint64(max(1, (int(n - 1).bit_length() + 1) // 2))
    streams = np.broadcast_to(np.asarray(stream, np.uint64), positions.shape)
    with np.errstate(over="ignore"):
        keys = _mixed(_mixed(np.uint64(seed % 2**64) + _GOLDEN) ^ _mixed(streams))
    values = _feistel(positions.astype(np.uint64), keys, half)
    outside = values >= np.uint64(n)
    while outside.any():
        values[outside] = _feistel(values[outside], keys[outside], half)
        outside = values >= np.uint64(n)
    return values.astype(np.int64)


def gather(split: Split, indices: Int[ndarray, " b"]) -> HostBatch:
    """Rows of a split whose arrays are on the host (or memory-mapped).

    Files are read in ascending order of position, whatever the order asked for.

    Args:
      split: a split with host arrays.
      indices: which rows, in the order wanted.

    Returns:
      The rows, copied.
    """
    order = np.argsort(indices, kind="stable")
    back = np.argsort(order, kind="stable")
    inputs = np.asarray(split.inputs[indices[order]])[back]
    targets = None if split.targets is None else np.asarray(split.targets)[indices]
    return HostBatch(inputs, targets)


def _feistel(values: ndarray, keys: ndarray, half: np.uint64) -> ndarray:
    """One pass: a bijection of `range(2 ** (2 * half))` for every key."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for turn in range(_ROUNDS):
        with np.errstate(over="ignore"):
            mixed = _mixed(keys + np.uint64(turn + 1) * _GOLDEN ^ right)
        left, right = right, left ^ (mixed & mask)
    return (left << half) | right


def _mixed(words: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014) on uint64 words."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
