"""Certificates hold for whatever was solved, and show when they were changed."""

import json
import math

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from ddjax.kernels import duality, losses
from ddjax.solvers import certificates, erm
from tests.slow import slow


def random_problem(name, seed):
    """A real set, a distilled one and test points, with random settings."""
    loss, rng = losses.get(name), np.random.default_rng(seed)
    columns = 3 if loss.kind == "multiclass" or seed % 2 else 1
    truth = rng.normal(size=(7, columns))

    def draw(count):
        features = rng.normal(size=(count, 7)).astype(np.float32)
        scores = features @ truth + 0.5 * rng.normal(size=(count, columns))
        if columns == 1:
            labels = np.where(scores[:, 0] > 0, 1, -1)
            return features, labels, labels.astype(np.float32)
        labels = scores.argmax(axis=1)
        targets = np.eye(columns, dtype=np.float32)[labels]
        targets = targets if loss.kind == "multiclass" else 2 * targets - 1
        return features, labels, targets

    ridges = 10.0 ** rng.uniform(-3.0, 1.5, 2)
    return loss, draw(30), draw(5), draw(100), *map(float, ridges)


@pytest.mark.parametrize(
    "name", ["logistic", "hinge", slow("huber"), "softmax", "multiclass_hinge"]
)
@hypothesis.given(
    seed=st.integers(0, 10**6),
    tolerance=st.sampled_from([10.0, 1e-1, 1e-8]),
    single=st.booleans(),
    optimal=st.booleans(),
)
@hypothesis.settings(max_examples=6, deadline=None)
def test_bounds_are_never_violated(name, seed, tolerance, single, optimal):
    """Binary and multiclass, loosely solved references, float32 references."""
    loss, real, distilled, test, ridge_o, ridge_s = random_problem(name, seed)

    def solve(data, ridge, tolerance=1e-10):
        return erm.solve(data[0], data[2], loss=loss, ridge=ridge, tolerance=tolerance)

    reference, exact = solve(real, ridge_o, tolerance), solve(real, ridge_o)
    trained = solve(distilled, ridge_s)
    weights, reference_gap = reference.weights, reference.gap
    if single:
        weights = weights.astype(np.float32)
        with jax.enable_x64(True):
            gap = jax.jit(lambda *a: duality.gap(*a, loss=loss, ridge=ridge_o))
            arrays = (each.astype(np.float64) for each in (weights, real[0], real[2]))
            reference_gap = float(gap(*arrays))
    report = certificates.certificate(
        weights,
        distilled[0],
        distilled[2],
        loss=loss,
        ridge=ridge_s,
        duals=trained.duals if optimal else None,
        reference_gap=reference_gap,
        reference_ridge=ridge_o,
        test_features=test[0],
        test_labels=test[1],
    )
    certificates.check_certificate(report)
    # What the solutions compared with are themselves off by.
    own = math.sqrt(2.0 * trained.gap / ridge_s)
    other = math.sqrt(2.0 * exact.gap / ridge_o)
    deviation = np.linalg.norm(trained.weights - weights)
    assert deviation <= report["radius"] + own
    deviation = np.linalg.norm(trained.weights - exact.weights)
    assert deviation <= report["radius_to_exact_reference"] + own + other
    assert report["midpoint_radius"] <= report["radius"] / math.sqrt(2.0) + 1e-12
    scores = test[0].astype(np.float64) @ trained.weights
    decided = np.sign(scores) if scores.ndim == 1 else scores.argmax(axis=1)
    error = float(np.mean(decided != test[1]))
    assert report["error_lower"] <= error <= report["error_upper"]
    assert report["midpoint_error_lower"] <= error <= report["midpoint_error_upper"]
    moved = np.abs(scores - test[0].astype(np.float64) @ weights).max()
    assert moved <= report["prediction_bound"] + own * report["largest_feature_norm"]


def small_certificate(**extra):
    rng = np.random.default_rng(10)
    features = rng.normal(size=(6, 4))
    targets = np.sign(features[:, 0])
    settings = {"loss": losses.logistic(), "ridge": 0.5}
    solution = erm.solve(features, targets, tolerance=1e-10, **settings)
    weights = solution.weights + 0.01
    test = rng.normal(size=(40, 4))
    shared = {
        "reference_gap": 1e-4,
        "reference_ridge": 2.0,
        "test_labels": np.where(test[:, 0] > 0, 1, -1),
        **settings,
        **extra,
    }
    by_features = certificates.certificate(
        weights, features, targets, test_features=test, **shared
    )
    by_kernel = certificates.kernel_certificate(
        features @ weights,
        float(weights @ weights),
        features @ features.T,
        targets,
        test_predictions=test @ weights,
        test_diagonal=np.sum(test**2, axis=1),
        test_gram=test @ features.T,
        **shared,
    )
    return by_features, by_kernel


def test_certificate_is_informative_and_survives_json():
    report, by_kernel = small_certificate()
    assert 0.0 <= report["error_lower"] <= report["error_upper"] < 0.5
    again = json.loads(json.dumps(report))
    assert again == report
    certificates.check_certificate(again)
    certificates.check_certificate(by_kernel)
    assert report.keys() == by_kernel.keys()
    for name in ("radius", "midpoint_radius", "gap", "error_lower", "error_upper"):
        np.testing.assert_allclose(report[name], by_kernel[name], rtol=1e-6)
    np.testing.assert_allclose(
        report["radius_to_exact_reference"],
        math.sqrt(2.0 * report["gap"] / 0.5) + math.sqrt(2.0 * 1e-4 / 2.0),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        report["midpoint_radius"], report["radius"] / 2, rtol=1e-6
    )


def test_tampered_certificates_are_found():
    report, _ = small_certificate()
    names = report.keys() - {"loss", "loss_settings", "duals", "samples"}
    for name in names:
        for wrong in (report[name] + 0.01, math.nan):
            with pytest.raises(ValueError, match="certificate"):
                certificates.check_certificate(report | {name: wrong})
    # Those say whether a part is there at all.
    for name in names - {"reference_gap", "test_samples", "midpoint_correct"}:
        with pytest.raises(ValueError, match=name):
            certificates.check_certificate(report | {name: None})


def test_certificate_takes_the_best_duals():
    rng = np.random.default_rng(11)
    features, targets = rng.normal(size=(6, 4)), np.sign(rng.normal(size=6))
    settings = {"loss": losses.hinge(), "ridge": 0.1}
    weights = rng.normal(size=4)
    solution = erm.solve(features, targets, tolerance=1e-10, **settings)
    plain, best, useless = (
        certificates.certificate(weights, features, targets, duals=duals, **settings)
        for duals in (None, solution.duals, 1e3 * np.ones(6))
    )
    assert plain["duals"] == "solved"
    assert best["duals"] == "given"
    np.testing.assert_allclose(best["gap"], plain["gap"], rtol=1e-6)
    assert best["gap"] < useless["gap"]
    with jax.enable_x64(True):
        value = float(duality.primal(weights, features, targets, **settings))
    np.testing.assert_allclose(best["gap"], value - solution.primal, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *(("hinge", limit) for limit in (1000, 25)),
        *(("multiclass_hinge", limit) for limit in (1000, 25)),
        ("epsilon_insensitive", 25),
        ("softmax", 1000),
    ],
)
def test_at_the_solution_the_default_duals_are_about_as_good_as_the_solvers(
    name, limit, monkeypatch
):
    """The gradient at a kink, where support vectors lie, says nothing."""
    monkeypatch.setattr(certificates, "_MOST_SOLVED", limit)
    loss, (features, _, targets), *_ = random_problem(name, 5)
    solution = erm.solve(features, targets, loss=name, ridge=0.1)
    assert solution.converged
    settings = {"loss": name, "ridge": 0.1}
    arrays = solution.weights, features, targets
    given = certificates.certificate(*arrays, duals=solution.duals, **settings)
    plain = certificates.certificate(*arrays, **settings)
    by_kernel = certificates.kernel_certificate(
        features.astype(float) @ solution.weights,
        float(np.sum(np.square(solution.weights))),
        features.astype(float) @ features.astype(float).T,
        targets,
        **settings,
    )
    certificates.check_certificate(plain)
    for report in (plain, by_kernel):
        assert report["gap"] <= 2.0 * given["gap"] + report["rounding"]
    solved = "solved" if limit >= len(features) else "solved in part"
    assert plain["duals"] == by_kernel["duals"] == ("kkt" if loss.smooth else solved)


def test_a_kernel_that_is_none_leaves_the_other_duals():
    gram = np.array([[1.0, 3.0], [3.0, 1.0]])
    report = certificates.kernel_certificate(
        np.zeros(2), 1.0, gram, np.array([1.0, -1.0]), loss="hinge", ridge=1e-3
    )
    assert report["duals"] in ("kkt", "surrogate")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"loss": "hing"}, "unknown loss 'hing'; one of logistic"),
        ({"reference_ridge": None}, "together"),
        ({"ridge": -1.0}, "ridge must be finite and > 0, got -1.0"),
        ({"test_labels": np.arange(40)}, "-1 and 1"),
        ({"test_labels": np.ones(3)}, "40 numbers"),
        ({"test_labels": None}, "together"),
    ],
)
def test_certificate_names_mistakes(extra, message):
    with pytest.raises(ValueError, match=message):
        small_certificate(**extra)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("test_predictions", (2,)), ("test_diagonal", (2,)), ("test_gram", (2, 3))],
)
def test_test_points_that_are_not_finite_are_refused(name, shape):
    """A NaN compares as neither right nor wrong: it would count as unknown."""
    rows, targets = np.eye(3), np.array([1.0, -1.0, 1.0])
    settings = {"loss": "logistic", "ridge": 1.0, "test_labels": np.array([1, -1])}
    test = {"test_predictions": np.ones(2), "test_diagonal": np.ones(2)}
    test |= {name: np.full(shape, np.nan)}
    with pytest.raises(ValueError, match=f"{name} hold"):
        certificates.kernel_certificate(targets, 3.0, rows, targets, **test, **settings)
    with pytest.raises(ValueError, match="test_features hold"):
        certificates.certificate(
            targets, rows, targets, test_features=np.full((2, 3), np.nan), **settings
        )
