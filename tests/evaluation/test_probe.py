"""Convex probes: scikit-learn's solutions, transfer, classes, the upper bound."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ddjax.evaluation import full_data, probe
from ddjax.models import feature_maps
from tests.evaluation.problems import (
    blobs,
    class_means,
    digits,
    features_of,
    measured,
    of_regression,
    regression,
    some_real,
)

KEY = jax.random.key(0)
SMALL = {"kind": "fully_connected", "depth": 2, "width": 32}
SEEN = feature_maps.from_settings(
    jax.random.key(5), {"architecture": SMALL, "networks": 2}
)
RECIPE = {"features": feature_maps.to_recipe(SEEN)}


def binary_set(samples: int = 40):
    problem = digits((3, 8))
    return problem, some_real(problem, samples, kind="margin", recipe=RECIPE)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_binary_probes_agree_with_scikit_learn(loss):
    problem, distilled = binary_set()
    found = measured(probe(loss=loss, ridge_per_sample=1e-3), distilled, problem)
    train = features_of(SEEN, distilled.stored["inputs"])
    test = features_of(SEEN, problem.test.inputs)
    labels = np.asarray(distilled.stored["targets"])
    strength = 1e-3 * len(labels)
    posed = {"C": 1 / strength, "fit_intercept": False, "tol": 1e-8}
    if loss == "logistic":
        oracle = LogisticRegression(**posed, max_iter=1000)
    else:
        oracle = LinearSVC(**posed, loss="hinge", max_iter=10**6, random_state=0)
    predictions = test @ oracle.fit(train, labels).coef_[0]
    signs = np.where(np.asarray(problem.test.labels) == 1, 1.0, -1.0)
    expected = np.mean(predictions * signs > 0)
    assert found["accuracy"] == pytest.approx(expected)
    assert found["solver_gap"] <= 1e-6


@pytest.mark.parametrize("loss", ["softmax", "multiclass_hinge", "logistic", "squared"])
def test_ten_classes_jointly_and_one_against_the_rest(loss):
    problem = digits()
    evaluation = probe(loss=loss, features="inputs", ridge_per_sample=1e-2)
    found = measured(evaluation, class_means(problem), problem, "validation")
    assert 0.75 < found["accuracy"] < 0.97


def test_softmax_agrees_with_scikit_learn():
    problem = digits()
    distilled = some_real(problem, 60, kind="probabilities", recipe=RECIPE)
    found = measured(probe(loss="softmax", ridge_per_sample=1e-3), distilled, problem)
    oracle = LogisticRegression(
        C=1 / (1e-3 * 60), fit_intercept=False, tol=1e-8, max_iter=2000
    ).fit(features_of(SEEN, distilled.stored["inputs"]), np.asarray(distilled.labels))
    expected = oracle.score(
        features_of(SEEN, problem.test.inputs), np.asarray(problem.test.labels)
    )
    assert found["accuracy"] == pytest.approx(expected, abs=0.003)


def test_the_kernel_of_features_gives_what_the_features_give():
    problem, distilled = binary_set(12)
    exact = probe(features="nngp", architecture=SMALL, block=64)
    own, found = (measured(each, distilled, problem) for each in (probe(), exact))
    assert own["accuracy"] == pytest.approx(found["accuracy"], abs=0.1)


def test_other_random_features_are_drawn():
    problem, distilled = binary_set(12)
    evaluation = probe(
        features="random_features", architecture=SMALL, networks=1, draws=3
    )
    first = evaluation.evaluate(KEY, distilled, problem, "test")
    other = evaluation.evaluate(jax.random.key(1), distilled, problem, "test")
    assert first != other
    assert first["probe_logistic/accuracy"].draws == 3
    assert first["probe_logistic/accuracy"].mean > 0.6


def test_regression_sets_are_probed_with_regression_losses_only():
    problem = regression()
    distilled = of_regression(problem)
    scores = measured(probe(loss="squared", features="inputs"), distilled, problem)
    errors = {"r2", "rmse_0", "rmse_1", "mae_0", "mae_1"}
    assert set(scores) == {"mse", *errors, "solver_gap", "converged"}
    assert scores["mse"] < 1e-6
    bound = full_data(loss="squared", features="inputs")
    assert measured(bound, distilled, problem)["mse"] < 1e-6
    with pytest.raises(ValueError, match="'logistic' needs classes"):
        probe(features="inputs").evaluate(KEY, distilled, problem, "test")


@pytest.mark.parametrize(("loss", "classes"), [("logistic", 2), ("softmax", 3)])
def test_the_upper_bound_is_the_probe_of_all_the_data(loss, classes):
    problem = blobs(classes=classes, each=15, gap=2.0)
    everything = some_real(
        problem, 15 * classes, kind="margin" if classes == 2 else "probabilities"
    )
    settings = {"loss": loss, "features": "inputs", "ridge_per_sample": 1e-2}
    whole = measured(probe(**settings), everything, problem)
    bound = full_data(**settings, tolerance=1e-6)
    found = measured(bound, class_means(problem), problem)
    assert found["accuracy"] == whole["accuracy"]


def test_features_too_large_for_the_upper_bound_are_refused():
    problem = digits((0, 1))
    evaluation = full_data(features="inputs", largest=1000)
    with pytest.raises(ValueError, match="would take .* GiB, more than"):
        evaluation.evaluate(KEY, class_means(problem), problem, "test")
