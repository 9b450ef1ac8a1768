"""Stored targets in the units of a loss: hard labels agree however they are coded."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import learning_targets
from ddjax.kernels import losses
from ddjax.synthetic.targets import hard_targets
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
    stored, of_kind = distilled.stored["targets"], distilled.targets_kind
    one_hot = np.eye(classes, dtype=np.float32)
    signs = np.array([-1.0, 1.0]) if classes == 2 else 2 * one_hot - 1
    found = learning_targets.margins(stored, of_kind, classes)
    np.testing.assert_allclose(found, signs, atol=1e-6)
    found = learning_targets.probabilities(stored, of_kind, classes)
    np.testing.assert_allclose(found, one_hot, atol=1e-6)
    labels = np.arange(classes, dtype=np.int32)
    natural = learning_targets.natural_targets(labels, stored, of_kind, classes)
    np.testing.assert_allclose(natural, stored, atol=1e-6)


def test_learned_margins_come_back_as_they_were():
    stored = jnp.asarray([-1.7, 0.3])
    for targets in (stored, stored[:, None]):
        found = learning_targets.margins(targets, "margin", 2)
        np.testing.assert_allclose(found, stored, rtol=1e-6)
        found = learning_targets.probabilities(targets, "margin", 2)
        np.testing.assert_allclose(found, [[1, 0], [0.35, 0.65]], atol=1e-6)


def test_learned_one_vs_rest_signs_come_back_as_they_were():
    rng = np.random.default_rng(0)
    stored = 2 * np.eye(3) - 1 + 0.4 * rng.normal(size=(3, 3))
    found = learning_targets.margins(jnp.asarray(stored, jnp.float32), "scores", 3)
    np.testing.assert_allclose(found, stored, rtol=1e-5)


def test_learned_scores_become_probabilities_by_projection():
    scores = jnp.asarray([[0.5, -0.2, -0.3], [-0.4, 2.0, 0.1], [0.0, 0.0, 0.0]])
    found = np.asarray(learning_targets.probabilities(scores, "scores", 3))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    assert (found >= 0).all()
    expected = [[0.8333, 0.1333, 0.0333], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_follows_from_nothing_is_refused():
    stored = class_means(blobs(classes=3)).stored["targets"]
    with pytest.raises(ValueError, match="kind 'regression' cannot train"):
        learning_targets.margins(stored, "regression", 3)
    with pytest.raises(ValueError, match="'representation' name no class"):
        learning_targets.as_stored(stored, "representation")
    with pytest.raises(ValueError, match=r"shape \(3, 3\); .* 4 classes need"):
        learning_targets.margins(stored, "scores", 4)
    with pytest.raises(ValueError, match="tells 2 classes apart, .* has 3"):
        learning_targets.probabilities(jnp.ones(3), "margin", 3)
    with pytest.raises(ValueError, match="rows miss the sum 1 by up to 0.5"):
        learning_targets.probabilities(jnp.full((3, 3), 0.5), "probabilities", 3)
    with pytest.raises(ValueError, match="loss 'hinge' needs classes, but the problem"):
        learning_targets.for_loss(losses.hinge(), stored, "regression", 0)


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
    found = hard_targets(LABELS, losses.get(loss), classes)
    np.testing.assert_allclose(found, expected)
