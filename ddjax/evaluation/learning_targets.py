"""What a learner is given to fit: a set's stored targets in the units of its loss.

A distilled set stores targets of one kind; a learner's loss wants targets of one kind.
Where the two differ, these rules translate (c classes, class 1 of two is positive):

====================  ================  ===================  ==========================
stored                binary margins    one-vs-rest margins  probabilities
====================  ================  ===================  ==========================
`margin` (m,)         y                 refused              (1 - p, p), p = (1 + y)/2
                                                             clipped to [0, 1]
`margin` (m, c)       (y_1 - y_0)/2     y                    (1 + y)/2 projected
`scores` (m, c)       s_1 - s_0         2 (s + 1/c) - 1      s + 1/c projected
`probabilities`       p_1 - p_0         2 p - 1              p
====================  ================  ===================  ==========================

"Projected" is the Euclidean projection of each row onto the simplex. Every rule takes
the target of a hard label to the target of the same hard label: centred one-hot scores
to ±1 and to one-hot.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.kernels import losses
from ddjax.synthetic import targets as synthetic_targets
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["as_stored", "hard_targets", "margins", "natural_targets", "probabilities"]

_CLASS_KINDS = ("scores", "margin", "probabilities")


def margins(distilled: DistilledSet, classes: int) -> Float[Array, "m *c"]:
    """Real-valued labels for a margin loss: `(m,)` for two classes, else `(m, c)`.

    Raises:
      ValueError: targets from which no margins follow.
    """
    targets, kind = _class_targets(distilled, classes)
    if kind == "margin":
        if targets.ndim == 1:
            return targets
        return 0.5 * (targets[:, 1] - targets[:, 0]) if classes == 2 else targets
    if classes == 2:
        return targets[:, 1] - targets[:, 0]
    centred = targets + 1.0 / classes if kind == "scores" else targets
    return 2.0 * centred - 1.0


def probabilities(distilled: DistilledSet, classes: int) -> Float[Array, "m c"]:
    """Class probabilities, for a multiclass loss.

    Raises:
      ValueError: targets from which no probabilities follow, or stored probabilities
        that are none.
    """
    targets, kind = _class_targets(distilled, classes)
    if kind == "probabilities":
        off = float(jnp.max(jnp.abs(targets.sum(axis=1) - 1.0)))
        if float(targets.min()) < -1e-4 or off > 1e-3:
            raise ValueError(
                "the set's targets are called probabilities, but they reach down to "
                f"{float(targets.min()):g} and their rows sum to 1 only within {off:g}"
            )
        return _project(targets)
    if targets.ndim == 1:
        positive = jnp.clip(0.5 * (1.0 + targets), 0.0, 1.0)
        return jnp.stack([1.0 - positive, positive], axis=1)
    one_hot = targets + 1.0 / classes if kind == "scores" else 0.5 * (1.0 + targets)
    return _project(one_hot)


def as_stored(distilled: DistilledSet) -> Float[Array, "m *c"]:
    """The targets themselves, for a squared or other regression loss.

    Raises:
      ValueError: representations, which are no outputs of a classifier or regressor.
    """
    if distilled.targets_kind == "representation":
        raise ValueError(
            "targets of kind 'representation' name no class and no regression target; "
            "probe what a network pretrained on them has learned instead"
        )
    return jnp.asarray(distilled.targets, jnp.float32)


def hard_targets(
    labels: Int[Array | ndarray, " n"], loss: losses.Loss, classes: int
) -> Float[Array, "n *c"]:
    """Hard labels in the units of a loss: signs, one-vs-rest signs or one-hot.

    A regression loss gets centred one-hot targets.
    """
    if loss.kind == "multiclass":
        return synthetic_targets.one_hot(labels, classes)
    if loss.kind == "regression":
        return synthetic_targets.centred_one_hot(labels, classes)
    if classes == 2:
        return synthetic_targets.signs(labels)
    return synthetic_targets.one_vs_rest(labels, classes)


def natural_targets(
    labels: Int[Array | ndarray, " n"], distilled: DistilledSet, classes: int
) -> Float[Array, "n *c"]:
    """What the real labels would be in the units of the set's stored targets."""
    kind, columns = distilled.targets_kind, jnp.ndim(distilled.targets)
    if kind == "scores":
        return synthetic_targets.centred_one_hot(labels, classes)
    if kind == "probabilities":
        return synthetic_targets.one_hot(labels, classes)
    if columns == 2 and jnp.shape(distilled.targets)[1] > 1:
        return synthetic_targets.one_vs_rest(labels, classes)
    signs = synthetic_targets.signs(labels, classes)
    return signs.reshape(-1, *(1,) * (columns - 1))


def _class_targets(distilled: DistilledSet, classes: int) -> tuple[Array, str]:
    """The targets of a classification set, binary margins as a vector."""
    kind = distilled.targets_kind
    if kind not in _CLASS_KINDS:
        raise ValueError(
            f"targets of kind {kind!r} cannot train a classifier; kinds that can: "
            f"{', '.join(_CLASS_KINDS)}"
        )
    targets = jnp.asarray(distilled.targets, jnp.float32)
    if kind == "margin" and targets.shape[1:] in ((), (1,)):
        if classes != 2:
            raise ValueError(
                f"the set stores one margin a sample, which tells 2 classes apart, but "
                f"the problem has {classes} classes"
            )
        return targets.reshape(-1), kind
    if targets.ndim != 2 or targets.shape[1] != classes:
        raise ValueError(
            f"{kind} targets have shape {targets.shape}; the problem's {classes} "
            f"classes need (m, {classes})"
        )
    return targets, kind


def _project(points: Float[Array, "m c"]) -> Float[Array, "m c"]:
    # The dual domain of the softmax at a zero target is the simplex itself.
    return losses.softmax().feasible(jnp.zeros_like(points), points)
