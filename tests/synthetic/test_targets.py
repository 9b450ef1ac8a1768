"""Tests of the target helpers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic


def test_one_hot_is_the_indicator():
    targets = synthetic.one_hot(np.array([2, 0], np.int32), 3)
    assert targets.dtype == jnp.result_type(float)
    np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_centred_one_hot_has_zero_row_sums(classes):
    labels = jnp.arange(classes, dtype=jnp.int32)
    targets = synthetic.centred_one_hot(labels, classes)
    assert targets.dtype == jnp.result_type(float)
    np.testing.assert_allclose(targets.sum(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.diag(targets), 1 - 1 / classes, rtol=1e-6)


def test_signs_and_one_vs_rest_agree_on_two_classes():
    labels = jnp.array([0, 1, 1], dtype=jnp.int32)
    signs = synthetic.signs(labels)
    assert signs.dtype == jnp.result_type(float)
    np.testing.assert_array_equal(signs, [-1, 1, 1])
    np.testing.assert_array_equal(synthetic.one_vs_rest(labels, 2)[:, 1], signs)


def test_signs_refuses_more_classes():
    labels = np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match="exactly 2 classes, got 3"):
        synthetic.signs(labels, classes=3)
    with pytest.raises(ValueError, match="label 2 is outside"):
        synthetic.signs(np.array([0, 2], np.int32))


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize(
    "make", [synthetic.one_hot, synthetic.centred_one_hot, synthetic.one_vs_rest]
)
def test_labels_outside_the_classes_are_refused(make, label):
    with pytest.raises(ValueError, match=f"label {label} is outside"):
        make(np.array([0, label], np.int32), 3)
    with pytest.raises(ValueError, match="at least 1"):
        make(np.array([0], np.int32), 0)


@pytest.mark.parametrize("make", ["one_hot", "centred_one_hot", "one_vs_rest", "signs"])
def test_targets_have_the_default_precision(make):
    """Under x64 they were float32, and whatever was solved for them with them."""
    labels = np.array([0, 1], np.int32)
    make = getattr(synthetic, make)
    assert make(labels, 2).dtype == jnp.result_type(float)
    with jax.enable_x64(True):
        assert make(labels, 2).dtype == jnp.float64
        thirds = synthetic.centred_one_hot(labels, 3)
        np.testing.assert_array_equal(thirds[0], [1 - 1 / 3, -1 / 3, -1 / 3])


def test_targets_inside_jit():
    labels = jnp.array([1, 0], dtype=jnp.int32)
    compiled = jax.jit(lambda y: synthetic.centred_one_hot(y, 2))
    np.testing.assert_array_equal(
        compiled(labels), synthetic.centred_one_hot(labels, 2)
    )


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("scores", synthetic.one_hot),
        ("scores", synthetic.centred_one_hot),
        ("scores", synthetic.one_vs_rest),
        ("probabilities", synthetic.one_hot),
        ("margin", synthetic.signs),
    ],
)
def test_predicted_labels_invert_the_targets(kind, make):
    labels = jnp.array([1, 0, 1], dtype=jnp.int32)
    predicted = synthetic.predicted_labels(make(labels, 2), kind)
    assert predicted.dtype == jnp.int32
    np.testing.assert_array_equal(predicted, labels)


def test_margins_may_have_one_column():
    scores = jnp.array([[0.5], [-0.5], [0.0]])
    np.testing.assert_array_equal(
        synthetic.predicted_labels(scores, "margin"), [1, 0, 0]
    )


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((3, 2), "margin", r"\(m,\) or \(m, 1\)"),
        ((3,), "scores", "c >= 2"),
        ((3, 1), "probabilities", "c >= 2"),
        ((3, 2), "regression", "no classes"),
        ((3, 2), "nonsense", "no classes"),
    ],
)
def test_predicted_labels_refuse(shape, kind, message):
    with pytest.raises(ValueError, match=message):
        synthetic.predicted_labels(jnp.zeros(shape), kind)
