"""Linear probes on a frozen encoder against NumPy and scikit-learn."""

import sys
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.data.preprocess import Preprocessing
from ddjax.evaluation import encoded_images, full_data_linear_probe, linear_probe
from ddjax.evaluation.probe_training import Training, train_probe
from ddjax.storage.cache import in_memory
from tests.evaluation.problems import chosen, coloured, measured
from tests.models.encoders.tiny import linear_encoder

NOTHING, MUCH = ({"name": "noise", "probability": p, "std": 0.5} for p in (0.0, 1.0))
KEY = jax.random.key(0)
CLOSED = {"encoder": linear_encoder(), "kinds": ("closed_form",)}


def some(problem, per_class=2, **replacements):
    labels = np.asarray(problem.train.labels)
    rows = np.concatenate(
        [np.flatnonzero(labels == c)[:per_class] for c in range(problem.classes)]
    )
    return chosen(problem, problem.train.inputs[rows], labels[rows], **replacements)


def features(images):
    weights = np.asarray(linear_encoder().params["weights"], np.float64)
    return np.asarray(images, np.float64).reshape(len(images), -1) @ weights


def ridge_accuracy(rows, labels, judged, truth, *, ridge, normalize, centre):
    from sklearn.linear_model import Ridge

    rows, judged = rows - centre, judged - centre
    if normalize:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        judged = judged / np.linalg.norm(judged, axis=1, keepdims=True)
    strength = ridge * np.mean(np.square(rows).sum(axis=1))
    model = Ridge(alpha=strength, fit_intercept=False, solver="svd")
    model.fit(rows, np.eye(3)[labels])
    return np.mean(model.predict(judged).argmax(axis=1) == truth)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("centring", ["none", "real"])
def test_closed_form_is_ridge_regression(ridge, normalize, centring):
    problem = coloured()
    distilled = some(problem)
    evaluation = linear_probe(
        **CLOSED, ridge=ridge, normalize_features=normalize, centring=centring
    )
    found = measured(evaluation, distilled, problem)
    centre = features(problem.train.inputs).mean(axis=0) if centring == "real" else 0
    wanted = ridge_accuracy(
        features(distilled.stored["inputs"]),
        np.asarray(distilled.labels),
        features(problem.test.inputs),
        problem.test.labels,
        ridge=ridge,
        normalize=normalize,
        centre=centre,
    )
    assert found == {"closed_form_accuracy": pytest.approx(wanted)}
    assert 0.34 < wanted < 1.0


def test_settings_are_those_of_the_set_unless_given():
    problem = coloured()
    plain = some(problem)
    probe = {"ridge": 10.0, "centring": "real", "temperature": 0.1}
    made = some(problem, recipe={"probe": probe})

    def worth(distilled, **settings):
        return measured(linear_probe(**CLOSED, **settings), distilled, problem)

    assert worth(made) == worth(plain, ridge=10.0, centring="real")
    assert worth(made, ridge=1e-2, centring="none") == worth(plain)
    assert worth(made) != worth(plain)


def adam_by_hand(rows, wanted, start, *, epochs, rate):
    """Full batches of softmax regression."""
    weights, bias = start.astype(np.float64), np.zeros(wanted.shape[1])
    moments = [np.zeros_like(weights), np.zeros_like(bias)]
    squares = [np.zeros_like(weights), np.zeros_like(bias)]
    for t in range(epochs):
        scores = rows @ weights + bias
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        residual = odds / odds.sum(axis=1, keepdims=True) - wanted
        gradients = rows.T @ residual / len(rows), residual.mean(axis=0)
        step = rate * 0.5 * (1 + np.cos(np.pi * t / epochs))
        for i, (value, gradient) in enumerate(
            zip((weights, bias), gradients, strict=True)
        ):
            moments[i] = 0.9 * moments[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            first = moments[i] / (1 - 0.9 ** (t + 1))
            second = squares[i] / (1 - 0.999 ** (t + 1))
            value -= step * first / (np.sqrt(second) + 1e-8)
    return weights, bias


def look_up(rows, key, indices):
    del key
    return rows[indices]


def test_training_is_adam_along_a_cosine():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 4)).astype(np.float32)
    wanted = rng.dirichlet(np.ones(3), 6).astype(np.float32)
    keys = jax.random.split(KEY, 2)
    found = train_probe(
        keys,
        look_up,
        jnp.asarray(rows),
        jnp.asarray(wanted),
        width=4,
        training=Training(epochs=40, batch_size=10, learning_rate=1.0),
    )
    for i, key in enumerate(keys):
        start = 0.01 * jax.random.normal(jax.random.split(key)[0], (4, 3))
        weights, bias = adam_by_hand(
            rows.astype(np.float64), wanted, np.asarray(start), epochs=40, rate=6 / 256
        )
        np.testing.assert_allclose(found.weights[i], weights, atol=2e-4)
        np.testing.assert_allclose(found.bias[i], bias, atol=2e-4)


def test_an_epoch_sees_every_sample_once_and_nothing_else():
    # One step of Adam moves every weight that has a gradient by the rate.
    count, batch = 7, 3
    seen = jnp.eye(count)
    found = train_probe(
        jax.random.split(KEY, 1),
        look_up,
        seen,
        jnp.eye(2)[np.arange(count) % 2],
        width=count,
        training=Training(epochs=1, batch_size=batch, learning_rate=1.0),
    )
    start = 0.01 * jax.random.normal(
        jax.random.split(jax.random.split(KEY, 1)[0])[0], (count, 2)
    )
    moved = np.abs(np.asarray(found.weights[0] - start))
    assert (moved > 1e-4).all()
    # The last batch has one sample only: its gradient is not averaged over three.
    assert moved.max() < 0.02


def test_views_that_change_nothing_change_nothing():
    problem = coloured()
    distilled = some(problem, per_class=3)

    def worth(views, augmentation=NOTHING):
        evaluation = linear_probe(
            encoder=linear_encoder(),
            kinds=("gradient",),
            epochs=30,
            batch_size=4,
            learning_rate=1.0,
            seeds=2,
            views=views,
            augmentation=augmentation,
        )
        return evaluation.evaluate(KEY, distilled, problem, "test")

    plain = worth(0)
    assert list(plain) == ["linear_probe/gradient_accuracy"]
    (score,) = plain.values()
    assert score.draws == 2 and 0.4 < score.mean < 1
    assert worth(None) == plain and worth(2) == plain
    assert worth(None, MUCH) != plain and worth(2, MUCH) != plain


def test_full_data_chooses_its_ridge_and_samples_can_reach_it(tmp_path):
    problem = coloured()
    ridges = (1e-3, 1e-1, 10.0)
    evaluation = full_data_linear_probe(
        encoder=linear_encoder(),
        ridges=ridges,
        epochs=5,
        learning_rate=1.0,
        seeds=2,
        features_directory=str(tmp_path),
    )
    found = measured(evaluation, some(problem, per_class=1), problem)

    def by_hand(split, ridge):
        data = getattr(problem, split)
        return ridge_accuracy(
            features(problem.train.inputs),
            problem.train.labels,
            features(data.inputs),
            data.labels,
            ridge=ridge,
            normalize=True,
            centre=0,
        )

    best = max(ridges, key=lambda ridge: by_hand("validation", ridge))
    assert found["ridge"] == best
    accuracy = found["closed_form_accuracy"]
    assert accuracy == pytest.approx(by_hand("test", best))
    assert found["reachable_accuracy"] == pytest.approx(accuracy)
    assert "gradient_accuracy" in found
    # Features of the three splits, computed once.
    assert len(list(tmp_path.iterdir())) == 3


def test_real_images_are_encoded_once_with_a_cache(monkeypatch):
    encoded = Mock(wraps=encoded_images.encoded)
    for module in (encoded_images, sys.modules["ddjax.evaluation.linear_probe"]):
        monkeypatch.setattr(module, "encoded", encoded)
    problem, cache = coloured(), in_memory()
    evaluation = linear_probe(**CLOSED, centring="real")
    sets = some(problem, per_class=1), some(problem, per_class=2)
    for each in sets:
        evaluation.evaluate(KEY, each, problem, "test", cache)
    # The judged split, the training split for its mean, and the sets.
    counted = [len(call.args[1]) for call in encoded.call_args_list]
    assert counted == [90, 90, 3, 6]
    # Another encoder's features are not mistaken for these.
    other = linear_probe(**{**CLOSED, "encoder": linear_encoder(seed=1)})
    other.evaluate(KEY, sets[0], problem, "test", cache)
    assert [len(call.args[1]) for call in encoded.call_args_list[4:]] == [90, 3]


def test_sets_behind_a_preprocessing_meet_the_images_in_natural_units():
    problem = coloured()
    plain = some(problem)
    shifted = Preprocessing("standardize", np.full(3, 0.4), np.full(3, 0.2))
    inputs = (plain.stored["inputs"] - 0.4) / 0.2
    stored = {**plain.stored, "inputs": inputs}
    behind = plain._replace(stored=stored, preprocessing=shifted)
    evaluation = linear_probe(**CLOSED)
    wanted = measured(evaluation, plain, problem)
    assert measured(evaluation, behind, problem) == wanted


def test_fewer_samples_than_classes_reach_less():
    problem = coloured(classes=5, noise=0.2)
    one = some(problem, per_class=1)
    few = one._replace(
        stored={name: each[:2] for name, each in one.stored.items()},
        labels=one.labels[:2],
    )
    found = measured(full_data_linear_probe(**CLOSED), few, problem)
    assert found["reachable_accuracy"] < found["closed_form_accuracy"]


def test_preprocessed_problems_are_refused():
    problem = coloured()
    standardized = problem.preprocessing._replace(kind="standardize")
    with pytest.raises(ValueError, match="preprocessing='none'"):
        linear_probe(**CLOSED).evaluate(
            KEY,
            some(problem)._replace(preprocessing=standardized),
            problem._replace(preprocessing=standardized),
            "test",
        )
