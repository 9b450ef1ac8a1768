"""What frozen features are worth: linear models and nearest neighbours on them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts, check_positive
from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing
from ddjax.evaluation import probe_training
from ddjax.evaluation.accuracy import accuracy
from ddjax.evaluation.checks import check_kinds
from ddjax.evaluation.nearest import nearest_votes
from ddjax.kernels import ridge
from ddjax.synthetic.targets import centred_one_hot, one_hot

__all__ = ["KINDS", "Probes", "probes", "scores"]

KINDS = ("closed_form", "gradient", "nearest")
"""Ridge regression; softmax regression by gradient; nearest neighbours."""


class Probes(NamedTuple):
    """What is trained on frozen features, and how.

    Attributes:
      kinds: which of `KINDS`.
      relative_ridge: lambda of `closed_form` over the number of features, > 0.
      epochs: of `gradient`, >= 1.
      batch_size: of `gradient`; all rows where there are fewer.
      learning_rate: of `gradient` for a batch of 256, see `Training`.
      standardize: whether `gradient` sees standardised features; else as they are.
      neighbours: k of `nearest`, >= 1; all rows where there are fewer.
      block: rows at a time, of `closed_form` and `nearest`.
    """

    kinds: tuple[str, ...] = KINDS
    relative_ridge: float = 0.1
    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 0.2
    standardize: bool = True
    neighbours: int = 20
    block: int = 1024


def probes(given: Mapping[str, Any] | None) -> Probes:
    """The probes that a configuration's values make of the defaults.

    Raises:
      ValueError: an unknown field or kind, with the known ones, or a number out of
        range.
    """
    fields = dict(given or {})
    for name in fields:
        if name not in Probes._fields:
            known = ", ".join(Probes._fields)
            raise ValueError(f"probes have no {name!r}; they have: {known}")
    if isinstance(fields.get("kinds"), str):
        raise ValueError(f"kinds is {fields['kinds']!r}; give a sequence of kinds")
    chosen = Probes(**fields)
    chosen = chosen._replace(kinds=tuple(chosen.kinds))
    check_kinds(chosen.kinds, KINDS)
    check_positive(required=True, relative_ridge=chosen.relative_ridge)
    check_counts(neighbours=chosen.neighbours, block=chosen.block)
    probe_training.check_training(_training(chosen), seeds=1)
    return chosen


def scores(
    key: PRNGKeyArray,
    train: Float[Array | ndarray, "n p"],
    train_labels: Int[Array | ndarray, " _"],
    test: Float[Array | ndarray, "m _"],
    test_labels: Int[Array | ndarray, " _"],
    *,
    classes: int,
    **settings: Any,
) -> dict[str, float]:
    r"""Accuracy on test features of what is trained on the training features.

    - `closed_form`: ridge regression with an intercept,

      .. math::
          \min_{W, b} \sum_i \| y_i - W^\top \phi_i - b \|^2
          + \lambda \|W\|_F^2, \qquad
          \lambda = \text{relative\_ridge} \cdot p,

      y one-hot minus 1/c, p without the features that do not vary (`relative` in
      `ddjax.kernels.ridge`), in float64 and from sums over blocks of rows, so that no
      second copy of the features is made.
    - `gradient`: softmax regression by SGD with momentum 0.9 and a cosine schedule,
      without weight decay (`probe_training.train_probe`). The features lie on the
      device. Learning rate, momentum and schedule are those of Yu et al. (2025,
      appendix A.1), which states neither batch nor length: 256 and 100 epochs here.
    - `nearest`: the majority among the k training rows of largest cosine similarity to
      the features as they are; of equal votes, the class of larger summed similarity.

    The linear models see features standardised by the training rows: each with mean 0
    and variance 1, those that do not vary with mean 0. A strength and a learning rate
    then mean the same for every network. The source does not say what its softmax
    regression sees; `standardize=False` gives it the features as they are.

    Args:
      key: of the training by gradient.
      train: training features, on the host or the device.
      train_labels: their classes `(n,)`.
      test: features to judge on, `(m, p)`.
      test_labels: their classes `(m,)`.
      classes: number c of classes.
      **settings: fields of `Probes`, where they are not the defaults.

    Returns:
      `<kind>_accuracy`, in [0, 1], for each kind asked for.

    Raises:
      ValueError: an unknown field or kind, a number out of range, arrays that do not
        fit together, no rows, or a label that is no class.
    """
    chosen = probes(settings)
    labels, truth = np.asarray(train_labels), np.asarray(test_labels)
    _check(train, labels, test, truth, classes)
    rows, judged = np.asarray(train), np.asarray(test)
    scale = preprocess.fit(rows, kind="standardize")
    given = rows, labels, judged, scale, chosen, classes
    found: dict[str, Callable[[], ndarray]] = {
        "closed_form": lambda: _closed_form(*given),
        "gradient": lambda: _by_gradient(key, *given),
        "nearest": lambda: nearest_votes(
            rows,
            labels,
            judged,
            classes=classes,
            neighbours=chosen.neighbours,
            block=chosen.block,
        ),
    }
    return {f"{kind}_accuracy": accuracy(found[kind](), truth) for kind in chosen.kinds}


def _check(
    train: Any, labels: ndarray, test: Any, truth: ndarray, classes: int
) -> None:
    check_counts(least=2, required=True, classes=classes)
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"training features have width {train.shape[1]}, test features "
            f"{test.shape[1]}"
        )
    for what, rows, of_rows in (("training", train, labels), ("test", test, truth)):
        if not len(rows):
            raise ValueError(f"there are no {what} features")
        if len(rows) != len(of_rows):
            raise ValueError(
                f"{len(rows)} {what} features came with {len(of_rows)} labels"
            )
        wrong = of_rows[(of_rows < 0) | (of_rows >= classes)]
        if wrong.size:
            raise ValueError(f"{what} label {wrong[0]} is outside [0, {classes})")


def _closed_form(
    rows: ndarray,
    labels: ndarray,
    judged: ndarray,
    scale: Preprocessing,
    chosen: Probes,
    classes: int,
) -> Float[ndarray, "m c"]:
    """Predictions of ridge regression, in float64."""
    block = min(chosen.block, len(rows))

    def pairs() -> Iterator[tuple[ndarray, ndarray]]:
        # The features have mean zero, so that the best intercept is the mean target
        # and the targets need no centring of their own.
        for start in range(0, len(rows), block):
            features = _standardized(rows[start : start + block], scale)
            wanted = np.asarray(centred_one_hot(labels[start : start + block], classes))
            # Rows of zeros add nothing to the sums.
            missing = ((0, block - len(features)), (0, 0))
            yield np.pad(features, missing), np.pad(wanted, missing)

    with jax.enable_x64(True):
        sums = ridge.streamed_statistics(pairs())
        solution = ridge.solve_from_statistics(
            sums._replace(count=jnp.asarray(float(len(rows)))),
            ridge=chosen.relative_ridge,
            convention="relative",
        )
        weights = np.asarray(solution.weights)
    intercept = np.bincount(labels, minlength=classes) / len(labels) - 1.0 / classes
    return _predictions(judged, scale, weights, intercept, chosen.block)


def _by_gradient(
    key: PRNGKeyArray,
    rows: ndarray,
    labels: ndarray,
    judged: ndarray,
    scale: Preprocessing,
    chosen: Probes,
    classes: int,
) -> Float[ndarray, "m c"]:
    """Predictions of softmax regression, trained in the features' dtype."""
    if not chosen.standardize:
        scale = preprocess.identity()
    features = _scaled(jnp.asarray(rows), scale.mean, scale.std)
    trained = probe_training.train_probe(
        key[None],
        probe_training.given_features,
        features,
        one_hot(labels, classes).astype(features.dtype),
        width=rows.shape[1],
        training=_training(chosen),
    )
    weights, bias = (np.asarray(each[0], np.float64) for each in trained)
    return _predictions(judged, scale, weights, bias, chosen.block)


def _training(chosen: Probes) -> probe_training.Training:
    return probe_training.Training(
        chosen.epochs, chosen.batch_size, chosen.learning_rate, "sgd"
    )


def _predictions(
    judged: ndarray,
    scale: Preprocessing,
    weights: Float[ndarray, "p c"],
    bias: Float[ndarray, " c"],
    block: int,
) -> Float[ndarray, "m c"]:
    """Scores of standardised features, some rows at a time, in float64."""
    parts = (judged[start : start + block] for start in range(0, len(judged), block))
    return np.concatenate(
        [_standardized(part, scale) @ weights + bias for part in parts]
    )


def _standardized(rows: ndarray, scale: Preprocessing) -> Float[ndarray, "b p"]:
    """In float64."""
    return np.asarray(preprocess.apply(scale, rows.astype(np.float64)))


@jax.jit
def _scaled(rows: Array, mean: Any, std: Any) -> Array:
    mean, std = (jnp.asarray(each, rows.dtype).reshape(1, -1) for each in (mean, std))
    return (rows - mean) / std
