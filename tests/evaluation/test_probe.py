"""Convex probes: scikit-learn's solutions, transfer, classes, the upper bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ddjax.evaluation import EVALUATIONS, full_data, probe
from ddjax.models import feature_maps
from tests.evaluation.problems import (
    blobs,
    class_means,
    digits,
    of_regression,
    regression,
    some_real,
)
from tests.models.encoders.tiny import linear_encoder

KEY = jax.random.key(0)
SMALL = {"kind": "fully_connected", "depth": 2, "width": 32}
SEEN = feature_maps.from_settings(
    jax.random.key(5), {"architecture": SMALL, "networks": 2}
)
RECIPE = {"features": feature_maps.to_recipe(SEEN)}


def features_of(inputs):
    params, apply = feature_maps.build(SEEN, inputs.shape[1:])
    return np.asarray(apply(params, jnp.asarray(inputs)), np.float64)


def binary_set(samples: int = 40):
    problem = digits((3, 8))
    return problem, some_real(problem, samples, kind="margin", recipe=RECIPE)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_binary_probes_agree_with_scikit_learn(loss):
    problem, distilled = binary_set()
    found = probe(loss=loss, ridge_per_sample=1e-3).evaluate(
        KEY, distilled, problem, "test"
    )
    train = features_of(distilled.stored["inputs"])
    test = features_of(problem.test.inputs)
    labels = np.asarray(distilled.stored["targets"])
    strength = 1e-3 * len(labels)
    if loss == "logistic":
        oracle = LogisticRegression(
            C=1 / strength, fit_intercept=False, tol=1e-8, max_iter=1000
        )
    else:
        oracle = LinearSVC(
            C=1 / strength,
            fit_intercept=False,
            loss="hinge",
            tol=1e-8,
            max_iter=10**6,
            random_state=0,
        )
    predictions = test @ oracle.fit(train, labels).coef_[0]
    signs = np.where(np.asarray(problem.test.labels) == 1, 1.0, -1.0)
    expected = np.mean(predictions * signs > 0)
    score = found[f"probe_{loss}/accuracy"]
    assert score.mean == pytest.approx(expected)
    assert found[f"probe_{loss}/solver_gap"].mean <= 1e-6


@pytest.mark.parametrize("loss", ["softmax", "multiclass_hinge", "logistic", "squared"])
def test_ten_classes_jointly_and_one_against_the_rest(loss):
    problem = digits()
    evaluation = probe(loss=loss, features="inputs", ridge_per_sample=1e-2)
    found = evaluation.evaluate(KEY, class_means(problem), problem, "validation")
    assert 0.75 < found[f"probe_{loss}/accuracy"].mean < 0.97


def test_softmax_agrees_with_scikit_learn():
    problem = digits()
    distilled = some_real(problem, 60, kind="probabilities", recipe=RECIPE)
    found = probe(loss="softmax", ridge_per_sample=1e-3).evaluate(
        KEY, distilled, problem, "test"
    )
    oracle = LogisticRegression(
        C=1 / (1e-3 * 60), fit_intercept=False, tol=1e-8, max_iter=2000
    ).fit(features_of(distilled.stored["inputs"]), np.asarray(distilled.labels))
    expected = oracle.score(
        features_of(problem.test.inputs), np.asarray(problem.test.labels)
    )
    assert found["probe_softmax/accuracy"].mean == pytest.approx(expected, abs=0.003)


def test_the_kernel_of_features_gives_what_the_features_give():
    problem, distilled = binary_set(12)
    own = probe(loss="logistic", label="own")
    others = probe(
        loss="logistic", features="nngp", architecture=SMALL, label="nngp", block=64
    )
    scores = {
        **own.evaluate(KEY, distilled, problem, "test"),
        **others.evaluate(KEY, distilled, problem, "test"),
    }
    assert scores["probe_logistic_own/accuracy"].mean == pytest.approx(
        scores["probe_logistic_nngp/accuracy"].mean, abs=0.1
    )


def test_other_random_features_are_drawn_and_repeat_themselves():
    problem, distilled = binary_set(12)
    evaluation = probe(
        features="random_features", architecture=SMALL, networks=1, draws=3
    )
    first = evaluation.evaluate(KEY, distilled, problem, "test")
    again = evaluation.evaluate(KEY, distilled, problem, "test")
    other = evaluation.evaluate(jax.random.key(1), distilled, problem, "test")
    assert first == again != other
    assert first["probe_logistic/accuracy"].draws == 3
    assert first["probe_logistic/accuracy"].mean > 0.6


def test_regression_sets_are_probed_with_regression_losses_only():
    problem = regression()
    distilled = of_regression(problem)
    evaluation = probe(loss="squared", features="inputs")
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    kinds = (
        "mse",
        "r2",
        "rmse_0",
        "rmse_1",
        "mae_0",
        "mae_1",
        "solver_gap",
        "converged",
    )
    assert set(scores) == {f"probe_squared/{kind}" for kind in kinds}
    assert scores["probe_squared/mse"].mean < 1e-6
    bound = full_data(loss="squared", features="inputs")
    scores = bound.evaluate(KEY, distilled, problem, "test")
    assert scores["full_data_squared/mse"].mean < 1e-6
    with pytest.raises(ValueError, match="'logistic' needs classes"):
        probe(features="inputs").evaluate(KEY, distilled, problem, "test")


@pytest.mark.parametrize(("loss", "classes"), [("logistic", 2), ("softmax", 3)])
def test_the_upper_bound_is_the_probe_of_all_the_data(loss, classes):
    problem = blobs(classes=classes, each=15, gap=2.0)
    everything = some_real(
        problem, 15 * classes, kind="margin" if classes == 2 else "probabilities"
    )
    settings = {"loss": loss, "features": "inputs", "ridge_per_sample": 1e-2}
    whole = probe(**settings).evaluate(KEY, everything, problem, "test")
    means = class_means(problem)
    bound = full_data(**settings, tolerance=1e-6).evaluate(KEY, means, problem, "test")
    assert (
        bound[f"full_data_{loss}/accuracy"].mean == whole[f"probe_{loss}/accuracy"].mean
    )


def test_features_too_large_for_the_upper_bound_are_refused():
    problem = digits((0, 1))
    evaluation = full_data(features="inputs", largest=1000)
    with pytest.raises(ValueError, match="would take .* GiB, more than"):
        evaluation.evaluate(KEY, class_means(problem), problem, "test")


def test_every_kind_of_evaluation_has_a_name_of_its_own():
    needed = dict.fromkeys(
        ("linear_probe", "full_data_linear_probe"), {"encoder": linear_encoder()}
    ) | {"random_real": {"learner": "probe"}}
    needed |= {"real_pretraining": {"teacher": linear_encoder()}}
    names = {
        name: EVALUATIONS[name](**needed.get(name, {})).name for name in EVALUATIONS
    }
    prefixes = {
        "kernel_regression": "kernel_regression",
        "probe": "probe_",
        "random_real": "random_real_probe_",
        "network": "network_",
        "full_data": "full_data_",
        "regression": "regression",
        "certificate": "certificate",
        "linear_probe": "linear_probe",
        "full_data_linear_probe": "full_data_linear_probe",
        "pretraining": "pretraining_convnet",
        "real_pretraining": "full_data_pretraining_convnet",
    }
    assert set(names) == set(prefixes)
    for name, prefix in prefixes.items():
        assert names[name].startswith(prefix)
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("factory", [probe, full_data])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "zero_one"}, "unknown loss 'zero_one'"),
        ({"loss": "logistic", "loss_settings": {"gamma": 1.0}}, "takes no 'gamma'"),
        ({"ridge_per_sample": 0.0}, "ridge_per_sample must be > 0, got 0.0"),
        ({"features": "pixels"}, "unknown features 'pixels'; known: distillation"),
    ],
)
def test_mistakes_are_named_when_the_evaluation_is_made(factory, settings, message):
    with pytest.raises(ValueError, match=message):
        factory(**settings)
