"""Records: what goes in comes out, and what JSON cannot hold is named."""

import json
from typing import NamedTuple

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from experiments import records


class _Score(NamedTuple):
    mean: float
    std: float
    draws: int


def _write(folder, name="x", config=None, results=None, scale="toy"):
    return records.write_record(
        *(name, config or {}, results or {}),
        scale=scale,
        wall_seconds=1.5,
        directory=folder,
    )


def test_round_trip(tmp_path):
    config = ml_collections.ConfigDict({"seed": 3, "method": {"ridge": 1e-6}})
    results = {
        "accuracy": _Score(0.75, 0.01, 3),
        "curve": np.arange(3, dtype=np.float32),
        "device_array": jnp.ones((2, 2)),
        "steps": np.int64(7),
        "converged": np.bool_(True),
        "shape": (1, 2),
        "note": None,
    }
    path = _write(tmp_path, "toy/run_seed3", config, results)
    assert path == tmp_path / "toy" / "run_seed3.json"
    (record,) = records.read_records(tmp_path)
    assert record["name"] == "toy/run_seed3"
    assert record["config"] == {"seed": 3, "method": {"ridge": 1e-6}}
    assert record["seed"] == 3
    assert record["scale"] == "toy" and record["reduced"] is None
    assert record["results"] == {
        "accuracy": {"mean": 0.75, "std": 0.01, "draws": 3},
        "curve": [0.0, 1.0, 2.0],
        "device_array": [[1.0, 1.0], [1.0, 1.0]],
        "steps": 7,
        "converged": True,
        "shape": [1, 2],
        "note": None,
    }
    assert record["versions"]["jax"]
    assert record["hardware"]["cores"] >= 1
    assert record["peak_memory_mib"] > 1
    assert record["wall_seconds"] == 1.5
    assert [p.name for p in path.parent.iterdir()] == ["run_seed3.json"]


def test_same_name_replaces(tmp_path):
    for value in (1, 2):
        _write(tmp_path, "one", {"seed": value}, {"value": value})
    (record,) = records.read_records(tmp_path)
    assert record["results"] == {"value": 2} and record["seed"] == 2


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), jnp.array([jnp.nan])])
def test_not_finite_is_named(tmp_path, bad):
    with pytest.raises(ValueError, match=r"results\.inner\.loss.* is (nan|inf)"):
        _write(tmp_path, results={"inner": {"loss": bad}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": {"thing": object()}}, r"config\.thing is a object"),
        ({"scale": ""}, "scale"),
        *(
            ({"name": n}, "record name")
            for n in ("", "/x", "a//b", "../x", "a b", "a/")
        ),
    ],
)
def test_what_no_record_can_have_is_named(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        _write(tmp_path, **given)


def test_read_names_the_broken_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of records"):
        records.read_records(tmp_path / "absent")
    broken = tmp_path / "broken.json"
    broken.write_text('{"schema": 1,')
    with pytest.raises(ValueError, match="broken.json is not JSON"):
        records.read_records(tmp_path)
    broken.write_text(json.dumps({"schema": 99}))
    with pytest.raises(ValueError, match="broken.json has schema 99, expected 1"):
        records.read_records(tmp_path)
    broken.write_text(json.dumps({"schema": 1, "name": "x"}))
    with pytest.raises(ValueError, match="broken.json lacks the fields commit"):
        records.read_records(tmp_path)


def test_committed_records_are_readable():
    if records.RESULTS.is_dir():
        for record in records.read_records():
            assert record["commit"] is None or len(record["commit"]) == 40
