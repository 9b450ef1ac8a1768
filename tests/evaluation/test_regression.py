"""Ridge regression on a set: scikit-learn's numbers in natural units, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
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
from ddjax.synthetic.distilled import DistilledSet
from tests.evaluation.problems import (
    blobs,
    class_means,
    measured,
    of_regression,
    with_targets,
)

KEY = jax.random.key(0)


def _table(outputs: int = 1, **options) -> data.Problem:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 4)) * [1.0, 10.0, 0.1, 3.0] + 5.0
    targets = 1e3 * np.sin(inputs[:, :outputs]) + 1e4 + rng.normal(size=(120, outputs))
    names = tuple(f"y{i}" for i in range(outputs))
    columns = data.Columns(tuple("abcd"), names, {})
    return data.from_arrays((inputs, targets), columns=columns, **options)


def _rows(problem: data.Problem, count: int, **recipe) -> DistilledSet:
    ridge = {"strength": 0.1, "convention": "per_sample"}
    return of_regression(problem, count, **{"ridge": ridge, **recipe})


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
    model.fit(distilled.stored["inputs"], distilled.stored["targets"])
    wanted = _expected(problem, model.predict(problem.test.inputs).reshape(-1, 1))
    evaluation = regression(ridge=ridge, features="inputs")
    found = evaluation.evaluate(KEY, distilled, problem, "test")
    assert list(found) == ["regression/r2", "regression/rmse", "regression/mae"]
    assert [each.mean for each in found.values()] == pytest.approx(wanted, rel=1e-4)
    assert {each.draws for each in found.values()} == {1}
    assert found["regression/rmse"].mean > 10


def test_new_rows_are_predicted_in_natural_units():
    problem = _table(outputs=2)
    settings = {"kind": "fourier", "frequencies": 32}
    recipe = feature_maps.to_recipe(feature_maps.from_settings(KEY, settings))
    distilled = _rows(problem, 40, features=recipe)
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


def test_a_tables_own_columns_are_predicted_from(tmp_path):
    rng = np.random.default_rng(0)
    weight, colour = rng.uniform(1, 9, 80), rng.choice(["blue", "green", "red"], 80)
    price = 100 * weight + 50 * (colour == "red") + rng.normal(size=80)
    rows = zip(weight, colour, price, strict=True)
    lines = [f"{w:.6f},{c},{p:.6f}" for w, c, p in rows]
    (tmp_path / "cars.csv").write_text("\n".join(["weight,colour,price", *lines]))
    problem = data.load("table:cars.csv", directory=tmp_path, table={"target": "price"})
    distilled = _rows(problem, 50, ridge={"strength": 1e-6, "convention": "per_sample"})
    distilled = distilled._replace(
        provenance=synthetic.provenance(problem, method="none", settings={}, seeds={}),
        recipe={**distilled.recipe, "features": {"kind": "inputs"}},
    )
    columns = {"colour": ["red", "blue"], "weight": ["2.5", "2.5"]}
    predicted = predict_targets(distilled, columns)
    assert predicted[0, 0] - predicted[1, 0] == pytest.approx(50, abs=3)
    # The encoded columns are those of `distilled.columns`.
    encoded = np.array([[2.5, 0, 0, 1], [2.5, 1, 0, 0]])
    np.testing.assert_allclose(predict_targets(distilled, encoded), predicted)
    with pytest.raises(data.DataError, match="'pink' there; the set knows 'blue'"):
        predict_targets(distilled, columns | {"colour": ["pink", "blue"]})
    nameless = distilled._replace(columns=None)
    with pytest.raises(ValueError, match="the set names no columns"):
        predict_targets(nameless, columns)
    loaded = synthetic.load(synthetic.save(tmp_path / "set.safetensors", distilled))
    new = tmp_path / "new.csv"
    new.write_text("weight,note,colour\n2.5,a,red\n2.5,b,blue\n")
    np.testing.assert_allclose(predict_targets(loaded, new), predicted, rtol=1e-6)


def test_several_outputs_have_errors_of_their_own():
    problem = _table(outputs=2)
    evaluation = regression(features="inputs", label="linear")
    assert evaluation.name == "regression_linear"
    scores = measured(evaluation, _rows(problem, 30), problem, "validation")
    assert set(scores) == {"r2", "rmse_y0", "rmse_y1", "mae_y0", "mae_y1"}


@pytest.mark.parametrize("features", ["inputs", "nngp"])
def test_the_upper_bound_is_ridge_on_all_rows(features):
    problem = _table()
    count = len(problem.train.inputs)
    bound = full_data(loss="squared", features=features, ridge_per_sample=0.1)
    whole = regression(features=features)
    everything = measured(whole, _rows(problem, count), problem)
    found = measured(bound, _rows(problem, 2), problem)
    for what, value in everything.items():
        assert found[what] == pytest.approx(value, rel=1e-5)


def test_sets_in_other_units_are_measured_in_the_same():
    # A set whose targets stayed in natural units, on a standardised problem, and back.
    problem, plain = _table(), _table(standardize_targets=False)
    evaluation = regression(features="inputs")
    for made_on, judged_on in ((problem, plain), (plain, problem)):
        distilled = _rows(made_on, 30)
        wanted = measured(evaluation, distilled, made_on)
        found = measured(evaluation, distilled, judged_on)
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("convention", ["absolute", "relative"])
def test_the_ridge_of_the_set_is_read_by_its_convention(convention):
    problem = _table()
    distilled = _rows(problem, 20, ridge={"strength": 0.3, "convention": convention})
    found = regression(features="inputs").evaluate(KEY, distilled, problem, "test")
    given = regression(features="inputs", ridge=0.3, convention=convention)
    assert found == given.evaluate(KEY, _rows(problem, 20), problem, "test")


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
    for ours, theirs in (
        (accuracy.root_mean_squared_errors, metrics.root_mean_squared_error),
        (accuracy.mean_absolute_errors, metrics.mean_absolute_error),
    ):
        expected = theirs(wanted, found, multioutput="raw_values")
        np.testing.assert_allclose(ours(found, wanted), expected, rtol=1e-12)


def test_refusals():
    problem, linear = _table(), regression(features="inputs")
    distilled, classes = _rows(problem, 5), blobs()
    means = class_means(classes)
    two = with_targets(distilled, np.zeros((5, 2), np.float32))
    unknown = problem._replace(test=problem.test._replace(targets=None))
    hinge = probe(loss="hinge", features="inputs")
    logistic = full_data(features="inputs")
    for evaluation, one, real, message in (
        (linear, means, classes, "problem 'blobs' has 3 classes; use 'probe'"),
        (linear, means, problem, "of kind 'regression', not 'scores'"),
        (linear, two, problem, "has 2 target.s. a sample, .* has 1"),
        (linear, of_regression(problem, 5), problem, "does not say which ridge"),
        (linear, distilled, unknown, "test split .* has no targets to measure"),
        (logistic, distilled, problem, "loss 'logistic' needs classes"),
        (hinge, distilled, problem, "loss 'hinge' needs classes"),
    ):
        with pytest.raises(ValueError, match=message):
            measured(evaluation, one, real)
    with pytest.raises(ValueError, match="split is 'train'"):
        measured(linear, distilled, problem, "train")
