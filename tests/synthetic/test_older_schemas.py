"""Tests of files that earlier versions of the schema left; see `files/`.

They were written by the last commit before version 3 (8707fe2), `expected.npz` holding
what that commit decoded them to; `margin-1` is its set in the words of version 1.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddjax import synthetic
from ddjax.synthetic import files, older_schemas
from tests.synthetic.problems import assert_same

FILES = Path(__file__).parent / "files"
NAMES = ("scores-2.safetensors", "pyramid-2.safetensors", "regression-2", "margin-1")
RECIPES = {
    "scores-2": {
        "targets_kind": "scores",
        "ridge": {"strength": 1e-3, "convention": "relative"},
    },
    "pyramid-2": {
        "targets_kind": "scores",
        "encoders": [{"name": "mobilenetv2", "sha256": "00"}],
        "probe": {"ridge": 0.1, "ridge_convention": "relative", "temperature": 1.0},
    },
    "regression-2": {
        "targets_kind": "regression",
        "features": {"kind": "inputs"},
        "inner": {"name": "ridge", "ridge": 0.01},
        "ridge": {"strength": 0.01, "convention": "per_sample"},
    },
    "margin-1": {
        "targets_kind": "margin",
        "loss": {"name": "logistic"},
        "ridge": {"strength": 1e-2, "convention": "per_sample"},
        "real_ridge": 1e-3,
    },
}


@pytest.fixture(scope="module")
def expected():
    with np.load(FILES / "expected.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", NAMES)
def test_older_files_are_what_they_were(name, expected, tmp_path):
    loaded = synthetic.load(FILES / name)
    inputs, targets = synthetic.decoded(loaded)
    natural = synthetic.natural_inputs(loaded)
    name = name.removesuffix(".safetensors")
    np.testing.assert_allclose(inputs, expected[f"{name}.inputs"], rtol=1e-6)
    np.testing.assert_array_equal(targets, expected[f"{name}.targets"])
    wanted = expected[f"{name}.natural_inputs"]
    np.testing.assert_allclose(natural, wanted, rtol=1e-5, atol=1e-6)
    if name == "regression-2":
        natural = synthetic.natural_regression_targets(loaded)
        wanted = expected["regression-2.natural_targets"]
        np.testing.assert_allclose(natural, wanted, rtol=1e-6)
        assert loaded.columns is not None and loaded.columns.targets == ("price",)
    # Saved again it is of the newest version, and the same set.
    path = synthetic.save(tmp_path / "newer", loaded)
    document = json.loads((path / files.DOCUMENT).read_text())
    assert document["schema_version"] == synthetic.SCHEMA_VERSION == 3
    assert_same(loaded, synthetic.load(path))
    # What learners need is found in the provenance.
    recipe = dict(loaded.recipe)
    if name in ("scores-2", "margin-1"):
        assert recipe.pop("features") == loaded.provenance["features"]
    assert recipe == RECIPES[name]


@pytest.mark.parametrize(
    ("provenance", "extend_every", "expected"),
    [
        ({"config": {"train": {"steps": 1000}}}, 50, 0.05),
        ({"config": {"train": {"steps": 5000}}}, 200, 0.04),
        ({"config": {"train": {"steps": 1000}}}, 0, 0),
        ({"config": {"train": {"steps": 10}}}, 50, 1.0),
        ({"config": {"train": {"steps": None}}}, 50, 0.04),
        ({"config": [1]}, 50, 0.04),
        ({}, 50, 0.04),
        ({}, 0, 0),
    ],
)
def test_steps_between_levels_become_a_fraction(provenance, extend_every, expected):
    settings = {"extend_every": extend_every, "colour": "data", "bounds": "unit"}
    document = {
        "parameterization": {"name": "pyramid", "settings": settings},
        "provenance": provenance,
    }
    found = older_schemas._decoder(document)
    assert found["settings"] == {**settings, "extend_every": expected}
    assert synthetic.make("pyramid", **found["settings"]).settings == found["settings"]


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_refused(name, tmp_path):
    source = FILES / name
    copy = tmp_path / source.name
    if source.is_dir():
        shutil.copytree(source, copy)
        (tensors,) = copy.glob("tensors-*")
    else:
        tensors = Path(shutil.copy(source, copy))
    content = tensors.read_bytes()
    for place in (1, 40):
        damaged = bytearray(content)
        damaged[-place] ^= 1
        tensors.write_bytes(damaged)
        with pytest.raises(synthetic.DistilledSetError, match="changed or damaged"):
            synthetic.load(copy)


def _with(**changes):
    return lambda document: document.update(changes)


CHANGED = "changed or damaged"
COLOURED = {"name": "decorrelated_colour", "settings": {}}
DOTTED = {"stored.a.b": {"dtype": "float32", "shape": []}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with(targets_kind="representation"), CHANGED),
        (_with(class_names=["yes", "no"]), CHANGED),
        (_with(parameterization=COLOURED), CHANGED),
        (_with(preprocessing={"kind": "none"}), CHANGED),
        (_with(digest="00"), CHANGED),
        (_with(columns=None), "unknown keys: 'columns'"),
        (_with(recipe={}), "unknown keys: 'recipe'"),
        (_with(schema_version=2), "lacks keys: 'columns'"),
        (lambda d: d["arrays"].pop("targets"), "array 'targets' is missing"),
        (lambda d: d["arrays"].update(DOTTED), "has the name 'a.b'"),
        (lambda d: d.pop("targets_kind"), "lacks keys: 'targets_kind'"),
    ],
)
def test_documents_that_are_changed_or_not_of_their_version(change, message, tmp_path):
    path = shutil.copytree(FILES / "margin-1", tmp_path / "copy")
    document = json.loads((path / files.DOCUMENT).read_text())
    change(document)
    (path / files.DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(synthetic.DistilledSetError, match=message):
        synthetic.load(path)


@pytest.mark.parametrize(
    ("kind", "provenance", "expected"),
    [
        ("scores", {"method": "rfad", "ridge": 1e-3}, "relative"),
        ("scores", {"ridge": 1e-3}, "relative"),
        ("regression", {"method": "nystrom", "ridge": 1e-3}, "per_sample"),
        ("regression", {"ridge": 1e-3}, "per_sample"),
        ("scores", {"distilled_ridge": 1e-3, "ridge": 7}, "per_sample"),
    ],
)
def test_conventions_of_older_ridges(kind, provenance, expected):
    recipe = older_schemas._recipe(kind, provenance)
    ridge = {"strength": 1e-3, "convention": expected}
    assert recipe == {"targets_kind": kind, "ridge": ridge}


def test_a_provenance_that_says_something_else_is_left_alone():
    odd = {"features": 3, "loss": "logistic", "ridge": "1", "real_ridge": True}
    odd |= {"inner": None, "encoders": {}, "probe": [], "distilled_ridge": None}
    assert older_schemas._recipe("scores", odd) == {"targets_kind": "scores"}
