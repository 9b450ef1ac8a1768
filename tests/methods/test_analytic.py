"""The exact optimum against ridge regression on all the real data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from ddjax import data, methods
from ddjax.kernels import ridge as ridge_regression
from ddjax.models import feature_maps
from ddjax.solvers.analytic import NoExactSet
from ddjax.synthetic.distilled import decoded

REAL, DISTILLED = 0.01, 0.05
FOURIER = {"kind": "fourier", "frequencies": 4}


@functools.cache
def problem(shape=(6,)):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, *shape)).astype(np.float32)
    weights = rng.standard_normal((6, 3))
    y = x.reshape(80, -1) @ weights + rng.standard_normal((80, 3))
    return data.from_arrays((x, y.astype(np.float32)), preprocessing="none")


def solved(on=None, **keywords):
    on = problem() if on is None else on
    settings = {"real_ridge": REAL, "distilled_ridge": DISTILLED, **keywords}
    method = methods.analytic(**settings)
    key = jax.random.key(0)
    prepared = method.prepare(key, on)
    state = method.init(key, on, prepared)
    return method, prepared, state, method.distilled(key, state, on, prepared)


def rows_of(distilled, inputs):
    recipe = feature_maps.from_recipe(distilled.recipe["features"])
    params, apply = feature_maps.build(recipe, inputs.shape[1:])
    return apply(params, jnp.asarray(inputs))


def predictions(distilled, inputs):
    """Of ridge regression on the set, as anyone would train on it."""
    pairs, ridge = decoded(distilled), distilled.recipe["ridge"]
    solution = ridge_regression.solve(
        rows_of(distilled, pairs.inputs),
        jnp.asarray(pairs.targets),
        ridge=ridge["strength"],
        convention=ridge["convention"],
    )
    return rows_of(distilled, inputs) @ solution.weights


def of_all_data(distilled, on):
    train = on.train
    oracle = Ridge(alpha=REAL * len(train.inputs), fit_intercept=False).fit(
        np.float64(rows_of(distilled, train.inputs)), np.float64(train.targets)
    )
    return oracle.predict(np.float64(rows_of(distilled, on.test.inputs)))


@pytest.mark.parametrize(
    ("keywords", "tolerance"),
    [
        ({}, 2e-5),
        ({"count": 5}, 2e-5),
        ({"scale": 2.0}, 2e-5),
        ({"given": "inputs", "count": 6}, 1e-3),
        ({"given": "inputs", "count": 20, "features": FOURIER}, 5e-3),
        ({"given": "targets", "count": 6, "distilled_ridge": 1e-5}, 1e-3),
    ],
)
def test_the_set_predicts_as_all_the_data_do(keywords, tolerance):
    _, _, state, distilled = solved(**keywords)
    assert decoded(distilled).targets.shape == (keywords.get("count", 3), 3)
    assert distilled.targets_kind == "regression"
    np.testing.assert_allclose(
        predictions(distilled, problem().test.inputs),
        of_all_data(distilled, problem()),
        rtol=tolerance,
        atol=tolerance,
    )
    assert float(state.relative_error) < 1e-5
    if (given := keywords.get("given")) is not None:
        real, chosen = (
            np.asarray(getattr(each, given))
            for each in (problem().train, decoded(distilled))
        )
        assert all((real == row).all(axis=1).any() for row in chosen)


def test_images_keep_their_shape():
    on = problem((3, 2, 1))
    _, _, _, distilled = solved(on)
    assert decoded(distilled).inputs.shape == (3, 3, 2, 1)
    np.testing.assert_allclose(
        predictions(distilled, on.test.inputs), of_all_data(distilled, on), atol=2e-5
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"count": 2}, "rank 3 need at least 3 samples.*count is 2"),
        ({"given": "inputs", "count": 4}, "span of the 4 inputs"),
        (
            {"given": "targets", "count": 6, "distilled_ridge": 10.0},
            r"the ridge is .*1 / \(4",
        ),
    ],
)
def test_sets_that_do_not_exist_are_named(keywords, message):
    with pytest.raises(NoExactSet, match=message):
        solved(**keywords)


def test_too_few_samples_are_approximated():
    _, prepared, state, distilled = solved(count=2, approximate=True)
    assert 0.01 < float(state.relative_error) < 1
    # The reported loss is that of what the set gives.
    train = problem().train
    away = np.asarray(predictions(distilled, train.inputs)) - train.targets
    expected = 0.5 * np.sum(np.square(away)) / len(away)
    assert float(state.loss) == pytest.approx(float(expected), rel=1e-4)
    assert float(state.loss) > float(prepared.error.least)
