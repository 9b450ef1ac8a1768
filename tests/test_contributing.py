"""The method that CONTRIBUTING.md shows is one: it passes what every method passes."""

import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ddjax import methods
from ddjax.methods.base import Progress
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded
from experiments.launch import train_and_evaluate
from tests import pages
from tests.conformance import problems, test_methods


@pytest.fixture(scope="module")
def class_means(tmp_path_factory):
    """The page's method as the file that the page says it is."""
    (code,) = (
        block.code
        for block in pages.blocks(pages.CONTRIBUTING, "python")
        if block.before == "<!-- example: method -->"
    )
    path = tmp_path_factory.mktemp("example") / "class_means.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("class_means_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def registered(class_means, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "class_means", class_means.class_means)
    tiny = test_methods.TINY["kip"]._replace(
        keywords={"features": test_methods.NETWORKS}
    )
    monkeypatch.setitem(test_methods.TINY, "class_means", tiny)


def test_it_passes_the_conformance_test(registered, tmp_path):
    test_methods.test_every_method_is_tried()
    test_methods.test_a_method_says_what_made_it("class_means")
    test_methods.test_a_run("class_means", tmp_path)


def test_the_equation(class_means):
    problem = problems.images()
    method = class_means.class_means(features=test_methods.NETWORKS, per_class=2)
    key = jax.random.key(0)
    data = method.prepare(key, problem)
    state = method.init(key, problem, data)
    progress = Progress(jnp.int32(0), jnp.int32(10))
    _, metrics = method.step(state, method.sample(key, data), key, progress)
    distilled = method.distilled(key, state, problem, data)
    drawn = feature_maps.from_recipe(distilled.recipe["features"])
    params, apply = feature_maps.build(drawn, problem.train.inputs.shape[1:])
    real, own = (
        np.asarray(apply(params, jnp.asarray(x)), np.float64)
        for x in (problem.train.inputs, decoded(distilled).inputs)
    )
    labels, own_labels = np.asarray(problem.train.labels), np.asarray(distilled.labels)
    expected = np.mean(
        [
            np.sum((real[labels == k].mean(0) - own[own_labels == k].mean(0)) ** 2)
            for k in range(problem.classes)
        ]
    )
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)


def test_the_launcher_runs_it(registered, tmp_path):
    config = ConfigDict(
        {
            "seed": 0,
            "data": {"name": "digits", "classes": (0, 1, 2), "limit": 200},
            "method": {
                "name": "class_means",
                "features": test_methods.NETWORKS,
                "descent": {"schedule": "cosine"},
            },
            "train": {"steps": 30, "evaluate_every": 15, "log_every": 1},
            "evaluate": {"kernel_regression": {"kernel": "inputs", "ridge": 1e-2}},
        }
    )
    outcome = train_and_evaluate(config, tmp_path)
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows if '"loss"' in row]
    assert losses[-1] < 0.5 * losses[0]
    assert outcome.test["kernel_regression/accuracy"].mean > 0.6
