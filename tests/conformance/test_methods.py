"""Every method of the registry: settings, a run, and a set that others can use."""

import inspect
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from ddjax import evaluation, methods, runtime, synthetic
from ddjax.data.problem import Problem
from ddjax.evaluation import Evaluation
from ddjax.synthetic import export
from tests.conformance import problems
from tests.methods.encoders import small

NETWORKS = {
    "kind": "random_features",
    "architecture": {"kind": "fully_connected", "depth": 1, "width": 16},
    "networks": 2,
}
ENCODER = small()
PIXELS = {"decoder": "pixels", "initialization": "balanced"}


class Tiny(NamedTuple):
    """A run of a method that takes no time, and an evaluation for its set."""

    keywords: dict[str, Any]
    problem: Problem
    evaluation: Evaluation


def _tiny() -> dict[str, Tiny]:
    layers = {"architecture": "fully_connected", "settings": {"depth": 2, "width": 4}}
    trajectories = {
        **layers,
        "student_steps": 2,
        "expert_epochs": 1,
        "experts": {"experts": 2, "epochs": 3, "batch_size": 20},
        "augment": None,
    }
    starts = {"min_start": 1, "first_max_start": 1, "max_start": 2}
    pool = {"network": "fully_connected", "settings": layers["settings"]}
    pool |= {"students": 2, "steps": 2}
    students = {"teacher": ENCODER, "pool": pool, "batch_size": 20}
    classes = {"real_per_class": 4, "augment": "flip"}
    bases = {"image_bases": 6, "target_bases": 3, "approximation_steps": 20}
    keywords = {
        "analytic": {},
        "clp": {"encoder": ENCODER, "batch_size": 20, "learn_ridge": True, **PIXELS},
        "datm": {**trajectories, **starts, "student_batch": 2},
        "dc": {**layers, "real_per_class": 4},
        "dd": {**layers, "inner_steps": 2, "batch_size": 20, "learn_targets": True},
        "dgkip": {"features": NETWORKS, "real_ridge": 1e-2, "duals": "learned"},
        "dm": {**layers, **classes},
        "dsa": {**layers, **classes},
        "frepo": {"pool": pool},
        "idm": {"pool": pool, **classes},
        "kip": {"features": NETWORKS, "batch_size": 20},
        "krr_st": {"count": 4, **students},
        "lgm": {"encoder": ENCODER, "augmentation": None, **PIXELS},
        "mtt": {**trajectories, "max_start": 1},
        "nystrom": {"count": 3},
        "pair_selection": {"count": 4, "how": "kmeans", "teacher": ENCODER},
        "regression": {"count": 3, "batch_size": 20, "inner_steps": 5, "draws": 2},
        "rfad": {
            **{"architecture": NETWORKS["architecture"], "networks": 2},
            "batch_size": 20,
        },
        "row_selection": {"count": 3, "how": "leverage"},
        "selection": {"how": "kmeans_nearest"},
        "ssl_dd": {"images": 4, **bases, **students},
    }
    # What trains a network compiles slowly: each kind of it judges one method or two.
    kernel = evaluation.kernel_regression(
        architecture=NETWORKS["architecture"], networks=2, draws=1
    )
    encoded = evaluation.linear_probe(
        encoder=ENCODER, kinds=("closed_form",), views=None
    )
    of_numbers = evaluation.regression(draws=1)
    probes = {"kinds": ["closed_form"]}

    def training(name="network", **settings):
        return evaluation.make(name, **layers, networks=1, **settings)

    pretraining = training("pretraining", epochs=2, probes=probes)
    judges = {
        **dict.fromkeys(("clp", "lgm"), encoded),
        **dict.fromkeys(("krr_st", "pair_selection", "ssl_dd"), pretraining),
        "dd": training(protocol="inner"),
        "dgkip": evaluation.probe(draws=1, ridge_per_sample=1e-2),
        "dm": training(epochs=2),
        "mtt": training(epochs=2, learning_rate="learned"),
    }
    on_table = ("analytic", "nystrom", "regression", "row_selection")
    return {
        name: Tiny(given, problems.table(), of_numbers)
        if name in on_table
        else Tiny(given, problems.images(), judges.get(name, kernel))
        for name, given in keywords.items()
    }


TINY = _tiny()


def test_every_method_is_tried():
    assert set(TINY) == set(methods.METHODS)


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_a_method_says_what_made_it(name):
    """Every keyword, as JSON has it, and enough to make the method again."""
    method = methods.make(name, **TINY[name].keywords)
    assert method.name == name
    assert set(method.settings) == set(
        inspect.signature(methods.METHODS[name]).parameters
    )
    again = json.loads(json.dumps(method.settings))
    assert again == method.settings
    # An encoder's source says where weights come from, which these have not.
    objects = {
        key: TINY[name].keywords[key] for key in ("encoder", "teacher") if key in again
    }
    made = methods.make(name, **{**again, **objects})
    assert made.settings == method.settings
    assert made.follows_length == method.follows_length


@pytest.mark.parametrize("name", sorted(methods.METHODS))
def test_a_run(name, tmp_path):
    """Three steps and what comes of them."""
    keywords, problem, judge = TINY[name]
    method, traces = methods.make(name, **keywords), []

    def step(*arguments):
        traces.append(name)
        return method.step(*arguments)

    result = runtime.train(
        method._replace(step=step),
        problem,
        seed=1,
        steps=3,
        log_every=1,
        verbose=False,
    )
    assert len(traces) == 1
    assert [row["step"] for row in result.history] == [1, 2, 3]
    for row in result.history:
        assert "loss" in row and np.isfinite(list(row.values())).all()

    made = result.distilled
    assert made.targets_kind in synthetic.targets.TARGETS_KINDS
    assert made.provenance["method"] == name
    saved = synthetic.save(tmp_path / "set.safetensors", made)
    again = synthetic.load(saved)
    assert synthetic.digest(again) == synthetic.digest(made)
    jax.tree.map(np.testing.assert_array_equal, again.stored, made.stored)
    scores = judge.evaluate(jax.random.key(0), again, problem, "validation")
    assert scores and all(np.isfinite(each.mean) for each in scores.values())
    export.to_npz(tmp_path / "set.npz", again)
    export.to_torch_safetensors(tmp_path / "torch.safetensors", again)
    if problem is problems.table():
        export.to_csv(tmp_path / "set.csv", again)
    else:
        with pytest.raises(synthetic.DistilledSetError, match="cannot be exported"):
            export.to_csv(tmp_path / "set.csv", again)
