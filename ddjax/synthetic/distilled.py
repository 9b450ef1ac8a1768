"""The noun `DistilledSet`: what a distillation run leaves behind."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing
from ddjax.synthetic.parameterization import Parameterization

__all__ = [
    "DistilledSet",
    "decoded_inputs",
    "natural_inputs",
    "natural_regression_targets",
]


class DistilledSet(NamedTuple):
    """A few synthetic samples, and everything needed to use them.

    Attributes:
      stored: the stored numbers, name -> array (what the storage budget counts).
      parameterization: how `stored` becomes inputs.
      targets: `(m, c)` or `(m,)` float32: what a learner should fit on them.
      targets_kind: `scores` (real-valued, one column a class; argmax is the class),
        `margin` (binary, sign is the class: > 0 means class 1), `probabilities`,
        `regression` or `representation`.
      labels: the class each sample was initialised from, `(m,)` int32, or None.
      preprocessing: the map from natural to preprocessed inputs that the samples live
        behind; its inverse brings them back.
      class_names: one name per class, or None.
      provenance: method, full config, seeds, versions, the source data's fingerprint
        (JSON-able).
      certificate: what is guaranteed about the set (JSON-able numbers), or None.
      targets_preprocessing: for regression, the map from natural to preprocessed
        targets; None: targets are in natural units, or are none of regression.
      columns: names and units of a table's columns, or None.
    """

    stored: dict[str, Float[Array | ndarray, "..."]]
    parameterization: Parameterization
    targets: Float[Array | ndarray, "m *c"]
    targets_kind: str
    labels: Any
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    provenance: dict[str, Any]
    certificate: dict[str, Any] | None = None
    targets_preprocessing: Preprocessing | None = None
    columns: Columns | None = None


def decoded_inputs(distilled: DistilledSet) -> Float[Array, "m *shape"]:
    """The samples in preprocessed space, ready for a learner."""
    stored = {name: jnp.asarray(array) for name, array in distilled.stored.items()}
    return distilled.parameterization.decode(stored)


def natural_inputs(distilled: DistilledSet) -> Float[Array, "m *shape"]:
    """The samples in the data's own units (images in [0, 1] up to clipping)."""
    inputs = preprocess.invert(distilled.preprocessing, decoded_inputs(distilled))
    return jnp.asarray(inputs)


def natural_regression_targets(distilled: DistilledSet) -> Float[Array, "m c"]:
    """Regression targets in the data's own units.

    Raises:
      ValueError: targets of another kind.
    """
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"targets of kind {distilled.targets_kind!r} have no natural units; only "
            "those of kind 'regression' have"
        )
    targets = jnp.asarray(distilled.targets)
    targets = targets.reshape(targets.shape[0], -1)
    if distilled.targets_preprocessing is None:
        return targets
    return jnp.asarray(preprocess.invert(distilled.targets_preprocessing, targets))
