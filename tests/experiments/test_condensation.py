"""Configurations of the dataset-condensation line, at a toy's size."""

import pytest

from configs.condensation import images
from configs.condensation.settings import CONDENSATION
from ddjax import evaluation, methods, synthetic
from ddjax.runtime.outcome import summary
from experiments import launch
from experiments.settings import resolve


@pytest.mark.parametrize("arg", ["", ",ipc=10", ",ipc=50,dataset=mnist", ",reduced"])
@pytest.mark.parametrize("name", CONDENSATION)
def test_configurations_name_what_methods_and_networks_take(name, arg):
    config = images.get_config(f"method={name}{arg}").to_dict()
    keywords = dict(config["method"])
    made = methods.make(keywords.pop("name"), **keywords)
    assert made.name == name
    judge = evaluation.make("network", **config["evaluate"]["network"])
    assert judge.settings["architecture"] == "convnet"
    width = 16 if "reduced" in arg else 128
    if "settings" in keywords:
        assert keywords["settings"] == {"width": width}
    steps = config["train"]["steps"]
    assert steps < 1000 if "reduced" in arg else steps >= 1000


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="unknown method 'dx'; known: dm, idm, dc"):
        images.get_config("method=dx")


@pytest.mark.slow
def test_a_run_from_start_to_report(tmp_path):
    config = images.get_config("method=dm,runlocal")
    # One layer, one transform: what compiles faster runs through the same lines.
    for section in (config.method, config.evaluate.network):
        section.settings = {"width": 4, "depth": 1}
        section.augment.strategy = "cutout"
    outcome = launch.train_and_evaluate(config, tmp_path / "run")
    assert "accuracy of network (convnet)" in summary(outcome)
    found = synthetic.load(tmp_path / "run" / "distilled")
    assert found.targets_kind == "probabilities"
    assert found.recipe["augmentation"]["name"] == "dsa"
    assert (tmp_path / "run" / "figures" / "samples.png").exists()
    assert resolve(config).method.name == "dm"
