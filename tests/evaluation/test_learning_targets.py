"""Stored targets in the units of a loss: hard labels agree however they are coded."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import learning_targets
from ddjax.kernels import losses
from tests.evaluation.problems import blobs, class_means

LABELS = np.array([0, 1], np.int32)


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("scores", 2),
        ("scores", 3),
        ("signs", 2),
        ("signs", 3),
        ("probabilities", 2),
        ("probabilities", 3),
        ("margin", 2),
    ],
)
def test_hard_labels_are_hard_labels_whatever_their_coding(kind, classes):
    distilled = class_means(blobs(classes=classes), kind=kind)
    one_hot = np.eye(classes, dtype=np.float32)
    signs = np.array([-1.0, 1.0]) if classes == 2 else 2 * one_hot - 1
    found = learning_targets.margins(distilled, classes)
    np.testing.assert_allclose(found, signs, atol=1e-6)
    found = learning_targets.probabilities(distilled, classes)
    np.testing.assert_allclose(found, one_hot, atol=1e-6)
    labels = np.arange(classes, dtype=np.int32)
    natural = learning_targets.natural_targets(labels, distilled, classes)
    np.testing.assert_allclose(natural, distilled.targets, atol=1e-6)


def test_learned_margins_come_back_as_they_were():
    problem = blobs(classes=2)
    stored = jnp.asarray([-1.7, 0.3])
    for targets in (stored, stored[:, None]):
        distilled = class_means(problem, kind="margin", targets=targets)
        np.testing.assert_allclose(
            learning_targets.margins(distilled, 2), stored, rtol=1e-6
        )
    found = learning_targets.probabilities(distilled, 2)
    np.testing.assert_allclose(found, [[1, 0], [0.35, 0.65]], atol=1e-6)


def test_learned_one_vs_rest_signs_come_back_as_they_were():
    problem = blobs(classes=3)
    rng = np.random.default_rng(0)
    stored = 2 * np.eye(3) - 1 + 0.4 * rng.normal(size=(3, 3))
    distilled = class_means(problem, targets=jnp.asarray(stored, jnp.float32))
    np.testing.assert_allclose(
        learning_targets.margins(distilled, 3), stored, rtol=1e-5
    )


def test_learned_scores_become_probabilities_by_projection():
    problem = blobs(classes=3)
    scores = jnp.asarray([[0.5, -0.2, -0.3], [-0.4, 2.0, 0.1], [0.0, 0.0, 0.0]])
    distilled = class_means(problem, targets=scores)
    found = np.asarray(learning_targets.probabilities(distilled, 3))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    assert (found >= 0).all()
    expected = [[0.8333, 0.1333, 0.0333], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_follows_from_nothing_is_refused():
    problem = blobs(classes=3)
    sets = class_means(problem)
    with pytest.raises(ValueError, match="kind 'regression' cannot train"):
        learning_targets.margins(sets._replace(targets_kind="regression"), 3)
    with pytest.raises(ValueError, match="'representation' name no class"):
        learning_targets.as_stored(sets._replace(targets_kind="representation"))
    with pytest.raises(ValueError, match=r"shape \(3, 3\); .* 4 classes need"):
        learning_targets.margins(sets, 4)
    margin = sets._replace(targets_kind="margin", targets=jnp.ones(3))
    with pytest.raises(ValueError, match="tells 2 classes apart, .* has 3"):
        learning_targets.probabilities(margin, 3)
    wrong = sets._replace(targets_kind="probabilities", targets=jnp.full((3, 3), 0.5))
    with pytest.raises(ValueError, match="rows miss the sum 1 by up to 0.5"):
        learning_targets.probabilities(wrong, 3)


@pytest.mark.parametrize(
    ("loss", "classes", "expected"),
    [
        ("logistic", 2, [-1, 1]),
        ("squared", 2, [-1, 1]),
        ("softmax", 2, [[1, 0], [0, 1]]),
        ("hinge", 3, [[1, -1, -1], [-1, 1, -1]]),
        ("squared", 4, [[0.75, -0.25, -0.25, -0.25], [-0.25, 0.75, -0.25, -0.25]]),
    ],
)
def test_hard_targets_of_real_data(loss, classes, expected):
    found = learning_targets.hard_targets(LABELS, losses.get(loss), classes)
    np.testing.assert_allclose(found, expected)
