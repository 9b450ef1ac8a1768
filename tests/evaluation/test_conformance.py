"""What every evaluation in the registry has in common."""

import inspect
import json

import jax
import pytest

from ddjax.evaluation import EVALUATIONS, make
from ddjax.models import feature_maps
from ddjax.storage.cache import in_memory, no_cache
from tests.counting import counting
from tests.evaluation.problems import (
    blobs,
    class_means,
    coloured,
    of_regression,
    regression,
)
from tests.models.encoders.tiny import linear_encoder

KEY = jax.random.key(0)
RIDGE = {"strength": 1e-2, "convention": "per_sample"}
SMALL = {
    "certificate": {"features": "inputs", "tolerance": 1e-4},
    "full_data": {"features": "inputs", "ridge_per_sample": 1e-2},
    "full_data_linear_probe": {
        "encoder": linear_encoder(), "ridges": [0.1, 1.0], "epochs": 2, "seeds": 1,
    },
    "kernel_regression": {
        "architecture": {"kind": "fully_connected", "depth": 1, "width": 4},
        "networks": 1,
        "draws": 2,
    },
    "linear_probe": {
        "encoder": linear_encoder(), "epochs": 2, "seeds": 1, "views": 2,
    },
    "network": {"architecture": "fully_connected", "epochs": 2, "networks": 2},
    "pretraining": {
        "architecture": "fully_connected", "settings": {"depth": 2, "width": 3},
        "epochs": 2, "networks": 2, "probes": {"kinds": ["nearest"]},
    },
    "probe": {"features": "inputs", "ridge_per_sample": 1e-2},
    "random_real": {
        "learner": {"name": "probe", "features": "inputs", "ridge_per_sample": 1e-2},
        "draws": 2,
    },
    "real_pretraining": {
        "teacher": linear_encoder(), "architecture": "fully_connected",
        "settings": {"depth": 2, "width": 3}, "epochs": 2, "networks": 2,
        "probes": {"kinds": ["nearest"]},
    },
    "regression": {"features": "inputs"},
}  # fmt: skip


def case(name: str):
    """A problem and a set for an evaluation."""
    if name == "regression":
        problem = regression()
        return problem, of_regression(problem, 8, ridge=RIDGE)
    of_images = "linear_probe" in name or name == "real_pretraining"
    problem = coloured(classes=2, each=6) if of_images else blobs(classes=2, each=8)
    recipe = {
        "loss": {"name": "logistic"},
        "ridge": RIDGE,
        "real_ridge": 1e-2,
        "features": feature_maps.to_recipe(feature_maps.inputs()),
    }
    return problem, class_means(problem, recipe=recipe)


def test_every_evaluation_is_held_to_the_interface_and_has_a_name_of_its_own():
    assert set(SMALL) == set(EVALUATIONS)
    names = {name: make(name, **SMALL[name]).name for name in EVALUATIONS}
    assert len(set(names.values())) == len(names)
    assert make("probe", loss="hinge").name == "probe_hinge"
    for name, found in names.items():
        assert found.startswith(name.replace("real_pretraining", "full_data_"))


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_knows_its_settings(name):
    made = make(name, **SMALL[name], label="here")
    settings = json.loads(json.dumps(made.settings, allow_nan=False))
    assert settings == made.settings
    parameters = inspect.signature(EVALUATIONS[name]).parameters
    assert set(settings) == set(parameters)
    assert settings["label"] == "here"
    if not (settings.get("encoder") or settings.get("teacher")):
        assert make(name, **settings).settings == settings
    for keyword, parameter in parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        if keyword not in {**SMALL[name], "label": ""}:
            default = parameter.default
            default = list(default) if isinstance(default, tuple) else default
            assert settings[keyword] == default


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_repeats_itself_and_remembers_nothing(name):
    made, (problem, distilled) = make(name, **SMALL[name]), case(name)
    # From an empty cache and from a full one, the same scores.
    computed = []
    cache = counting(in_memory(), computed)
    first = made.evaluate(KEY, distilled, problem, "test", cache)
    assert first and all(each.startswith(f"{made.name}/") for each in first)
    number = len(computed)
    assert number
    assert made.evaluate(KEY, distilled, problem, "test", cache) == first
    assert len(computed) == number
    # Without one everything is computed again: what was kept is not in the evaluation.
    again = []
    forgetful = counting(no_cache, again)
    assert made.evaluate(KEY, distilled, problem, "test", forgetful) == first
    assert len(again) >= number
    # What is cached is known by the data.
    swapped = problem._replace(
        test=problem.validation, train=problem.test, fingerprint="another"
    )
    expected = made.evaluate(KEY, distilled, swapped, "test")
    assert made.evaluate(KEY, distilled, swapped, "test", cache) == expected
