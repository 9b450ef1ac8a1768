"""Certificates: the measured error lies in the interval, the deviation in the ball."""

import warnings
from unittest.mock import Mock

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
    measured,
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
    found = measured(evaluation, learned(problem, kind), problem)
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
    found = measured(evaluation, everything, problem)
    assert found["radius"] < 1e-3
    assert found["error_lower"] == pytest.approx(found["error_upper"])
    assert found["error"] == found["reference_error"]


def test_settings_come_from_the_distillation():
    problem = blobs(classes=2, each=12)
    seen = feature_maps.inputs()
    features = {"features": feature_maps.to_recipe(seen)}
    recipe = {**features, "loss": {"name": "huber", "delta": 0.5}, "real_ridge": 1e-2}
    told = class_means(problem, kind="margin", recipe=features)
    given = certificate(loss="huber", loss_settings={"delta": 0.5}, **MADE_WITH)
    wanted = measured(given, told, problem, "validation")
    with pytest.raises(ValueError, match="does not say the loss .*; give loss"):
        measured(certificate(), told, problem)
    for strength, convention in ((1e-2, "per_sample"), (2e-2, "absolute")):
        ridge = {"strength": strength, "convention": convention}
        own = class_means(problem, kind="margin", recipe={**recipe, "ridge": ridge})
        assert measured(certificate(), own, problem, "validation") == wanted
    ridge = {"strength": 1e-6, "convention": "relative"}
    own = class_means(problem, kind="margin", recipe={**recipe, "ridge": ridge})
    with pytest.raises(ValueError, match="1e-06 .relative.; .* give distilled_ridge"):
        measured(certificate(), own, problem)


def test_the_real_problem_is_solved_once(monkeypatch):
    solve = Mock(wraps=erm.solve)
    monkeypatch.setattr(erm, "solve", solve)
    problem = blobs(classes=2, each=12)
    settings = {"loss": "logistic", **MADE_WITH, "features": "inputs"}
    cache = in_memory()
    for count in (4, 6):
        distilled = some_real(problem, count, kind="margin")
        measured(certificate(**settings), distilled, problem, "validation", cache)
    assert [len(call.args[0]) for call in solve.call_args_list] == [24, 4, 6]
    # Other data, another loss, another ridge, another tolerance are solved for.
    for changed, data in (
        ({}, blobs(classes=2, each=12, gap=2.0)),
        ({"loss": "huber", "loss_settings": {"delta": 0.5}}, problem),
        ({"loss": "huber", "loss_settings": {"delta": 0.6}}, problem),
        ({"real_ridge_per_sample": 2e-2}, problem),
        ({"tolerance": 1e-7}, problem),
    ):
        solve.reset_mock()
        other = certificate(**{**settings, **changed})
        measured(other, distilled, data, "validation", cache)
        assert [len(call.args[0]) for call in solve.call_args_list] == [24, 6]


def test_what_did_not_converge_says_so():
    # With one iteration the radius was many times the norm, without a word.
    problem = blobs(classes=2, each=12)
    distilled = some_real(problem, 4, kind="margin")
    settings = {"loss": "logistic", **MADE_WITH, "features": "inputs"}
    at_once = {"max_iterations": 1, "tolerance": 1e-9}
    hasty, cache = certificate(**settings, **at_once), in_memory()
    with pytest.warns(UserWarning) as warned:
        found = measured(hasty, distilled, problem, "test", cache)
    real, own = (str(each.message) for each in warned)
    assert "on the real data did not converge: a relative duality gap of" in real
    assert "left after 1 iterations, the tolerance is 1e-09" in real
    assert in_words(found) in real
    assert "on the distilled set did not converge" in own
    assert found["reference_converged"] == found["converged"] == 0.0
    # So does what comes from the cache.
    with pytest.warns(UserWarning, match="on the real data did not converge"):
        hasty.evaluate(KEY, distilled, problem, "test", cache)
    strict = certificate(**settings, **at_once, require_convergence=True)
    with pytest.raises(erm.NotConverged, match="on the real data did not converge"):
        strict.evaluate(KEY, distilled, problem, "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measured(certificate(**settings), distilled, problem)
    assert found["reference_converged"] == found["converged"] == 1.0


@pytest.mark.parametrize("factory", [probe, full_data])
def test_other_learners_that_did_not_converge_say_so(factory):
    problem = blobs(classes=2, each=12)
    distilled = some_real(problem, 4, kind="margin")
    settings = {"features": "inputs", "max_iterations": 1, "tolerance": 1e-9}
    with pytest.warns(UserWarning, match="did not converge: a relative duality gap"):
        found = measured(factory(**settings), distilled, problem)
    assert found["converged"] == 0.0
    strict = factory(**settings, require_convergence=True)
    with pytest.raises(erm.NotConverged, match="after 1 iterations"):
        strict.evaluate(KEY, distilled, problem, "test")


def test_a_certificate_that_proves_nothing_says_so():
    problem = blobs(classes=2, each=12, gap=0.5)
    distilled = some_real(problem, 2, kind="margin")
    tiny = {"real_ridge_per_sample": 1e-6, "distilled_ridge_per_sample": 1e-6}
    evaluation = certificate(loss="logistic", **tiny, features="inputs")
    found = measured(evaluation, distilled, problem)
    assert found["proves_something"] == 0.0
    # The distance and its bound are in one unit: the norm of the real solution.
    for what in ("radius", "deviation"):
        relative = found[what] / found["reference_norm"]
        assert found[f"relative_{what}"] == pytest.approx(relative)
    assert in_words(found) == (
        "the certificate proves nothing about the test error: the distance of the "
        "set's model from the real data's is only known to be at most "
        f"{number(found['relative_radius'])} times that model's norm"
    )
    evaluation = certificate(loss="logistic", **MADE_WITH, features="inputs")
    found = measured(evaluation, some_real(problem, 24, kind="margin"), problem)
    assert found["proves_something"] == 1.0
    assert in_words(found).startswith("the test error is proven to lie between ")


def test_problems_without_classes_are_refused():
    problem = regression()
    distilled = of_regression(problem)
    with pytest.raises(ValueError, match="problem 'linear' has no classes"):
        certificate(features="inputs").evaluate(KEY, distilled, problem, "test")
