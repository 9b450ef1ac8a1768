"""What a source of data hands to `load`: labels now, inputs when they are asked for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.columns import Columns

__all__ = ["Rows", "Source", "rows_of_array"]


class Rows(NamedTuple):
    """One part of a data set, its inputs not read yet.

    Attributes:
      count: number of samples.
      targets: `(count,)` integer labels, `(count, c)` float targets, or None.
      read: sorted integer indices -> raw inputs `(len(indices), *shape)`.
      where: the file, folder or argument it comes from, for messages.
    """

    count: int
    targets: np.ndarray | None
    read: Callable[[np.ndarray], np.ndarray]
    where: str


class Source(NamedTuple):
    """A data set as its files hold it.

    Attributes:
      train: the official training data.
      validation: the official validation data; None: held out of `train`.
      test: the official test data; None: there is none, `load` cuts it out of `train`.
      class_names: one name per label, None for data without classes.
      unit: natural inputs are raw inputs divided by this (255 for bytes).
      origin: where it came from (JSON-able; no paths of this machine, since it is
        stored with results).
      columns: names and units of the columns of a table, or None.
    """

    train: Rows
    validation: Rows | None
    test: Rows | None
    class_names: tuple[str, ...] | None
    unit: float
    origin: dict[str, Any]
    columns: Columns | None = None


def rows_of_array(inputs: np.ndarray, targets: np.ndarray | None, where: str) -> Rows:
    """Rows over an array (or memory map) `(n, *shape)` that is there already."""
    return Rows(len(inputs), targets, lambda indices: inputs[indices], where)
