"""What a learner is given to fit: a set's stored targets in the units of its loss.

A distilled set stores targets of one kind; a learner's loss wants targets of one kind.
Where the two differ, both go through *indicators* t, `(m, c)`, in whose units a hard
label is one-hot (c classes, class 1 of two is positive):

=======================  ======================================================
stored                   indicators
=======================  ======================================================
`margin` y (m,)          ((1 - y)/2, (1 + y)/2)
`margin` y (m, c)        (1 + y)/2
`scores` s, centred      s + 1/c
`scores` s, signs        (1 + s)/2
`probabilities` p        p
=======================  ======================================================

Scores are centred (one-hot - 1/c, KIP's) or signs (+1 for the class, else -1,
one-vs-rest), whichever coding of their own largest columns they are closer to.

A margin loss gets `t_1 - t_0` for two classes, so that a stored binary margin comes
back as it was, and one-vs-rest `2 t - 1` for more. A multiclass loss gets the Euclidean
projection of each row of t onto the simplex. A regression loss gets what is stored.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.kernels import losses
from ddjax.kernels.losses import Loss
from ddjax.synthetic import targets as synthetic_targets

__all__ = [
    "as_stored",
    "for_loss",
    "margins",
    "natural_targets",
    "probabilities",
    "scores_are_signs",
]

_CLASS_KINDS = ("scores", "margin", "probabilities")


def for_loss(
    loss: Loss, targets: Float[Array | ndarray, "m *c"], kind: str, classes: int
) -> Float[Array, "m *k"]:
    """A set's stored targets in the units of a loss.

    Args:
      loss: the learner's.
      targets: as stored.
      kind: the set's `targets_kind`.
      classes: of the problem, 0 where there are none.

    Raises:
      ValueError: where they cannot be had.
    """
    if loss.kind == "regression":
        return as_stored(targets, kind)
    if classes == 0:
        raise ValueError(
            f"loss {loss.name!r} needs classes, but the problem has none; choose a "
            "regression loss"
        )
    if loss.kind == "margin":
        return margins(targets, kind, classes)
    return probabilities(targets, kind, classes)


def margins(
    targets: Float[Array | ndarray, "m *c"], kind: str, classes: int
) -> Float[Array, "m *k"]:
    """Real-valued labels for a margin loss: `(m,)` for two classes, else `(m, c)`.

    Arguments are those of `for_loss`.

    Raises:
      ValueError: targets from which no margins follow.
    """
    indicators = _indicators(targets, kind, classes)
    if classes == 2:
        return indicators[:, 1] - indicators[:, 0]
    return 2.0 * indicators - 1.0


def probabilities(
    targets: Float[Array | ndarray, "m *c"], kind: str, classes: int
) -> Float[Array, "m k"]:
    """Class probabilities, for a multiclass loss; arguments are those of `for_loss`.

    Raises:
      ValueError: targets from which no probabilities follow, or stored probabilities
        that are none.
    """
    indicators = _indicators(targets, kind, classes)
    if kind == "probabilities":
        low = float(indicators.min())
        off = float(jnp.max(jnp.abs(indicators.sum(axis=1) - 1.0)))
        if low < -1e-4 or off > 1e-3:
            raise ValueError(
                f"the set's targets are called probabilities, but reach down to "
                f"{low:g} and their rows miss the sum 1 by up to {off:g}"
            )
    # The dual domain of the softmax at a zero target is the simplex itself.
    return losses.softmax().feasible(jnp.zeros_like(indicators), indicators)


def as_stored(
    targets: Float[Array | ndarray, "m *c"], kind: str
) -> Float[Array, "m *c"]:
    """The targets themselves, for a squared or other regression loss.

    Raises:
      ValueError: representations, which are no outputs of a classifier or regressor.
    """
    if kind == "representation":
        raise ValueError(
            "targets of kind 'representation' name no class and no regression target; "
            "probe what a network pretrained on them has learned instead"
        )
    return jnp.asarray(targets)


def natural_targets(
    labels: Int[Array | ndarray, " n"],
    targets: Float[Array | ndarray, "m *c"],
    kind: str,
    classes: int,
) -> Float[Array, "n *k"]:
    """What real labels would be in the units of a set's stored targets.

    Arguments other than the labels are those of `for_loss`.
    """
    stored = jnp.asarray(targets)
    if kind == "probabilities":
        return synthetic_targets.one_hot(labels, classes)
    if stored.ndim == 1 or stored.shape[1] == 1:
        return synthetic_targets.signs(labels, classes).reshape(-1, *stored.shape[1:])
    if kind == "margin" or scores_are_signs(stored):
        return synthetic_targets.one_vs_rest(labels, classes)
    return synthetic_targets.centred_one_hot(labels, classes)


def _indicators(
    targets: Float[Array | ndarray, "m *c"], kind: str, classes: int
) -> Float[Array, "m k"]:
    """Stored targets in the units in which hard labels are one-hot."""
    if kind not in _CLASS_KINDS:
        raise ValueError(
            f"targets of kind {kind!r} cannot train a classifier; kinds that can: "
            f"{', '.join(_CLASS_KINDS)}"
        )
    values = jnp.asarray(targets)
    if kind == "margin" and values.shape[1:] in ((), (1,)):
        if classes != 2:
            raise ValueError(
                "the set stores one margin a sample, which tells 2 classes apart, but "
                f"the problem has {classes}"
            )
        positive = 0.5 * (1.0 + values.reshape(-1))
        return jnp.stack([1.0 - positive, positive], axis=1)
    if values.ndim != 2 or values.shape[1] != classes or classes < 2:
        raise ValueError(
            f"{kind} targets have shape {values.shape}; the problem's {classes} "
            f"classes need (m, {classes})"
        )
    if kind == "probabilities":
        return values
    if kind == "margin" or scores_are_signs(values):
        return 0.5 * (1.0 + values)
    return values + 1.0 / classes


def scores_are_signs(scores: Float[Array, "m c"]) -> bool:
    """Whether scores are closer to signs than to centred one-hot rows (see above)."""
    labels, classes = jnp.argmax(scores, axis=1), scores.shape[1]
    signs = synthetic_targets.one_vs_rest(labels, classes).astype(scores.dtype)
    centred = synthetic_targets.centred_one_hot(labels, classes).astype(scores.dtype)
    from_signs = jnp.sum(jnp.square(scores - signs))
    return bool(from_signs < jnp.sum(jnp.square(scores - centred)))
