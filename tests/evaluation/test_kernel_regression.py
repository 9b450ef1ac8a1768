"""Kernel regression: scikit-learn's numbers, features kept and not, refusals."""

from unittest.mock import Mock

import jax
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from ddjax.evaluation import convex, kernel_regression
from ddjax.models import feature_maps
from ddjax.storage.cache import in_memory
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


def test_agrees_with_scikit_learn():
    problem = digits()
    distilled = some_real(problem, 40)
    evaluation = kernel_regression(
        architecture=SMALL, networks=2, draws=2, ridge=1e-3, label="small"
    )
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    accuracies, errors = [], []
    for draw in range(2):
        key = jax.random.fold_in(KEY, draw)
        seen = feature_maps.from_settings(key, {"architecture": SMALL, "networks": 2})
        train = features_of(seen, distilled.stored["inputs"])
        test = features_of(seen, problem.test.inputs)
        gram = train @ train.T
        oracle = KernelRidge(alpha=1e-3 * np.trace(gram) / 40, kernel="precomputed")
        oracle.fit(gram, np.asarray(distilled.stored["targets"]))
        predictions = oracle.predict(test @ train.T)
        labels = np.asarray(problem.test.labels)
        accuracies.append(np.mean(predictions.argmax(axis=1) == labels))
        errors.append(np.mean((predictions - np.eye(10)[labels] + 0.1) ** 2))
    name = "kernel_regression_small"
    assert scores[f"{name}/accuracy"].mean == pytest.approx(np.mean(accuracies))
    assert scores[f"{name}/mse"].mean == pytest.approx(np.mean(errors), rel=1e-3)
    assert scores[f"{name}/mse"].std == pytest.approx(np.std(errors, ddof=1), rel=0.01)


def test_class_means_are_worth_what_a_nearest_mean_is_worth():
    problem = digits()
    evaluation = kernel_regression(kernel="inputs")
    score = evaluation.evaluate(KEY, class_means(problem), problem, "test")
    found = score["kernel_regression/accuracy"]
    assert found.draws == 1 and found.std == 0.0
    assert 0.75 < found.mean < 0.95


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_exact_kernels(kind):
    problem = blobs(gap=6.0)
    evaluation = kernel_regression(kernel=kind, architecture=SMALL, block=16)
    assert measured(evaluation, class_means(problem), problem)["accuracy"] > 0.9


def test_the_features_of_the_distillation_have_to_be_known():
    """They are rebuilt, see `test_probe`, where the set says which they are."""
    problem, evaluation = blobs(), kernel_regression(kernel="distillation")
    recipe = {"features": feature_maps.to_recipe(feature_maps.inputs())}
    told = measured(evaluation, class_means(problem, recipe=recipe), problem)
    wanted = measured(kernel_regression(kernel="inputs"), class_means(problem), problem)
    assert told == wanted
    with pytest.raises(ValueError, match="does not say which features"):
        measured(evaluation, class_means(problem), problem)


def test_regression_targets_give_an_error_and_no_accuracy():
    problem = regression()
    evaluation = kernel_regression(kernel="inputs", ridge=1e-9)
    scores = measured(evaluation, of_regression(problem), problem, "validation")
    assert set(scores) == {"mse"}
    assert scores["mse"] < 1e-6


def test_kept_and_streamed_features_predict_alike(monkeypatch):
    problem, evaluation = blobs(), kernel_regression(kernel="inputs", block=16)
    sets = class_means(problem), some_real(problem, 6)
    kept = [measured(evaluation, each, problem) for each in sets]
    monkeypatch.setattr(convex, "KEPT_BYTES", 0)
    for distilled, scores in zip(sets, kept, strict=True):
        other = measured(evaluation, distilled, problem)
        assert other == pytest.approx(scores, rel=1e-4)


def test_features_of_real_data_are_computed_once_with_a_cache(monkeypatch):
    compute = Mock(wraps=convex.features_of)
    monkeypatch.setattr(convex, "features_of", compute)
    problem, other = blobs(), blobs(each=25)
    evaluation, cache = kernel_regression(kernel="inputs"), in_memory()
    for count in (4, 6):
        distilled = some_real(problem, count)
        evaluation.evaluate(KEY, distilled, problem, "test", cache)
    assert [len(call.args[1]) for call in compute.call_args_list] == [4, 60, 6]
    # Another split, another problem: nothing is mistaken for what was kept.
    evaluation.evaluate(KEY, distilled, problem, "validation", cache)
    evaluation.evaluate(KEY, distilled, other, "test", cache)
    counted = [len(call.args[1]) for call in compute.call_args_list[3:]]
    assert counted == [6, 60, 6, 75]
