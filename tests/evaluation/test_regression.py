"""Ridge regression on a set: scikit-learn's numbers in natural units, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from ddjax import data, synthetic
from ddjax.data import preprocess
from ddjax.evaluation import (
    accuracy,
    full_data,
    predict_targets,
    probe,
    regression,
)
from ddjax.models import feature_maps
from tests.evaluation.problems import blobs, class_means

KEY = jax.random.key(0)


def _table(outputs: int = 1, **options) -> data.Problem:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4)) * [1.0, 10.0, 0.1, 3.0] + 5.0
    targets = 1e3 * np.sin(inputs[:, :outputs]) + 1e4 + rng.normal(size=(120, outputs))
    names = tuple(f"y{i}" for i in range(outputs))
    columns = data.Columns(tuple("abcd"), names, {})
    return data.from_arrays((inputs, targets), columns=columns, **options)


def _rows(problem: data.Problem, count: int, **changes) -> synthetic.DistilledSet:
    return synthetic.DistilledSet(
        stored={"inputs": np.asarray(problem.train.inputs)[:count]},
        parameterization=synthetic.pixels(),
        targets=np.asarray(problem.train.targets)[:count],
        targets_kind="regression",
        labels=None,
        preprocessing=problem.preprocessing,
        class_names=None,
        provenance={"ridge": 0.1},
        targets_preprocessing=problem.targets_preprocessing,
        columns=problem.columns,
    )._replace(**changes)


def _natural(problem, values):
    return preprocess.invert(problem.targets_preprocessing, np.asarray(values))


def _expected(problem, predicted):
    wanted, found = (_natural(problem, v) for v in (problem.test.targets, predicted))
    return (
        metrics.r2_score(wanted, found),
        metrics.root_mean_squared_error(wanted, found),
        metrics.mean_absolute_error(wanted, found),
    )


@pytest.mark.parametrize("ridge", [None, 0.02])
def test_agrees_with_scikit_learn_in_natural_units(ridge):
    problem = _table()
    distilled = _rows(problem, 20)
    model = Ridge(20 * (0.1 if ridge is None else ridge), fit_intercept=False)
    model.fit(distilled.stored["inputs"], distilled.targets)
    wanted = _expected(problem, model.predict(problem.test.inputs).reshape(-1, 1))
    evaluation = regression(ridge=ridge, features="inputs")
    found = evaluation.evaluate(KEY, distilled, problem, "test")
    assert list(found) == ["regression/r2", "regression/rmse", "regression/mae"]
    for each, value in zip(found.values(), wanted, strict=True):
        assert each.mean == pytest.approx(value, rel=1e-4)
        assert each.draws == 1
    assert found["regression/rmse"].mean > 10


def test_new_rows_are_predicted_in_natural_units():
    problem = _table(outputs=2)
    settings = {"kind": "fourier", "frequencies": 32}
    recipe = feature_maps.to_recipe(feature_maps.from_settings(KEY, settings))
    distilled = _rows(problem, 40, provenance={"ridge": 0.1, "features": recipe})
    test = np.asarray(problem.test.inputs, np.float64)
    rows = np.asarray(preprocess.invert(problem.preprocessing, test))
    predicted = predict_targets(distilled, rows)
    scores = regression().evaluate(KEY, distilled, problem, "test")
    found = metrics.r2_score(_natural(problem, problem.test.targets), predicted)
    assert found == pytest.approx(scores["regression/r2"].mean, rel=1e-4)
    with pytest.raises(ValueError, match=r"rows have shape \(3, 2\)"):
        predict_targets(distilled, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="of kind 'regression', not 'scores'"):
        predict_targets(class_means(blobs()), rows)


def test_several_outputs_have_errors_of_their_own():
    problem = _table(outputs=2)
    scores = regression(features="inputs", label="linear").evaluate(
        KEY, _rows(problem, 30), problem, "validation"
    )
    name = "regression_linear"
    assert set(scores) == {
        f"{name}/r2",
        *(f"{name}/{what}_y{i}" for what in ("rmse", "mae") for i in range(2)),
    }


def test_fourier_features_come_near_the_gaussian_kernel():
    problem = _table()
    settings = {"kind": "fourier", "frequencies": 4096, "length_scale": 1.0}
    recipe = feature_maps.to_recipe(feature_maps.from_settings(KEY, settings))
    distilled = _rows(problem, 60, provenance={"ridge": 0.01, "features": recipe})
    # The length scale is relative to the square root of the number of inputs.
    kernel = RBF(2.0)
    model = KernelRidge(alpha=0.6, kernel="precomputed")
    stored = np.asarray(distilled.stored["inputs"], np.float64)
    model.fit(kernel(stored), distilled.targets)
    test = np.asarray(problem.test.inputs, np.float64)
    wanted = _expected(problem, model.predict(kernel(test, stored)))
    found = regression().evaluate(KEY, distilled, problem, "test")
    assert found["regression/r2"].mean == pytest.approx(wanted[0], abs=0.03)


@pytest.mark.parametrize("features", ["inputs", "nngp"])
def test_the_upper_bound_is_ridge_on_all_rows(features):
    problem = _table()
    count = len(problem.train.inputs)
    bound = full_data(loss="squared", features=features, ridge_per_sample=0.1)
    whole = regression(features=features)
    everything = whole.evaluate(KEY, _rows(problem, count), problem, "test")
    found = bound.evaluate(KEY, _rows(problem, 2), problem, "test")
    for what in ("r2", "rmse", "mae"):
        assert found[f"full_data_squared/{what}"].mean == pytest.approx(
            everything[f"regression/{what}"].mean, rel=1e-5
        )


def test_without_standardised_targets_units_are_natural():
    problem = _table(standardize_targets=False)
    scores = regression(features="inputs").evaluate(
        KEY, _rows(problem, 50), problem, "test"
    )
    # No intercept: predictions stay around 0 while the targets are around 10 000.
    assert scores["regression/mae"].mean > 5e3


@given(
    values=st.lists(
        st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4), min_size=2, max_size=20
    )
)
def test_errors_are_those_of_scikit_learn(values):
    array = np.array(values)
    found, wanted = array[:, :2], array[:, 2:]
    assert accuracy.r_squared(found, wanted) == pytest.approx(
        metrics.r2_score(wanted, found), rel=1e-9, abs=1e-9
    )
    np.testing.assert_allclose(
        accuracy.root_mean_squared_errors(found, wanted),
        metrics.root_mean_squared_error(wanted, found, multioutput="raw_values"),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        accuracy.mean_absolute_errors(found, wanted),
        metrics.mean_absolute_error(wanted, found, multioutput="raw_values"),
        rtol=1e-12,
    )


def test_refusals():
    problem, evaluation = _table(), regression(features="inputs")
    distilled = _rows(problem, 5)
    classes = blobs()
    with pytest.raises(ValueError, match="problem 'blobs' has 3 classes; use 'probe'"):
        evaluation.evaluate(KEY, class_means(classes), classes, "test")
    with pytest.raises(ValueError, match="of kind 'regression', not 'scores'"):
        evaluation.evaluate(KEY, class_means(classes), problem, "test")
    with pytest.raises(ValueError, match="has 2 target.s. a sample, .* has 1"):
        two = distilled._replace(targets=np.zeros((5, 2), np.float32))
        evaluation.evaluate(KEY, two, problem, "test")
    with pytest.raises(ValueError, match="behind 'none' preprocessing.*standardize_t"):
        natural = distilled._replace(targets_preprocessing=None)
        evaluation.evaluate(KEY, natural, problem, "test")
    with pytest.raises(ValueError, match="does not say which ridge"):
        nameless = distilled._replace(provenance={})
        evaluation.evaluate(KEY, nameless, problem, "test")
    with pytest.raises(ValueError, match="split is 'train'"):
        evaluation.evaluate(KEY, distilled, problem, "train")
    with pytest.raises(ValueError, match="loss 'logistic' needs classes"):
        full_data(features="inputs").evaluate(KEY, distilled, problem, "test")
    with pytest.raises(ValueError, match="loss 'hinge' needs classes"):
        probe(loss="hinge", features="inputs").evaluate(KEY, distilled, problem, "test")
    for settings, message in (
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"features": "pixels"}, "unknown features 'pixels'"),
        ({"draws": 0}, "draws must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            regression(**settings)
