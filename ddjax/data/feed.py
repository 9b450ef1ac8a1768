"""Batches of real data: which rows a step takes, wherever the data lie.

The rows of a step are a pure function of the run's seed and the step. There is no state
to save, a resumed run asks for its step's rows again, and data on the device, on the
host or in files give the same ones.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from numpy import ndarray

from ddjax.checks import check_counts
from ddjax.data.problem import Split

__all__ = [
    "Batches",
    "batches",
    "gather",
    "on_device",
    "permuted",
    "rows_of_step",
    "to_device",
]

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Batches(NamedTuple):
    """Real data of which every step takes some rows.

    A method's `data` may be one or hold several. In every step the loop draws rows
    (`rows_of_step`), gathers them where the data lie, and `sample` finds a `Split` of
    `batch_size` rows on the device in its place.

    `batches` makes them.

    Attributes:
      split: the data, on the device, on the host or in files.
      batch_size: rows a step, at most as many as there are.
      members: the rows of each class, where every class gives the same number of rows
        to a step; None where rows are drawn whatever their class.
    """

    split: Split
    batch_size: int
    members: tuple[Int[ndarray, " m"], ...] | None = None

    @property
    def balanced(self) -> bool:
        """Whether every class gives the same number of rows to a step."""
        return self.members is not None


def batches(
    split: Split, batch_size: int | None, *, balanced: bool = False
) -> Split | Batches:
    """Rows to draw from, or the whole split on the device where a step takes it all.

    Args:
      split: the data.
      batch_size: rows a step; None for all, and without `balanced` anything from as
        many as there are upwards.
      balanced: whether every class gives the same number of rows to a step;
        `batch_size` is then a multiple of the number of classes, and each class has at
        least its share.

    Raises:
      ValueError: a batch below 1 row, or one that cannot be balanced.
    """
    count = len(split.inputs)
    check_counts(batch_size=batch_size)
    if batch_size is None or (batch_size >= count and not balanced):
        return to_device(split)
    return Batches(split, batch_size, _members(split, batch_size) if balanced else None)


def on_device(split: Split) -> bool:
    """Whether the inputs are on the device."""
    return isinstance(split.inputs, jax.Array)


def to_device(split: Split) -> Split:
    """The split with all that it holds on JAX's default device."""
    return jax.tree.map(jnp.asarray, split)


def rows_of_step(rows: Batches, *, seed: int, step: int) -> Int[ndarray, " b"]:
    """Which rows a step takes: a function of (seed, step) and of the data's size.

    Uniform draws walk through epoch after epoch. Within an epoch of n rows the order is
    a keyed permutation (`permuted`), cut into `n // batch_size` batches; what is left
    over is not drawn in this epoch. So no batch holds a row twice, and no row is
    drawn twice in an epoch. Balanced draws do the same class by class, each class
    having epochs of its own. Cost is proportional to the batch, not to n.

    Args:
      rows: the data and how they are drawn from.
      seed: the run's seed, >= 0.
      step: the step, >= 0.

    Returns:
      Positions in the split, int64; balanced ones ordered by class.

    Raises:
      ValueError: an argument out of range.
    """
    for name, value in (("seed", seed), ("step", step)):
        if value < 0:
            raise ValueError(f"{name}={value}; it must be at least 0")
    if rows.members is None:
        return _draw(len(rows.split.inputs), rows.batch_size, seed=seed, step=step)
    share = rows.batch_size // len(rows.members)
    return np.concatenate(
        [
            places[_draw(len(places), share, seed=seed, step=step, stream=label + 1)]
            for label, places in enumerate(rows.members)
        ]
    )


def _members(split: Split, batch_size: int) -> tuple[ndarray, ...]:
    """The rows of each class, when a batch can be balanced."""
    if split.labels is None:
        raise ValueError("a balanced batch needs class labels, the split has none")
    labels = np.asarray(split.labels)
    classes = int(labels.max()) + 1
    if batch_size % classes:
        raise ValueError(
            f"a balanced batch of {batch_size} rows is no multiple of {classes} classes"
        )
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=classes))
    members = tuple(np.split(by_class, ends[:-1]))
    for label, places in enumerate(members):
        if len(places) < batch_size // classes:
            raise ValueError(
                f"class {label} has {len(places)} rows, fewer than the "
                f"{batch_size // classes} of a balanced batch"
            )
    return members


def _draw(n: int, size: int, *, seed: int, step: int, stream: int = 0) -> ndarray:
    """Distinct positions in `range(n)`: batch `step` of its epochs."""
    epoch, turn = divmod(int(step), max(1, n // size))
    positions = turn * size + np.arange(size, dtype=np.int64)
    return permuted(positions, n, seed=seed, stream=(stream << 40) + epoch)


def gather(split: Split, rows: Int[ndarray, " b"]) -> Split:
    """Rows of a split whose inputs are on the host or in files, copied.

    Files are read in ascending order of position, whatever the order asked for.
    """
    order = np.argsort(rows, kind="stable")
    back = np.argsort(order, kind="stable")
    inputs = np.asarray(split.inputs[rows[order]])[back]
    rest = (None if each is None else np.asarray(each[rows]) for each in split[1:])
    return Split(inputs, *rest)


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
