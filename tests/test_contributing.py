"""The method that CONTRIBUTING.md shows is one: it passes what every method passes."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import methods
from ddjax.methods.base import Progress
from ddjax.models import feature_maps
from ddjax.synthetic.distilled import decoded
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


def test_it_passes_the_conformance_test(class_means, monkeypatch, tmp_path):
    monkeypatch.setitem(methods.METHODS, "class_means", class_means.class_means)
    tiny = test_methods.TINY["kip"]._replace(
        keywords={"features": test_methods.NETWORKS}
    )
    monkeypatch.setitem(test_methods.TINY, "class_means", tiny)
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
