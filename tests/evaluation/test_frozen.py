"""Probes of frozen features: closed form, by gradient and nearest neighbours."""

from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ddjax.evaluation import frozen, nearest, probe_training
from ddjax.evaluation.frozen import Probes

KEY = jax.random.key(0)
CLASSES = 3


def features(n: int = 60, p: int = 5, *, seed: int = 0, gap: float = 1.0):
    """Clusters of unequal sizes, features in unequal units, one that is constant."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n, p=(0.5, 0.3, 0.2)).astype(np.int32)
    rows = rng.normal(size=(n, p)) + gap * np.eye(CLASSES, p)[labels]
    rows = rows * np.geomspace(1e-2, 1e2, p) + 3.0
    rows[:, -1] = 7.0
    return rows.astype(np.float32), labels


TRAIN, TEST = features(), features(40, seed=1)


def scores(**settings):
    return frozen.scores(KEY, *TRAIN, *TEST, classes=CLASSES, **settings)


def standardized(*arrays):
    """As scikit-learn does it, in float64 and in the units of the first."""
    arrays = [each.astype(np.float64) for each in arrays]
    return map(StandardScaler().fit(arrays[0]).transform, arrays)


def predictions(monkeypatch):
    """The calls of `frozen.accuracy`, which is given predictions first."""
    count = Mock(wraps=frozen.accuracy)
    monkeypatch.setattr(frozen, "accuracy", count)
    return count.call_args_list


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_closed_form_is_that_of_scikit_learn(strength, monkeypatch):
    coded = np.eye(CLASSES)[TRAIN[1]] - 1 / CLASSES
    rows, judged = standardized(TRAIN[0], TEST[0])
    wanted = Ridge(alpha=strength * 4).fit(rows, coded).predict(judged)
    calls = predictions(monkeypatch)
    # Blocks of 16 do not divide 60 rows; four of the five features vary.
    for block in (16, 1024):
        found = scores(kinds=["closed_form"], relative_ridge=strength, block=block)
        np.testing.assert_allclose(calls.pop().args[0], wanted, rtol=1e-9, atol=1e-11)
        right = float((wanted.argmax(axis=1) == TEST[1]).mean())
        assert found == {"closed_form_accuracy": right}


def test_the_gradient_approaches_logistic_regression(monkeypatch):
    train, test = features(gap=0.5), features(40, seed=1, gap=0.5)
    rows, judged = standardized(train[0], test[0])
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(rows, train[1])
    wanted = model.predict_log_proba(judged)
    calls = predictions(monkeypatch)
    frozen.scores(KEY, *train, *test, classes=CLASSES, kinds=["gradient"], epochs=600)
    found = np.asarray(jax.nn.log_softmax(jnp.asarray(calls[0].args[0], jnp.float32)))
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_neighbours_are_those_of_scikit_learn():
    (rows, labels), (queries, _) = TRAIN, TEST
    model = NearestNeighbors(n_neighbors=7, metric="cosine").fit(rows)
    distances, places = model.kneighbors(queries)
    for block in (16, 1024):
        found, similarities = nearest.nearest_rows(
            rows, queries, neighbours=7, block=block
        )
        np.testing.assert_allclose(similarities, 1 - distances, atol=2e-6)
        # Near ties may come in either order.
        same = [set(a) == set(b) for a, b in zip(found, places, strict=True)]
        assert np.mean(same) > 0.9
    votes = nearest.nearest_votes(
        rows, labels, queries, classes=CLASSES, neighbours=7, block=16
    )
    counts = np.stack([np.bincount(labels[f], minlength=CLASSES) for f in found])
    assert (counts[np.arange(40), votes.argmax(axis=1)] == counts.max(axis=1)).all()


def test_of_equal_votes_the_more_similar_class():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    queries = np.array([[1.0, 0.9], [0.9, 1.0]], np.float32)
    votes = nearest.nearest_votes(
        rows, np.array([2, 1, 0]), queries, classes=3, neighbours=2, block=2
    )
    np.testing.assert_array_equal(votes.argmax(axis=1), [2, 1])
    # Fewer rows than neighbours: all of them; the opposite one still has its vote.
    votes = nearest.nearest_votes(
        rows, np.array([2, 0, 0]), queries, classes=3, neighbours=20, block=2
    )
    np.testing.assert_array_equal(votes.argmax(axis=1), [0, 0])
    with pytest.raises(ValueError, match=r"neighbours must lie in \[1, 3\], got 4"):
        nearest.nearest_rows(rows, queries, neighbours=4, block=2)
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        nearest.nearest_rows(rows, queries, neighbours=1, block=0)


@given(st.sampled_from((1, 4, 5)), st.integers(0, 99))
def test_neighbours_do_not_depend_on_the_blocks(block, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (9, 2)).astype(np.float32)  # ties and zeros
    queries = rng.integers(-2, 3, (4, 2)).astype(np.float32)
    found = nearest.nearest_rows(rows, queries, neighbours=4, block=block)
    whole = nearest.nearest_rows(rows, queries, neighbours=4, block=9)
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_units_of_features_do_not_count_for_linear_probes(each_precision):
    (rows, labels), (judged, truth) = TRAIN, TEST
    units = np.array([1e-3, 1e3, 1.0, 10.0, 1.0], rows.dtype)
    settings = {"classes": CLASSES, "kinds": ("closed_form", "gradient"), "epochs": 5}
    found = frozen.scores(KEY, rows, labels, judged, truth, **settings)
    scaled = frozen.scores(KEY, rows * units, labels, judged * units, truth, **settings)
    assert found == pytest.approx(scaled, abs=0.05)
    assert min(found.values()) > 0.5
    # On the device as on the host.
    on_device = (jnp.asarray(each) for each in (rows, labels, judged, truth))
    assert frozen.scores(KEY, *on_device, **settings) == found


def test_features_as_they_are_for_the_gradient():
    """Standardised by hand they are what is seen otherwise."""
    (rows, labels), (judged, truth) = TRAIN, TEST
    given = [each.astype(np.float32) for each in standardized(rows, judged)]
    settings = {"classes": CLASSES, "kinds": ["gradient"], "epochs": 5}
    usual = frozen.scores(KEY, rows, labels, judged, truth, **settings)
    settings["standardize"] = False
    found = frozen.scores(KEY, given[0], labels, given[1], truth, **settings)
    assert found == usual
    # A feature of one hundredth of the others' size is hardly learned in five epochs.
    assert frozen.scores(KEY, rows, labels, judged, truth, **settings) != found


def test_one_compilation_a_shape():
    scores(epochs=3, block=16)
    before = probe_training.train_probe._cache_size(), nearest._merged._cache_size()
    scores(epochs=3, block=16)
    train, test = features(seed=5), features(40, seed=6)
    other = frozen.scores(
        jax.random.key(3), *train, *test, classes=CLASSES, epochs=3, block=16
    )
    assert set(other) == {f"{kind}_accuracy" for kind in frozen.KINDS}
    after = probe_training.train_probe._cache_size(), nearest._merged._cache_size()
    assert after == before


def test_settings_over_the_defaults():
    assert frozen.probes(None) == Probes()
    assert frozen.probes({"kinds": ["nearest"], "neighbours": 3}) == Probes(
        kinds=("nearest",), neighbours=3
    )
    assert scores(kinds=["nearest"]) == scores(**Probes(("nearest",))._asdict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda": 1.0}, "probes have no 'lambda'; they have: kinds, relative_ridge"),
        ({"kinds": ["knn"]}, "unknown probe 'knn'; known: closed_form, gradient, near"),
        ({"kinds": []}, "kinds is empty; known: closed_form"),
        ({"kinds": "nearest"}, "kinds is 'nearest'; give a sequence"),
        ({"relative_ridge": 0.0}, "relative_ridge must be .*> 0, got 0.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be .*> 0, got -1.0"),
        ({"neighbours": 0}, "neighbours must be at least 1, got 0"),
        ({"block": 0}, "block must be at least 1, got 0"),
    ],
)
def test_mistakes_in_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        frozen.probes(settings)


def test_arrays_that_do_not_fit_are_named():
    (rows, labels), (judged, truth) = TRAIN, TEST
    for arrays, classes, message in (
        ((rows, labels, judged[:, :4], truth), 3, "width 5, test features 4"),
        ((rows, labels[1:], judged, truth), 3, "60 training features came with 59 lab"),
        ((rows, labels, judged[:0], truth[:0]), 3, "there are no test features"),
        ((rows, labels + 1, judged, truth), 3, r"training label 3 is outside \[0, 3"),
        ((rows, labels, judged, truth), 1, "classes must be at least 2, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            frozen.scores(KEY, *arrays, classes=classes, kinds=["nearest"])
    with pytest.raises(ValueError, match="unknown optimizer 'rmsprop'; known: adam"):
        probe_training.check_training(
            probe_training.Training(optimizer="rmsprop"), seeds=1
        )
