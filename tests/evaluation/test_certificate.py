"""Certificates: the measured error lies in the interval, the deviation in the ball."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.evaluation import certificate
from ddjax.kernels import duality
from ddjax.models import feature_maps
from tests.evaluation.problems import blobs, class_means, regression, some_real

KEY = jax.random.key(0)
SMALL = {"kind": "fully_connected", "depth": 2, "width": 32}
MADE_WITH = {"real_ridge": 1e-2, "distilled_ridge": 1e-2}


def learned(problem, kind, count=8):
    """A few real samples with perturbed targets, as a method would leave them."""
    distilled = some_real(problem, count, kind=kind)
    noise = 0.2 * np.random.default_rng(0).normal(size=distilled.targets.shape)
    targets = jnp.asarray(distilled.targets) + jnp.asarray(noise, jnp.float32)
    return distilled._replace(targets=targets) if kind == "margin" else distilled


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
    duality.check_certificate(found)
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
    provenance = {
        "features": feature_maps.to_recipe(seen),
        "loss": {"name": "huber", "delta": 0.5},
        **MADE_WITH,
    }
    own = class_means(problem, kind="margin", provenance=provenance)
    told = own._replace(provenance={"features": provenance["features"]})
    from_set = certificate(label="own").evaluate(KEY, own, problem, "validation")
    given = certificate(
        loss="huber", loss_settings={"delta": 0.5}, **MADE_WITH
    ).evaluate(KEY, told, problem, "validation")
    assert from_set["certificate_own/radius"] == given["certificate/radius"]
    with pytest.raises(ValueError, match="does not say the loss .*; give loss"):
        certificate().evaluate(KEY, told, problem, "test")


def test_the_real_problem_is_solved_once(monkeypatch):
    from ddjax.kernels import erm

    solved, solve = [], erm.solve
    monkeypatch.setattr(
        erm,
        "solve",
        lambda rows, *a, **k: solved.append(len(rows)) or solve(rows, *a, **k),
    )
    problem = blobs(classes=2, each=12)
    evaluation = certificate(loss="logistic", **MADE_WITH, features="inputs")
    for count in (4, 6):
        distilled = some_real(problem, count, kind="margin")
        evaluation.evaluate(KEY, distilled, problem, "validation")
    assert solved == [24, 4, 6]
    evaluation.evaluate(KEY, distilled, blobs(classes=2, each=12), "validation")
    assert solved[3:] == [24, 6]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown loss 'zero_one'"):
        certificate(loss="zero_one")
    with pytest.raises(ValueError, match="distilled_ridge must be > 0, got 0.0"):
        certificate(distilled_ridge=0.0)
    problem = regression()
    distilled = class_means(blobs(classes=2))._replace(
        stored={"inputs": jnp.asarray(problem.train.inputs)},
        targets=problem.train.targets,
        targets_kind="regression",
        class_names=None,
    )
    with pytest.raises(ValueError, match="problem 'linear' has no classes"):
        certificate(features="inputs").evaluate(KEY, distilled, problem, "test")
