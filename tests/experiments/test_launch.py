"""The launcher: one command, one folder, and mistakes told in one line."""

import csv
import json
import shutil
import subprocess
import sys
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict

from configs.clp_dd import imagenette
from configs.common import parse_arg
from configs.dgkip import digits
from ddjax import synthetic
from ddjax.command import execution
from ddjax.command.execution import identity
from ddjax.methods.base import Progress
from ddjax.methods.descent import Descent, learning_rate_at
from ddjax.runtime import (
    CannotWrite,
    Diverged,
    Interrupted,
    NotEnoughMemory,
    WorkdirInUse,
    metrics,
)
from ddjax.runtime.outcome import finished
from experiments import launch
from experiments.launch import ConfigError, train_and_evaluate
from experiments.settings import resolve
from tests.experiments import in_process


def _config(**changes) -> ConfigDict:
    """Selection from digits 0 and 1: a run without anything to wait for."""
    config = {
        "seed": 0,
        "data": {"name": "digits", "classes": (0, 1), "limit": 100},
        "method": {"name": "selection", "per_class": 2},
        "train": {"steps": 4, "evaluate_every": 2},
        "evaluate": {
            "kernel_regression": {"kernel": "inputs", "ridge": 1e-3},
            "other": {"name": "kernel_regression", "kernel": "inputs", "label": "b"},
        },
    }
    made = ConfigDict(config)
    made.update_from_flattened_dict(changes)
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, train_and_evaluate(_config(), folder, command="python -m x --y=z")


def test_everything_is_in_the_folder(done):
    folder, outcome = done
    names = {path.name for path in folder.iterdir()}
    assert names >= {"distilled", "exports", "figures", "run.json", "tensorboard"}
    loaded = synthetic.load(folder / "distilled")
    assert synthetic.digest(loaded) == synthetic.digest(outcome.distilled)
    assert loaded.provenance["method"] == "selection"
    assert loaded.provenance["config"]["data"]["limit"] == 100
    assert loaded.provenance["settings"]["per_class"] == 2
    assert loaded.provenance["seeds"] == {"run": 0}
    assert loaded.provenance["data"]["source"]["seed"] == 0
    config = json.loads((folder / "run.json").read_text())["config"]
    assert config["data"]["validation"] == 0.1 and config["method"]["how"] == "balanced"
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 4 and results["test"].keys() == {
        "kernel_regression/accuracy",
        "kernel_regression/mse",
        "kernel_regression_b/accuracy",
        "kernel_regression_b/mse",
    }
    assert results["validation"].keys() == results["test"].keys()
    with np.load(folder / "exports" / "distilled.npz") as archive:
        assert archive["inputs"].shape == (4, 8, 8, 1)
    assert [r["step"] for r in metrics.read(folder / "metrics.jsonl")] == [0, 1, 2, 4]


def test_report_is_whole_and_self_contained(done):
    folder, outcome = done
    page = (folder / "report.html").read_text()
    text = (folder / "report.md").read_text()
    accuracy = 100 * outcome.test["kernel_regression/accuracy"].mean
    for content in (page, text):
        assert f"{accuracy:.2f} %" in content
        assert "selection on digits" in content and "python -m x --y=z" in content
        assert outcome.results["run"]["data fingerprint"] in content
        assert "evaluate_every" in content
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page and 'src="figures' not in page
    for name in ("samples", "curves"):
        assert f"(figures/{name}.png)" in text
        picture = (folder / "figures" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")


def test_finished_run_says_so_and_does_nothing(done, capsys, monkeypatch):
    folder, outcome = done
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(execution, "finish", None)
    again = train_and_evaluate(_config(), folder)
    shown = capsys.readouterr().out
    assert "has been finished" in shown and "kernel_regression/accuracy" in shown
    assert again.test == outcome.test
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    # Not even the lock: the folder may be one to read only.
    assert before == after


def test_damaged_results_are_made_again(done, tmp_path):
    folder = shutil.copytree(done[0], tmp_path / "copy")
    (folder / "results.json").write_text('{"steps": 4, "valid')
    shutil.rmtree(folder / "distilled")
    with pytest.warns(UserWarning, match="results.json.*finishing again"):
        outcome = train_and_evaluate(_config(), folder)
    assert outcome.test == done[1].test
    assert json.loads((folder / "results.json").read_text())["steps"] == 4


@pytest.mark.parametrize(
    "text", ["[4]", '{"steps": 4, "validation": [], "test": []}', '{"steps": 4}', "\0"]
)
def test_whatever_is_wrong_with_results_is_a_warning(done, tmp_path, text):
    folder = shutil.copytree(done[0], tmp_path / "copy")
    (folder / "results.json").write_text(text)
    with pytest.warns(UserWarning, match="results.json.*finishing again"):
        assert finished(folder, 4) is None


def test_folder_of_another_run(done, tmp_path):
    folder = shutil.copytree(done[0], tmp_path / "copy")
    with pytest.raises(ConfigError, match="seed is 0 there, 1 here") as caught:
        train_and_evaluate(_config(seed=1), folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="method.how is 'balanced' there, 'uniform'"):
        changed = _config()
        changed.method.how = "uniform"
        train_and_evaluate(changed, folder)
    # More steps are allowed, and remembered; so are data in another place.
    longer = _config(**{"train.steps": 6})
    longer.data.directory = str(tmp_path)
    assert train_and_evaluate(longer, folder).results["steps"] == 6
    with pytest.raises(ConfigError, match="train.steps is 6 there, 4 here"):
        train_and_evaluate(_config(), folder)


def test_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not empty and holds no run .*thesis.tex"):
        train_and_evaluate(_config(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="thesis.tex is a file"):
        train_and_evaluate(_config(), tmp_path / "thesis.tex" / "run")


def test_a_folder_in_use_is_refused(tmp_path):
    with in_process.held(tmp_path), pytest.raises(WorkdirInUse, match="in use by"):
        train_and_evaluate(_config(), tmp_path)


@pytest.mark.parametrize(
    "section,key,value,message",
    [
        ("method", "name", "selektion", "unknown method 'selektion'; known: .*kip"),
        ("method", "per_clas", 1, "takes no 'per_clas'; did you mean 'per_class'"),
        ("method", "decoder", {"name": "pyramid", "extend_evry": 3}, "extend_evry"),
        ("method", "targets", "margins", "unknown targets "),
        ("method", "per_class", 900, "per_class=900"),
        ("data", "name", "digitz", "digitz"),
        ("data", "limits", 5, "data has no 'limits'. Did you mean 'limit'?"),
        ("data", "classes", (0, 11), "no class 11"),
        ("train", "step", 5, "train has no 'step'. Did you mean 'steps'?"),
        ("train", "validate", ("probe",), "train.validate has no 'probe'"),
        ("train", "chunk", 0, "chunk must be at least 1, got 0"),
        ("evaluate", "probes", {}, "unknown evaluation 'probes' in evaluate.probes"),
        ("evaluate", "kernel_regression", {"rigde": 1.0}, "Did you mean 'ridge'"),
        (None, "sed", 1, "config has no 'sed'. Did you mean 'seed'?"),
        # Of another type.
        (None, "method", "dgkip", "method is a section .* got 'dgkip'"),
        (None, "evaluate", ("probe",), "evaluate is a section .* got \\('probe',\\)"),
        (None, "seed", "x", "config.seed is 'x', of type str; it takes a whole number"),
        (None, "seed", 10**20, r"seed must be in \[0, 2\^32\)"),
        ("train", "steps", "many", "train.steps is 'many', of type str"),
        ("train", "steps", 2.5, "train.steps is 2.5, of type float"),
        ("train", "validate", 3, "train.validate is a list of evaluations, got 3"),
        ("method", "per_class", "many", "method.per_class is 'many', .* it takes int"),
        ("method", "decoder", 3, "method.decoder is 3"),
        ("data", "validation", "a", "data.validation is 'a'.* it takes float"),
        ("evaluate", "other", 3, "evaluate.other is a section .* got 3"),
        ("evaluate", "kernel_regression", {"ridge": "x"}, "ridge is 'x', of type str"),
    ],
)
def test_mistakes_are_one_line(tmp_path, section, key, value, message):
    config = _config()
    with config.ignore_type():
        (config if section is None else config[section])[key] = value
    with pytest.raises(ConfigError, match=message) as caught:
        train_and_evaluate(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_types_within_a_descent_are_named():
    """`ConfigDict` refused them with an error of its own, and a traceback."""
    for name, value in (("learning_rate", "fast"), ("rates", 3), ("schedule", 1.5)):
        config = digits.get_config("runlocal")
        with config.ignore_type():
            config.method.descent[name] = value
        with pytest.raises(ValueError, match=f"method.descent.{name} is {value!r}"):
            resolve(config)


def test_a_plain_dict_is_a_configuration(tmp_path):
    run = resolve(_config().to_dict())
    assert run.config == resolve(_config()).config
    with pytest.raises(ConfigError, match="a configuration is a dict .* got NoneType"):
        train_and_evaluate(None, tmp_path)


def test_missing_data_name_the_place(tmp_path):
    config = _config(**{"data.name": "mnist"})
    config.data.directory = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="nowhere") as caught:
        train_and_evaluate(config, tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.fixture
def parse(monkeypatch, capsys):
    """Parses a command line as a fresh process does: (config or None, stderr)."""

    def clean():
        sys.modules.pop("config_config", None)
        flags.FLAGS.unparse_flags()
        for name in list(flags.FLAGS):
            if name.startswith("config."):
                delattr(flags.FLAGS, name)
        for name in ("config", "workdir", "data_dir", "profile"):
            flags.FLAGS[name].unparse()

    def parsed(*arguments):
        clean()
        monkeypatch.setattr(sys, "argv", ["launch", *arguments])
        try:
            launch._parse(sys.argv)
        except SystemExit as end:
            assert end.code == 2
            return None, capsys.readouterr().err
        return launch._CONFIG.value, capsys.readouterr().err

    yield parsed
    clean()


_DIGITS = f"--config={digits.__file__}"


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([_DIGITS], "--workdir is missing"),
        (["--workdir=x"], "--config is missing"),
        ([_DIGITS, "--workdr=x"], "Unknown command line flag 'workdr'. Did you mean"),
        ([_DIGITS, "--workdir=x", "left"], "unknown argument 'left'"),
        (["--config=none.py", "--workdir=x"], "No such file or directory: 'none.py'"),
        (["--config=none.py", "--config.seed=1", "--workdir=x"], "'none.py'"),
        ([f"{_DIGITS}:ipcs=1", "--workdir=x"], "'ipcs'. Did you mean 'ipc'? Known:"),
        ([f"{_DIGITS}:ipc=a", "--workdir=x"], "ipc takes a value of type int, got 'a'"),
        ([_DIGITS, "--config.trian.steps=1", "--workdir=x"], 'Did you mean "train"'),
        ([_DIGITS, "--config.train.stepz=1", "--workdir=x"], 'Did you mean "steps"'),
        ([_DIGITS, "--config.train.steps=a", "--workdir=x"], "invalid literal"),
    ],
)
def test_command_line_mistakes_are_one_line(parse, arguments, message):
    config, error = parse(*arguments)
    assert config is None
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1 and "Traceback" not in error


def test_command_line_sets_the_configuration(parse):
    config, error = parse(
        f"{_DIGITS}:runlocal,ipc=2", "--config.train.steps=7", "--workdir=x"
    )
    assert error == ""
    assert config.train.steps == 7 and config.method.per_class == 2


def test_one_flag_for_the_data(parse):
    """`--data_dir` of the table commands was unknown here."""
    imagenette_file = f"--config={imagenette.__file__}"
    for config_file in (_DIGITS, imagenette_file):
        config, error = parse(config_file, "--data_dir=here", "--workdir=x")
        assert error == "" and config.data.directory == "here"
    assert config.encoder.directory == "here"
    same = "--config.data.directory=here"
    config, error = parse(_DIGITS, "--data_dir=here", same, "--workdir=x")
    assert error == "" and config.data.directory == "here"
    config, error = parse(_DIGITS, "--data_dir=there", same, "--workdir=x")
    assert config is None and error.count("\n") == 1
    assert "--data_dir=there and config.data.directory=here" in error


def test_a_trace_is_no_part_of_the_configuration(parse, monkeypatch):
    config, error = parse(_DIGITS, "--workdir=x", "--profile=3")
    assert error == "" and "profile" not in config.train
    asked = {}
    monkeypatch.setattr(
        launch, "train_and_evaluate", lambda *_, **given: asked.update(given)
    )
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    launch.main([])
    assert asked["profile"] == 3


@pytest.mark.parametrize(
    "error,status,said",
    [
        (Diverged("loss is nan at step 3"), 1, "loss is nan"),
        (ConfigError("no such data"), 2, "no such data"),
        (WorkdirInUse("in use by process 1"), 2, "process 1"),
        (CannotWrite("x cannot be written: full"), 3, "the same command goes on"),
        (NotEnoughMemory("a step takes 3 TiB"), 4, "3 TiB"),
        (RuntimeError("a bug"), 70, "Traceback"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (Interrupted("stopped by SIGTERM", 15), 143, "stopped by SIGTERM"),
    ],
)
def test_each_end_has_its_status(parse, monkeypatch, capsys, error, status, said):
    parse(_DIGITS, "--workdir=x")

    def ends(*_, **__):
        raise error

    monkeypatch.setattr(launch, "train_and_evaluate", ends)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as caught:
        launch.main([])
    written = capsys.readouterr().err
    assert caught.value.code == status and said in written
    assert written.count("\n") == 1 or status == 70
    assert launch.__doc__ is not None and f" {status} " in launch.__doc__


def test_ctrl_c_while_importing_is_one_line():
    program = """
import os, runpy, signal, sys

class Interrupts:
    def find_spec(name, *_):
        if name == "jax":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts)
runpy.run_module("experiments.launch", run_name="__main__", alter_sys=True)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr == "stopped by Ctrl-C\n"


def test_any_keyword_can_be_set_from_the_command_line(parse):
    """Those that the configuration does not list were "no such configuration key"."""
    config, error = parse(
        _DIGITS,
        "--config.method.duals=learned",
        "--config.method.descent.rates.outputs=0.2",
        "--config.method.start_ridge=0.5",
        "--config.train.monitor=probe_softmax/accuracy",
        "--config.data.seed=3",
        "--workdir=x",
    )
    assert error == ""
    assert config.method.duals == "learned" and config.method.start_ridge == 0.5
    assert config.method.descent.rates.outputs == 0.2
    assert config.method.descent.schedule == "cosine"
    assert config.train.monitor == "probe_softmax/accuracy" and config.data.seed == 3
    made = resolve(config)
    assert made.method.settings["duals"] == "learned"
    assert made.config["method"]["form"] == "auto"


def test_a_run_has_the_schedule_of_its_length(parse):
    """The rate was zero from step 500 on, whatever the steps."""
    config, _ = parse(
        _DIGITS,
        "--config.train.steps=2000",
        "--config.method.descent.learning_rate=0.01",
        "--config.method.descent.warmup=0.0",
        "--workdir=x",
    )
    run = resolve(config)
    described = Descent(**run.method.settings["descent"])
    half, end = (
        float(learning_rate_at(described, Progress(jnp.int32(s), jnp.int32(2000)), "x"))
        for s in (1000, 1999)
    )
    assert half == pytest.approx(0.5e-2) and 0 < end < 1e-7


def test_the_weights_of_an_encoder_are_a_part_of_the_run():
    config = imagenette.get_config("runlocal")
    run = resolve(config)
    config.encoder.random = 1
    weights, others = (identity(r)["weights"] for r in (run, resolve(config)))
    assert weights.keys() == others.keys() > {"method", "closed_form"}
    for label in weights:
        assert weights[label] != others[label] and len(weights[label][0]) == 64


def test_a_set_is_judged_on_other_data(tmp_path):
    config = _config()
    config.evaluate.other.data = {
        "name": "digits",
        "classes": (7, 8),
        "limit": 100,
        "preprocessing": "none",
    }
    config.train.validate = ("kernel_regression",)
    outcome = train_and_evaluate(config, tmp_path)
    own, other = (
        outcome.test[f"kernel_regression{label}/accuracy"].mean for label in ("", "_b")
    )
    assert own > 0.9 and own != other
    # It has no part in the run: a finished one is measured again, not refused.
    config.evaluate.other.data.classes = (3, 4)
    again = train_and_evaluate(config, tmp_path)
    assert again.results["digest"] == outcome.results["digest"]
    assert again.test["kernel_regression_b/accuracy"].mean != other
    assert again.test["kernel_regression/accuracy"].mean == own


def test_broken_config_files(parse, tmp_path):
    for text, message in (
        ("def get_config(:", "invalid syntax"),
        ("x = 1", "no attribute 'get_config'"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("def get_config(): return 3", "a configuration is a dict"),
        ("def get_config(): return {'seed': 0}", ""),
    ):
        path = tmp_path / f"broken{len(text)}.py"
        path.write_text(text)
        config, error = parse(f"--config={path}", "--workdir=x")
        if message:
            assert config is None and message in error and error.count("\n") == 1
        else:
            assert config is not None and config.to_dict()["seed"] == 0


def test_parse_arg():
    assert parse_arg("runlocal,a=2,b=x", a=1, b="", c=0.5).to_dict() == {
        "runlocal": True,
        "a": 2,
        "b": "x",
        "c": 0.5,
    }
    assert parse_arg("runlocal=false").runlocal is False
    with pytest.raises(ValueError, match="true or false, got 'maybe'"):
        parse_arg("runlocal=maybe")


def test_a_table_is_distilled_end_to_end(tmp_path, capsys):
    table = tmp_path / "houses.csv"
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 2)) * [30.0, 2.0] + [100.0, 4.0]
    prices = rows @ [2000.0, -500.0] + rng.normal(size=80)
    lines = [f"{a:.6f},{b:.6f},{p:.3f}" for (a, b), p in zip(rows, prices, strict=True)]
    table.write_text("\n".join(["area,age,price", *lines]))
    config = _config()
    config.data = {
        "name": "table:houses.csv",
        "directory": str(tmp_path),
        "table": {"target": "price", "units": {"price": "EUR"}},
    }
    config.method = {"name": "nystrom", "count": 4, "ridge": 1e-6}
    config.train = {"steps": 2, "evaluate_every": 1, "validate": ("regression",)}
    full = {"loss": "squared", "ridge_per_sample": 1e-6}
    config.evaluate = {"regression": {}, "full_data": full}
    outcome = train_and_evaluate(config, tmp_path / "run")
    assert "(regression of price; " in capsys.readouterr().out
    assert outcome.results["chosen_by"] == "the best by validation regression/r2"
    assert outcome.test["regression/r2"].mean > 0.9999
    assert outcome.test["regression/mae"].mean < 10
    with open(tmp_path / "run" / "exports" / "distilled.csv", newline="") as file:
        header, *exported = csv.reader(file)
    assert header == ["area", "age", "price"] and len(exported) == 4
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| area | age | price |" in report and "figures/columns.png" in report
    again = train_and_evaluate(config, tmp_path / "run")
    assert again.results == outcome.results
