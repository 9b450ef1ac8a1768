"""Selection baselines for regression and Nyström, against plain references."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from ddjax import data, evaluation, methods
from ddjax.methods import least_squares
from ddjax.methods.row_selection import HOW
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded
from tests.methods.runs import distilled, run

FOURIER = {"kind": "fourier", "frequencies": 16, "length_scale": 1.5}


@pytest.fixture(scope="module")
def problem():
    return data.load("diabetes")


def _features(problem, made):
    """The features that a set was made through, of its rows and of all."""
    drawn = feature_maps.from_recipe(made.recipe["features"])
    params, apply = feature_maps.build(drawn, problem.train.inputs.shape[1:])
    rows = np.asarray(apply(params, made.stored["inputs"]), np.float64)
    return rows, np.asarray(apply(params, problem.train.inputs), np.float64)


@pytest.mark.parametrize("how", HOW)
def test_takes_rows_and_leaves_them(problem, how):
    method = methods.row_selection(count=8, how=how, ridge=0.01)
    found, start, state, _ = run(method, problem, steps=3)
    jax.tree.map(np.testing.assert_array_equal, start, state)
    made = distilled(method, problem, found, state)
    targets = decoded(made).targets
    assert targets.shape == (8, 1) and made.targets_kind == "regression"
    assert made.columns == problem.columns and made.labels is None
    scores = evaluation.regression().evaluate(
        jax.random.key(0), made, problem, "validation"
    )
    assert np.isfinite(scores["regression/r2"].mean)
    if how != "kmeans_centres":
        train = problem.train
        real = np.concatenate([train.inputs, train.targets], axis=1)
        chosen = np.concatenate([made.stored["inputs"], targets], axis=1)
        assert len({tuple(row) for row in chosen}) == 8
        assert {tuple(row) for row in chosen} <= {tuple(row) for row in real}


@pytest.mark.parametrize("features", [None, FOURIER])
def test_leverage_scores_are_those_of_the_definition(problem, features):
    method = methods.row_selection(
        how="leverage", ridge=0.03, features=features, block=50
    )
    found, _, state, _ = run(method, problem, steps=1)
    _, all_rows = _features(problem, distilled(method, problem, found, state))
    count = len(all_rows)
    kernel = all_rows @ all_rows.T
    wanted = np.diag(kernel @ np.linalg.inv(kernel + count * 0.03 * np.eye(count)))
    np.testing.assert_allclose(found["scores"], wanted, rtol=1e-3, atol=1e-6)


def test_rows_of_high_leverage_are_drawn():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 3)) * [1.0, 1.0, 1e-3]
    inputs[7] = [0.0, 0.0, 50.0]
    targets = inputs[:, 0]
    problem = data.from_arrays((inputs, targets), (inputs[:9], targets[:9]), seed=3)
    train = np.asarray(problem.train.inputs)
    odd = int(train[:, 2].argmax())
    assert train[odd, 2] > 10
    method = methods.row_selection(how="leverage", count=9, ridge=1e-3)
    found = method.prepare(jax.random.key(0), problem)
    hits = 0
    for seed in range(20):
        rows = method.init(jax.random.key(seed), problem, found)
        hits += (np.asarray(rows.stored["inputs"]) == train[odd]).all(axis=1).any()
    # A third of all leverage is this row's; nine of 270 rows would hit it once in 30.
    assert hits >= 15


def test_weighted_rows_make_ridge_regression_of_all_rows_in_the_mean(problem):
    method = methods.row_selection(how="leverage", count=250, ridge=0.1, weighted=True)
    found = method.prepare(jax.random.key(0), problem)
    grams, crosses = [], []
    for seed in range(200):
        rows = method.init(jax.random.key(seed), problem, found)
        inputs, targets = (
            np.float64(rows.stored[name]) for name in ("inputs", "targets")
        )
        grams.append(inputs.T @ inputs / 250)
        crosses.append(inputs.T @ targets / 250)
    moments = least_squares.moments(problem, feature_maps.inputs())
    np.testing.assert_allclose(np.mean(grams, axis=0), moments.gram, atol=0.02)
    np.testing.assert_allclose(np.mean(crosses, axis=0), moments.cross, atol=0.02)


@pytest.mark.parametrize(
    ("count", "how", "features"),
    [(3, "leverage", None), (3, "uniform", FOURIER), (60, "uniform", None)],
)
def test_nystrom_is_the_best_predictor_in_the_span(problem, features, count, how):
    method = methods.nystrom(
        count=count, how=how, ridge=0.05, distilled_ridge=0.01, features=features
    )
    found, _, state, history = run(method, problem, steps=2)
    made = distilled(method, problem, found, state)
    landmarks, all_rows = _features(problem, made)
    targets = np.asarray(problem.train.targets, np.float64)
    # The span's own coordinates: an orthonormal basis of the landmarks' features.
    _, sizes, basis = np.linalg.svd(landmarks, full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes[0]]
    model = Ridge(0.05 * len(all_rows), fit_intercept=False)
    model.fit(all_rows @ basis.T, targets)
    wanted = basis.T @ model.coef_.reshape(-1)
    trained = Ridge(0.01 * count, fit_intercept=False)
    trained.fit(landmarks, np.float64(decoded(made).targets))
    predicted = all_rows @ trained.coef_.reshape(-1)
    np.testing.assert_allclose(predicted, all_rows @ wanted, atol=2e-3)
    loss = 0.5 * np.mean((predicted[:, None] - targets) ** 2)
    assert history["loss"][-1] == pytest.approx(loss, rel=1e-3)
