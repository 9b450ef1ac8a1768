"""Tests of the target helpers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic


@pytest.mark.parametrize(
    ("make", "classes", "expected"),
    [
        (synthetic.one_hot, 3, [[0, 0, 1], [1, 0, 0]]),
        (
            synthetic.centred_one_hot,
            3,
            [[-1 / 3, -1 / 3, 1 - 1 / 3], [1 - 1 / 3, -1 / 3, -1 / 3]],
        ),
        (synthetic.one_vs_rest, 3, [[-1, -1, 1], [1, -1, -1]]),
        (synthetic.signs, 2, [1, -1]),
    ],
)
def test_codings_in_either_precision(make, classes, expected, each_precision):
    """Under x64 they were float32, and whatever was solved for them with them."""
    labels = np.array([classes - 1, 0], np.int32)
    compiled = jax.jit(make, static_argnums=1)
    for found in (make(labels, classes), compiled(jnp.asarray(labels), classes)):
        assert found.dtype == each_precision
        rounding = np.finfo(each_precision).eps
        np.testing.assert_allclose(found, np.array(expected), rtol=2 * rounding)


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
