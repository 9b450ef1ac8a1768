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
NAMES = {
    "scores-2": "scores-2.safetensors",
    "pyramid-2": "pyramid-2.safetensors",
    "regression-2": "regression-2",
    "margin-1": "margin-1",
}
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
    loaded = synthetic.load(FILES / NAMES[name])
    inputs, targets = synthetic.decoded(loaded)
    np.testing.assert_allclose(inputs, expected[f"{name}.inputs"], rtol=1e-6)
    np.testing.assert_array_equal(targets, expected[f"{name}.targets"])
    np.testing.assert_allclose(
        synthetic.natural_inputs(loaded),
        expected[f"{name}.natural_inputs"],
        rtol=1e-5,
        atol=1e-6,
    )
    if name == "regression-2":
        np.testing.assert_allclose(
            synthetic.natural_regression_targets(loaded),
            expected["regression-2.natural_targets"],
            rtol=1e-6,
        )
        assert loaded.columns is not None and loaded.columns.targets == ("price",)
    # Saved again it is of the newest version, and the same set.
    path = synthetic.save(tmp_path / "newer", loaded)
    document = json.loads((path / files.DOCUMENT).read_text())
    assert document["schema_version"] == synthetic.SCHEMA_VERSION == 3
    assert_same(loaded, synthetic.load(path))


@pytest.mark.parametrize("name", NAMES)
def test_what_learners_need_is_found_in_the_provenance(name):
    loaded = synthetic.load(FILES / NAMES[name])
    recipe = dict(loaded.recipe)
    if name in ("scores-2", "margin-1"):
        assert recipe.pop("features") == loaded.provenance["features"]
    assert recipe == RECIPES[name]


def _written(tmp_path, source, change):
    """A copy of a folder whose document is changed."""
    path = shutil.copytree(FILES / source, tmp_path / "copy")
    document = json.loads((path / files.DOCUMENT).read_text())
    change(document)
    (path / files.DOCUMENT).write_text(json.dumps(document))
    return path


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
    source = FILES / NAMES[name]
    copy = tmp_path / source.name
    if source.is_dir():
        shutil.copytree(source, copy)
        (tensors,) = copy.glob("tensors-*")
    else:
        tensors = Path(shutil.copy(source, copy))
    content = bytearray(tensors.read_bytes())
    for place in (-1, -40):
        damaged = bytearray(content)
        damaged[place] ^= 1
        tensors.write_bytes(bytes(damaged))
        with pytest.raises(synthetic.DistilledSetError, match="changed or damaged"):
            synthetic.load(copy)
    tensors.write_bytes(bytes(content))
    synthetic.load(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("targets_kind", "representation"),
        ("class_names", ["yes", "no"]),
        ("parameterization", {"name": "decorrelated_colour", "settings": {}}),
        ("preprocessing", {"kind": "none"}),
        ("digest", "00"),
    ],
)
def test_a_changed_document_is_refused(key, value, tmp_path):
    path = _written(tmp_path, "margin-1", lambda d: d.__setitem__(key, value))
    with pytest.raises(synthetic.DistilledSetError, match="changed or damaged"):
        synthetic.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.__setitem__("columns", None), "unknown keys: 'columns'"),
        (lambda d: d.__setitem__("recipe", {}), "unknown keys: 'recipe'"),
        (lambda d: d.__setitem__("schema_version", 2), "lacks keys: 'columns'"),
        (lambda d: d["arrays"].pop("targets"), "array 'targets' is missing"),
        (
            lambda d: d["arrays"].update(
                {"stored.a.b": {"dtype": "float32", "shape": []}}
            ),
            "has the name 'a.b'",
        ),
        (lambda d: d.pop("targets_kind"), "lacks keys: 'targets_kind'"),
    ],
)
def test_documents_that_are_not_of_their_version(change, message, tmp_path):
    path = _written(tmp_path, "margin-1", change)
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
