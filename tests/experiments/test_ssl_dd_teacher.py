"""The command that trains the teacher, on a stand-in for its network."""

import json

import pytest

from ddjax.models import trained
from ddjax.models.encoders.settings import as_encoder
from tests.experiments import in_process

NAME = "ssl_dd.teacher"


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """A command of seconds: one layer in place of 18, which takes those to compile."""
    module = in_process.load(NAME)

    def small(*, network, projector, **settings):
        assert network["name"] == "resnet18" and len(projector) == 3
        network = {"name": "convnet", "depth": 1, "width": network["width"]}
        views = ("flip", "flip")
        return module_factory(
            network=network, projector=projector[:1], views=views, **settings
        )

    module_factory = module.barlow_twins
    monkeypatch.setattr(module, "barlow_twins", small)
    named = {"workdir": tmp_path / "run", "directory": tmp_path / "records"}
    numbers = {"steps": 6, "width": 2, "projector": 4, "batch_size": 32}
    given = {"dataset": "digits", **named, **numbers}
    return [f"--{name}={value}" for name, value in given.items()]


def test_it_stops_in_time_and_goes_on(arguments, tmp_path, capsys):
    stopped = in_process.run(NAME, *arguments, "--minutes=0", capsys=capsys)
    assert stopped.status == 143
    assert "stopped; 0 of 1 are measured, the same command goes on" in stopped.err
    assert (tmp_path / "run" / "run.json").exists()
    done = in_process.run(NAME, *arguments, capsys=capsys)
    assert done.status == 0
    path = tmp_path / "run" / "teacher.safetensors"
    network = trained.load(path)
    assert network.network["name"] == "convnet"
    assert as_encoder({"name": "network_file", "weights": str(path)}).width == 32
    (record,) = (tmp_path / "records").rglob("*.json")
    assert record.stem == "digits_width2_seed0"
    found = json.loads(record.read_text())
    assert found["reduced"].endswith("epochs of 1000, width 2 of 64")
    assert found["results"]["digest"] == trained.digest(network)
    for split in ("validation", "test"):
        scores = found["results"][split]
        assert scores.keys() == {
            "trained_network/closed_form_accuracy",
            "trained_network/nearest_accuracy",
        }
        assert all(0.3 < value <= 1 for value in scores.values())


def test_missing_data_are_one_line(arguments, tmp_path, capsys):
    missing = ["--dataset=cifar100", f"--data_dir={tmp_path}"]
    ended = in_process.run(NAME, *arguments, *missing, capsys=capsys)
    assert ended.status == 2 and ended.err.count("\n") == 1
    assert "cifar100" in ended.err
