"""Who goes where: stratified, seeded, and the same on every machine and version."""

import numpy as np

from ddjax.data.errors import DataError

__all__ = ["hold_out", "keep_at_most", "ordering"]


def ordering(seed: int, purpose: int, count: int) -> np.ndarray:
    """A seeded random order of `range(count)`.

    Sorting raw Philox words instead of calling a `Generator`: NumPy promises the bit
    stream for ever, and the streams of `Generator` methods only for a version.

    Args:
      seed: the user's seed, from 0 to 2**64 - 1.
      purpose: a second key, so that draws of one seed differ.
      count: how many.

    Returns:
      A permutation, `(count,)` int64.
    """
    key = np.array([seed, purpose], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(count)
    return np.argsort(words, kind="stable")


def hold_out(
    labels: np.ndarray | None,
    count: int,
    fraction: float,
    *,
    seed: int,
    purpose: int,
    where: str,
    class_names: tuple[str, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts `fraction` of the samples out, class by class where there are classes.

    Every class gives its share to within one sample, never less than one and never
    all.

    Args:
      labels: `(count,)` in `range(len(class_names))`; None: no strata.
      count: number of samples.
      fraction: the part held out, in (0, 1).
      seed: the seed.
      purpose: a second key, so that draws of one seed differ.
      where: what is cut, for messages.
      class_names: one name per label.

    Returns:
      Sorted indices kept and held out; together all of `range(count)`.

    Raises:
      DataError: a class (or the whole) of fewer than two samples.
    """
    strata, names = _strata(labels, count, class_names)
    sizes = np.bincount(strata, minlength=len(names))
    for name, size in zip(names, sizes, strict=True):
        if size < 2:
            raise DataError(
                f"{where}: {name} has {size} sample(s); at least 2 are needed to hold "
                "some out"
            )
    quota = _apportion(sizes, fraction * count)
    held = _first_of_each(strata, np.clip(quota, 1, sizes - 1), seed, purpose)
    return np.flatnonzero(~held), np.flatnonzero(held)


def keep_at_most(
    labels: np.ndarray | None,
    count: int,
    limit: int,
    *,
    least: int,
    seed: int,
    purpose: int,
    where: str,
    class_names: tuple[str, ...] | None = None,
) -> np.ndarray:
    """Keeps at most `limit` samples, in the proportions of the classes.

    There are at least `least` of each class; the other arguments are as in `hold_out`.

    Returns:
      Sorted indices.

    Raises:
      DataError: `limit` below `least` a class.
    """
    if limit >= count:
        return np.arange(count)
    strata, names = _strata(labels, count, class_names)
    if limit < least * len(names):
        raise DataError(
            f"{where}: limit={limit} cannot hold {least} sample(s) of each of "
            f"{len(names)} classes; it must be at least {least * len(names)}"
        )
    sizes = np.bincount(strata, minlength=len(names))
    quota = _apportion(sizes, float(limit))
    taken = np.clip(quota, np.minimum(least, sizes), sizes)
    while taken.sum() > limit:
        surplus = np.where(taken > least, taken - limit * sizes / count, -np.inf)
        taken[np.argmax(surplus)] -= 1
    return np.flatnonzero(_first_of_each(strata, taken, seed, purpose))


def _strata(labels, count, class_names):
    if labels is None or class_names is None:
        return np.zeros(count, dtype=np.int64), ("the data",)
    return labels, tuple(f"class {name!r}" for name in class_names)


def _apportion(sizes: np.ndarray, total: float) -> np.ndarray:
    """Largest-remainder shares of `round(total)`, each within one of the exact."""
    exact = sizes * (total / sizes.sum())
    shares = np.floor(exact).astype(np.int64)
    missing = round(total) - int(shares.sum())
    largest = np.argsort(shares - exact, kind="stable")
    shares[largest[:missing]] += 1
    return shares


def _first_of_each(strata, taken, seed, purpose) -> np.ndarray:
    """Mask of the first `taken[c]` samples of stratum `c` in a random order."""
    order = ordering(seed, purpose, len(strata))
    by_stratum = order[np.argsort(strata[order], kind="stable")]
    sizes = np.bincount(strata, minlength=len(taken))
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(strata)) - np.repeat(starts, sizes)
    mask = np.zeros(len(strata), dtype=bool)
    mask[by_stratum] = rank < np.repeat(taken, sizes)
    return mask
