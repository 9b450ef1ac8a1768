"""The exact optimum against ridge regression on all the real data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from ddjax import data, methods, runtime
from ddjax.kernels import ridge as ridge_regression
from ddjax.models import feature_maps
from ddjax.solvers.analytic import NoExactSet
from ddjax.synthetic.distilled import decoded

REAL, DISTILLED = 0.01, 0.05


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


@pytest.mark.parametrize("keywords", [{}, {"count": 5}, {"scale": 2.0}])
def test_one_sample_per_output_predicts_as_all_the_data_do(keywords):
    _, _, state, distilled = solved(**keywords)
    assert decoded(distilled).targets.shape == (keywords.get("count", 3), 3)
    assert distilled.targets_kind == "regression"
    np.testing.assert_allclose(
        predictions(distilled, problem().test.inputs),
        of_all_data(distilled, problem()),
        rtol=2e-5,
        atol=2e-5,
    )
    assert float(state.relative_error) < 1e-6


def test_images_keep_their_shape():
    on = problem((3, 2, 1))
    _, _, _, distilled = solved(on)
    assert decoded(distilled).inputs.shape == (3, 3, 2, 1)
    np.testing.assert_allclose(
        predictions(distilled, on.test.inputs), of_all_data(distilled, on), atol=2e-5
    )


def test_too_few_samples_are_named_or_approximated():
    with pytest.raises(NoExactSet, match="rank 3 need at least 3 samples.*count is 2"):
        solved(count=2)
    _, prepared, state, distilled = solved(count=2, approximate=True)
    assert 0.01 < float(state.relative_error) < 1
    # The reported loss is that of what the set gives.
    train = problem().train
    away = np.asarray(predictions(distilled, train.inputs)) - train.targets
    expected = 0.5 * np.sum(np.square(away)) / len(away)
    assert float(state.loss) == pytest.approx(float(expected), rel=1e-4)
    assert float(state.loss) > float(prepared.error.least)


def test_targets_for_real_inputs():
    _, _, _, distilled = solved(given="inputs", count=6)
    real = np.asarray(problem().train.inputs)
    chosen = np.asarray(decoded(distilled).inputs)
    assert all((real == row).all(axis=1).any() for row in chosen)
    np.testing.assert_allclose(
        predictions(distilled, problem().test.inputs),
        of_all_data(distilled, problem()),
        rtol=1e-3,
        atol=1e-3,
    )
    with pytest.raises(NoExactSet, match="span of the 4 inputs"):
        solved(given="inputs", count=4)


def test_targets_for_real_inputs_through_features():
    features = {"kind": "fourier", "frequencies": 4}
    _, _, state, distilled = solved(given="inputs", count=20, features=features)
    assert float(state.relative_error) < 1e-6
    np.testing.assert_allclose(
        predictions(distilled, problem().test.inputs),
        of_all_data(distilled, problem()),
        atol=5e-3,
    )


def test_inputs_for_real_targets():
    _, _, _, distilled = solved(given="targets", distilled_ridge=1e-5, count=6)
    real = np.asarray(problem().train.targets)
    chosen = np.asarray(decoded(distilled).targets)
    assert all((real == row).all(axis=1).any() for row in chosen)
    np.testing.assert_allclose(
        predictions(distilled, problem().test.inputs),
        of_all_data(distilled, problem()),
        rtol=1e-3,
        atol=1e-3,
    )
    with pytest.raises(NoExactSet, match=r"the ridge is .*1 / \(4"):
        solved(given="targets", distilled_ridge=10.0, count=6)


def test_a_run_changes_nothing(tmp_path):
    _, _, state, distilled = solved()
    result = runtime.train(
        methods.analytic(real_ridge=REAL, distilled_ridge=DISTILLED),
        problem(),
        seed=3,
        steps=2,
        workdir=tmp_path,
        verbose=False,
    )
    # Nothing about it is random.
    np.testing.assert_array_equal(
        decoded(result.distilled).inputs, decoded(distilled).inputs
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"given": "both"}, "'both'.*nothing"),
        ({"count": 0}, "count"),
        ({"real_ridge": -1.0}, "real_ridge"),
        ({"distilled_ridge": float("inf")}, "distilled_ridge"),
        ({"features": {"kind": "fourier"}}, "features.*'nothing'"),
        ({"given": "inputs", "scale": 1.0}, "scale.*'inputs'"),
        ({"given": "targets", "approximate": True}, "approximate.*'targets'"),
        ({"decoder": "pyramid"}, "'analytic' does not go with decoder 'pyramid'"),
        ({"given": "inputs", "features": {"kind": "nngp"}}, "'nngp' has no features"),
    ],
)
def test_refuses(keywords, message):
    with pytest.raises(ValueError, match=message):
        methods.analytic(**keywords)


def test_needs_regression_targets(binary):
    with pytest.raises(ValueError, match="no regression targets"):
        solved(binary)
