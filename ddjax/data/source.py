"""What a source of data hands to `load`: labels at once, inputs on request."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.columns import Columns

__all__ = ["LazyRows", "Source", "identities", "rows_of_array"]


class LazyRows(NamedTuple):
    """One part of a data set, its inputs not read yet.

    Attributes:
      count: number of samples.
      labels: `(count,)` integer classes, or None where there are no classes.
      targets: `(count, c)` floats to fit, or None where there are none.
      read: sorted integer indices -> raw inputs `(len(indices), *shape)`.
      where: the file, folder or argument it comes from, for messages.
      identity: what tells the files of the samples at these positions from others
        without reading them (names, sizes, times of change), None where inputs are
        not read file by file.
    """

    count: int
    labels: np.ndarray | None
    targets: np.ndarray | None
    read: Callable[[np.ndarray], np.ndarray]
    where: str
    identity: Callable[[np.ndarray], bytes] | None = None


class Source(NamedTuple):
    """A data set as its files hold it.

    Attributes:
      train: the official training data.
      validation: the official validation data; None: held out of `train`.
      test: the official test data; None: there is none, `load` cuts it out of `train`.
      class_names: one name per label; None where there are no labels.
      unit: natural inputs are raw inputs divided by this (255 for bytes).
      origin: where it came from (JSON-able; no paths of this machine, since it is
        stored with results).
      columns: names and units of the columns of a table, or None.
    """

    train: LazyRows
    validation: LazyRows | None
    test: LazyRows | None
    class_names: tuple[str, ...] | None
    unit: float
    origin: dict[str, Any]
    columns: Columns | None = None


def rows_of_array(
    inputs: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    where: str,
) -> LazyRows:
    """Rows over an array (or memory map) `(n, *shape)` that is there already."""
    count = len(inputs)
    return LazyRows(count, labels, targets, lambda indices: inputs[indices], where)


def identities(files: Iterable[Path], root: Path) -> bytes:
    """Names below `root`, sizes and times of change: see `LazyRows.identity`."""
    known = []
    for path in files:
        facts = path.stat()
        name = path.relative_to(root).as_posix()
        known.append([name, facts.st_size, facts.st_mtime_ns])
    return json.dumps(known).encode()
