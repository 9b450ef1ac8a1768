"""The noun `Problem`: the real data as a distillation method sees it."""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing
from ddjax.storage.checksum import checksum

__all__ = ["Problem", "Split", "identity"]


class Split(NamedTuple):
    """Inputs and what is known about them.

    Attributes:
      inputs: preprocessed inputs, images NHWC `(n, h, w, c)` or features `(n, d)`,
        floats. On device when they fit, else a host array (memory map allowed), or
        `ddjax.data.stored.StoredInputs`.
      labels: `int32` class of each sample, `(n,)`, or None where there are no classes.
      targets: preprocessed floats `(n, c)` to fit, regression values or a teacher's
        representations, or None where there are none.
    """

    inputs: Float[Array | ndarray, "n *shape"]
    labels: Int[Array | ndarray, " n"] | None = None
    targets: Float[Array | ndarray, "n c"] | None = None


class Problem(NamedTuple):
    """Real data, split once: validation is held out of the training data.

    Attributes:
      name: the data set's registered name, e.g. `mnist`.
      train: what is distilled.
      validation: held out of the official training data; chooses everything.
      test: the official test data; read once, at the end.
      preprocessing: the invertible map from natural to preprocessed inputs, fitted on
        `train` only.
      class_names: one name per label, None when there are no classes.
      fingerprint: sha256 over the raw selected data and the split (hex).
      source: where the data came from and how it was cut (JSON-able).
      targets_preprocessing: for regression, the invertible map from natural to
        preprocessed targets, fitted on `train` only; None when there are classes.
      columns: names and units of the columns of a table, or None.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    fingerprint: str
    source: dict[str, Any]
    targets_preprocessing: Preprocessing | None = None
    columns: Columns | None = None

    @property
    def classes(self) -> int:
        """Number of classes (0 when there are none)."""
        return len(self.class_names or ())


def identity(problem: Problem) -> str:
    """Tells a problem from every other one that methods would see differently.

    The sha256 (hex) over the fingerprint, which covers the raw data and the split, over
    the preprocessing of inputs and targets, and over the precision of the inputs
    (float64 under x64).
    """
    parts: list[Any] = [problem.fingerprint, str(problem.train.inputs.dtype)]
    for each in (problem.preprocessing, problem.targets_preprocessing):
        if each is not None:
            arrays = {k: v for k, v in each._asdict().items() if k != "kind"}
            known = {k: np.asarray(v) for k, v in arrays.items() if v is not None}
            parts.append([each.kind, checksum(known)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
