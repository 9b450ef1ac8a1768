"""The noun `Problem`: the real data as a distillation method sees it."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing

__all__ = ["Problem", "Split"]


class Split(NamedTuple):
    """Inputs and what is known about them.

    Attributes:
      inputs: preprocessed inputs, images NHWC `(n, h, w, c)` or features `(n, d)`,
        float32. On device when they fit, else a host array (memory map allowed), or
        `ddjax.data.stored.StoredInputs`.
      targets: `int32` labels `(n,)` for classification, preprocessed `float32`
        `(n, c)` for regression, None for unlabelled data.
    """

    inputs: Float[Array | ndarray, "n *shape"]
    targets: Int[Array | ndarray, " n"] | Float[Array | ndarray, "n c"] | None


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
