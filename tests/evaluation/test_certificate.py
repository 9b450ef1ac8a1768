"""Certificates: the measured error lies in the interval, the deviation in the ball."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import certificate, full_data, probe
from ddjax.evaluation.certificate import in_words
from ddjax.evaluation.wording import number
from ddjax.models import feature_maps
from ddjax.solvers import certificates, erm
from ddjax.storage.cache import in_memory
from tests.evaluation.problems import (
    blobs,
    class_means,
    of_regression,
    regression,
    some_real,
    with_targets,
)

KEY = jax.random.key(0)
SMALL = {"kind": "fully_connected", "depth": 2, "width": 32}
MADE_WITH = {"real_ridge_per_sample": 1e-2, "distilled_ridge_per_sample": 1e-2}


def learned(problem, kind, count=8):
    """A few real samples with perturbed targets, as a method would leave them."""
    distilled = some_real(problem, count, kind=kind)
    targets = distilled.stored["targets"]
    noise = 0.2 * np.random.default_rng(0).normal(size=targets.shape)
    moved = targets + jnp.asarray(noise, jnp.float32)
    return with_targets(distilled, moved) if kind == "margin" else distilled


@pytest.mark.parametrize(
    ("loss", "classes", "kind", "features"),
    [
        ("logistic", 2, "margin", "inputs"),
        ("hinge", 2, "margin", "nngp"),
        ("softmax", 3, "probabilities", "nngp"),
        ("squared_hinge", 3, "signs", "inputs"),
    ],
)
def test_measured_numbers_lie_within_the_certified(loss, classes, kind, features):
    problem = blobs(classes=classes, each=12, gap=3.0)
    evaluation = certificate(
        loss=loss,
        **MADE_WITH,
        features=features,
        architecture=SMALL if features == "nngp" else None,
        block=16,
    )
    scores = evaluation.evaluate(KEY, learned(problem, kind), problem, "test")
    found = {name.split("/")[1]: score.mean for name, score in scores.items()}
    certificates.check_certificate(found)
    assert 0 < found["deviation"] <= found["radius"] * (1 + 1e-6)
    assert found["radius"] <= found["radius_to_exact_reference"]
    for prefix in ("", "midpoint_"):
        lower, upper = found[f"{prefix}error_lower"], found[f"{prefix}error_upper"]
        assert 0.0 <= lower <= found["error"] + 1e-9 <= upper + 2e-9 <= 1.0 + 2e-9


def test_a_set_that_is_the_real_data_is_certified_exactly():
    problem = blobs(classes=2, each=12, gap=4.0)
    everything = some_real(problem, 24, kind="margin")
    evaluation = certificate(
        loss="logistic", **MADE_WITH, features="inputs", tolerance=1e-12
    )
    scores = evaluation.evaluate(KEY, everything, problem, "test")
    found = {name: score.mean for name, score in scores.items()}
    assert found["certificate/radius"] < 1e-3
    assert found["certificate/error_lower"] == pytest.approx(
        found["certificate/error_upper"]
    )
    assert found["certificate/error"] == found["certificate/reference_error"]


def test_settings_come_from_the_distillation():
    problem = blobs(classes=2, each=12)
    seen = feature_maps.inputs()
    features = {"features": feature_maps.to_recipe(seen)}
    recipe = {
        **features,
        "loss": {"name": "huber", "delta": 0.5},
        "real_ridge": 1e-2,
        "ridge": {"strength": 1e-2, "convention": "per_sample"},
    }
    own = class_means(problem, kind="margin", recipe=recipe)
    told = class_means(problem, kind="margin", recipe=features)
    from_set = certificate(label="own").evaluate(KEY, own, problem, "validation")
    given = certificate(
        loss="huber", loss_settings={"delta": 0.5}, **MADE_WITH
    ).evaluate(KEY, told, problem, "validation")
    assert from_set["certificate_own/radius"] == given["certificate/radius"]
    with pytest.raises(ValueError, match="does not say the loss .*; give loss"):
        certificate().evaluate(KEY, told, problem, "test")
    absolute = {"strength": 2e-2, "convention": "absolute"}
    own = class_means(problem, kind="margin", recipe={**recipe, "ridge": absolute})
    same = certificate(label="own").evaluate(KEY, own, problem, "validation")
    assert same == from_set
    relative = {"strength": 1e-6, "convention": "relative"}
    own = class_means(problem, kind="margin", recipe={**recipe, "ridge": relative})
    with pytest.raises(ValueError, match="1e-06 .relative.; .* give distilled_ridge"):
        certificate().evaluate(KEY, own, problem, "test")


def test_the_real_problem_is_solved_once(monkeypatch):
    solved, solve = [], erm.solve
    monkeypatch.setattr(
        erm,
        "solve",
        lambda rows, *a, **k: solved.append(len(rows)) or solve(rows, *a, **k),
    )
    problem = blobs(classes=2, each=12)
    evaluation = certificate(loss="logistic", **MADE_WITH, features="inputs")
    cache = in_memory()
    for count in (4, 6):
        distilled = some_real(problem, count, kind="margin")
        evaluation.evaluate(KEY, distilled, problem, "validation", cache)
    assert solved == [24, 4, 6]
    # Other data, another loss, another ridge, another tolerance are solved for.
    other = blobs(classes=2, each=12, gap=2.0)
    evaluation.evaluate(KEY, distilled, other, "validation", cache)
    assert solved[3:] == [24, 6]
    settings = {"loss": "logistic", **MADE_WITH, "features": "inputs"}
    for changed in (
        {"loss": "huber", "loss_settings": {"delta": 0.5}},
        {"loss": "huber", "loss_settings": {"delta": 0.6}},
        {"real_ridge_per_sample": 2e-2},
        {"tolerance": 1e-7},
    ):
        del solved[:]
        certificate(**{**settings, **changed}).evaluate(
            KEY, distilled, problem, "validation", cache
        )
        assert solved == [24, 6]


def test_what_did_not_converge_says_so():
    # With one iteration the radius was many times the norm, without a word.
    problem = blobs(classes=2, each=12)
    distilled = some_real(problem, 4, kind="margin")
    settings = {"loss": "logistic", **MADE_WITH, "features": "inputs"}
    hasty = certificate(**settings, max_iterations=1, tolerance=1e-9)
    with pytest.warns(UserWarning) as warned:
        scores = hasty.evaluate(KEY, distilled, problem, "test")
    found = {name.split("/")[1]: score.mean for name, score in scores.items()}
    real, own = (str(each.message) for each in warned)
    assert "on the real data did not converge: a relative duality gap of" in real
    assert "left after 1 iterations, the tolerance is 1e-09" in real
    assert in_words(found) in real
    assert "on the distilled set did not converge" in own
    assert found["reference_converged"] == found["converged"] == 0.0
    strict = certificate(
        **settings, max_iterations=1, tolerance=1e-9, require_convergence=True
    )
    with pytest.raises(erm.NotConverged, match="on the real data did not converge"):
        strict.evaluate(KEY, distilled, problem, "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = certificate(**settings).evaluate(KEY, distilled, problem, "test")
    assert scores["certificate/reference_converged"].mean == 1.0
    assert scores["certificate/converged"].mean == 1.0


def test_an_unconverged_reference_from_the_cache_still_says_so():
    problem = blobs(classes=2, each=12)
    distilled = some_real(problem, 4, kind="margin")
    settings = {"loss": "logistic", **MADE_WITH, "features": "inputs"}
    hasty, cache = (
        certificate(**settings, max_iterations=1, tolerance=1e-9),
        in_memory(),
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match="on the real data did not converge"):
            hasty.evaluate(KEY, distilled, problem, "test", cache)


@pytest.mark.parametrize("factory", [probe, full_data])
def test_other_learners_that_did_not_converge_say_so(factory):
    problem = blobs(classes=2, each=12)
    distilled = some_real(problem, 4, kind="margin")
    settings = {"features": "inputs", "max_iterations": 1, "tolerance": 1e-9}
    with pytest.warns(UserWarning, match="did not converge: a relative duality gap"):
        scores = factory(**settings).evaluate(KEY, distilled, problem, "test")
    converged = {k: v.mean for k, v in scores.items() if k.endswith("/converged")}
    assert list(converged.values()) == [0.0]
    strict = factory(**settings, require_convergence=True)
    with pytest.raises(erm.NotConverged, match="after 1 iterations"):
        strict.evaluate(KEY, distilled, problem, "test")


def test_a_certificate_that_proves_nothing_says_so():
    problem = blobs(classes=2, each=12, gap=0.5)
    distilled = some_real(problem, 2, kind="margin")
    tiny = {"real_ridge_per_sample": 1e-6, "distilled_ridge_per_sample": 1e-6}
    evaluation = certificate(loss="logistic", **tiny, features="inputs")
    scores = evaluation.evaluate(KEY, distilled, problem, "test")
    found = {name.split("/")[1]: score.mean for name, score in scores.items()}
    assert found["proves_something"] == 0.0
    # The distance and its bound are in one unit: the norm of the real solution.
    for what, relative in (
        ("radius", "relative_radius"),
        ("deviation", "relative_deviation"),
    ):
        assert found[relative] == pytest.approx(found[what] / found["reference_norm"])
    assert in_words(found) == (
        "the certificate proves nothing about the test error: the distance of the "
        "set's model from the real data's is only known to be at most "
        f"{number(found['relative_radius'])} times that model's norm"
    )
    evaluation = certificate(loss="logistic", **MADE_WITH, features="inputs")
    everything = some_real(problem, 24, kind="margin")
    scores = evaluation.evaluate(KEY, everything, problem, "test")
    found = {name.split("/")[1]: score.mean for name, score in scores.items()}
    assert found["proves_something"] == 1.0
    assert in_words(found).startswith("the test error is proven to lie between ")


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown loss 'zero_one'"):
        certificate(loss="zero_one")
    with pytest.raises(ValueError, match="distilled_ridge_per_sample must be > 0, "):
        certificate(distilled_ridge_per_sample=0.0)
    problem = regression()
    distilled = of_regression(problem)
    with pytest.raises(ValueError, match="problem 'linear' has no classes"):
        certificate(features="inputs").evaluate(KEY, distilled, problem, "test")
