"""The noun `DistilledSet`: what a distillation run leaves behind."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem
from ddjax.synthetic.decoders.base import Decoder, Pairs, Stored

__all__ = [
    "DistilledSet",
    "decoded",
    "decoded_shapes",
    "distilled_set",
    "natural_inputs",
    "natural_regression_targets",
]


class DistilledSet(NamedTuple):
    """A few synthetic samples, and everything needed to use them.

    Attributes:
      stored: the stored numbers (what the storage budget counts), see
        `ddjax.synthetic.decoders.base.Stored`.
      decoder: how `stored` becomes pairs of inputs and targets.
      recipe: what a learner must know to train on them (JSON-able), part of the digest;
        keys are those of `ddjax.synthetic.checks.RECIPE`:
        `targets_kind`: `scores` (real-valued, one column a class; argmax is the class),
        `margin` (binary, sign is the class: > 0 means class 1), `probabilities`,
        `regression` or `representation`;
        `features`: what the learner sees inputs through
        (`ddjax.models.feature_maps.to_recipe`);
        `loss`: `{"name": ..., settings}` in `ddjax.kernels.losses`;
        `ridge`: `{"strength": ..., "convention": ...}`, see `ddjax.kernels.ridge`;
        `real_ridge`: lambda per sample of the problem on the real data;
        `inner`: the training that the samples were made for: of distilled regression,
        or SGD with its `step_sizes` or `learning_rate`;
        `encoders`, `probe`, `augmentation`: of sets for frozen encoders;
        `architecture`: of random networks that were drawn anew in every step;
        `teacher`: whose representations the targets are (`Encoder.setting`).
      labels: the class each sample was initialised from, `(m,)` int32, or None.
      preprocessing: the map from natural to preprocessed inputs that the samples live
        behind; its inverse brings them back.
      class_names: one name per class, or None.
      provenance: where the set comes from: method, settings, seed, versions, the source
        data's fingerprint (JSON-able); no part of the digest.
      certificate: what is guaranteed about the set (JSON-able numbers), or None.
      targets_preprocessing: for regression, the map from natural to preprocessed
        targets; None: targets are in natural units, or are not regression values.
      columns: names and units of a table's columns, or None.
    """

    stored: Stored
    decoder: Decoder
    recipe: dict[str, Any]
    labels: Any
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    provenance: dict[str, Any]
    certificate: dict[str, Any] | None = None
    targets_preprocessing: Preprocessing | None = None
    columns: Columns | None = None

    @property
    def targets_kind(self) -> str:
        """`recipe["targets_kind"]`."""
        return self.recipe["targets_kind"]


def distilled_set(
    stored: Stored,
    decoder: Decoder,
    problem: Problem,
    *,
    recipe: dict[str, Any],
    labels: Any = None,
) -> DistilledSet:
    """A set distilled from a problem; provenance and certificate are left empty.

    What belongs to regression targets (their preprocessing, the columns' names) is
    taken over only where the recipe says that targets are of that kind.
    """
    of_regression = recipe["targets_kind"] == "regression"
    return DistilledSet(
        stored=dict(stored),
        decoder=decoder,
        recipe=recipe,
        labels=labels,
        preprocessing=problem.preprocessing,
        class_names=problem.class_names,
        provenance={},
        targets_preprocessing=problem.targets_preprocessing if of_regression else None,
        columns=problem.columns if of_regression else None,
    )


def decoded(distilled: DistilledSet) -> Pairs:
    """Inputs in preprocessed space and targets, ready for a learner."""
    return distilled.decoder.decode(jax.tree.map(jnp.asarray, distilled.stored))


def decoded_shapes(distilled: DistilledSet) -> Pairs:
    """Shapes and dtypes of `decoded`, without decoding."""
    return jax.eval_shape(lambda: decoded(distilled))


def natural_inputs(distilled: DistilledSet) -> Float[ndarray, "m *shape"]:
    """The samples in the data's own units (images in [0, 1] up to clipping).

    On the host, and behind a preprocessing in float64, so that what varies about a
    large offset keeps its digits.
    """
    inputs = np.asarray(decoded(distilled).inputs)
    return np.asarray(preprocess.invert(distilled.preprocessing, inputs))


def natural_regression_targets(distilled: DistilledSet) -> Float[ndarray, "m c"]:
    """Regression targets in the data's own units, as in `natural_inputs`.

    Raises:
      ValueError: targets of another kind.
    """
    if distilled.targets_kind != "regression":
        raise ValueError(
            f"targets of kind {distilled.targets_kind!r} have no natural units; only "
            "those of kind 'regression' have"
        )
    targets = np.asarray(decoded(distilled).targets)
    targets = targets.reshape(targets.shape[0], -1)
    if distilled.targets_preprocessing is None:
        return targets
    return np.asarray(preprocess.invert(distilled.targets_preprocessing, targets))
