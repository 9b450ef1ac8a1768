"""Configurations and tables on frozen encoders, on small stand-ins."""

import importlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import methods, synthetic
from ddjax.command.ending import ConfigError
from ddjax.models import encoders
from ddjax.models.encoders import conversion
from ddjax.models.encoders.registry import Entry
from ddjax.storage.cache import in_memory
from experiments.benchmarks import memory
from experiments.clp_dd import common, tables
from experiments.launch import train_and_evaluate
from experiments.settings import resolve
from tests.data.files import write_images
from tests.evaluation.problems import coloured
from tests.experiments import in_process, made_up
from tests.models.encoders.tiny import linear_encoder

cost = in_process.load("clp_dd.cost")

CONFIGS = ("cub50", "folder", "imagenet100", "imagenet1k", "imagenette")


def tiny_entry() -> Entry:
    """Tinted averages of a few patches; weights in a file as any other's."""

    def apply(params, images, *, spec):
        n, h, w, _ = images.shape
        patches = images.reshape(n, 2, h // 2, 2, w // 2, 3).mean(axis=(2, 4))
        return jnp.tanh(patches.reshape(n, -1) @ params["dense.weight"])

    return encoders.ENTRIES["mobilenetv2"]._replace(
        spec=None,
        shapes=lambda spec: {"dense.weight": (12, 7)},
        prepare=lambda arrays, spec: arrays,
        apply=apply,
        width=7,
        input_size=8,
        file="tiny.safetensors",
        ignored="",
        convert=conversion.unchanged,
    )


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Registers the encoder `tiny`; returns a file of weights for it."""
    from safetensors.numpy import save_file

    monkeypatch.setitem(encoders.ENTRIES, "tiny", tiny_entry())
    weights = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)
    save_file({"dense.weight": weights}, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def get_config(name, arg="runlocal"):
    return importlib.import_module(f"configs.clp_dd.{name}").get_config(arg)


def with_weights(name, tiny, features):
    """A configuration whose encoder is read from the file of weights."""
    config = get_config(name, "runlocal,encoder=tiny")
    given = {"random": None, "weights": str(tiny), "features_directory": str(features)}
    config.encoder.update(given)
    return config


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", ["", ",augment,outer=squared,ipc=2,full_protocol"])
def test_every_configuration_resolves(name, arg, tiny):
    run = resolve(get_config(name, f"runlocal,encoder=tiny{arg}"))
    assert run.train["steps"] == 2
    assert {*run.evaluations} == {"closed_form", "gradient", "random_real", "full_data"}


def test_missing_weights_say_where_to_get_them(tmp_path):
    config = get_config("folder", None)
    config.data.directory = str(tmp_path)
    with pytest.raises(encoders.MissingWeightsError, match="mobilenetv2_features"):
        resolve(config)


def test_values_that_sections_share_are_set_once(tiny):
    config = with_weights("folder", tiny, "CACHE")
    config.data.directory = "DIR"
    run = resolve(config)
    assert run.config["encoder"]["directory"] == "DIR"
    (of_method,) = run.method.settings["encoder"]
    assert of_method["name"] == "tiny" and of_method["file"] == tiny.name
    for evaluation in run.evaluations.values():
        named = evaluation.settings["encoder"]
        assert named["name"] == "tiny" and tiny.name in str(named)
        assert evaluation.settings["features_directory"] == "CACHE"
    assert run.method.settings["features_directory"] == "CACHE"


def test_a_folder_of_images_and_a_file_of_weights(tiny, tmp_path, capsys):
    write_images(tmp_path / "images", classes=("ant", "bee"), count=15, size=(20, 24))
    config = with_weights("folder", tiny, tmp_path / "features")
    config.data.update(directory=str(tmp_path / "images"), image_size=8)
    outcome = train_and_evaluate(config, tmp_path / "run")
    assert set(outcome.test) >= {
        "linear_probe/closed_form_accuracy",
        "linear_probe/gradient_accuracy",
        "full_data_linear_probe/closed_form_accuracy",
    }
    assert outcome.distilled.class_names == ("ant", "bee")
    assert (tmp_path / "run" / "report.html").exists()
    assert list((tmp_path / "run" / "figures").glob("*.png"))
    # Features of three splits, shared by the method and all evaluations.
    assert len(list((tmp_path / "features").iterdir())) == 3
    assert "linear_probe" in capsys.readouterr().out


def test_an_unknown_encoder_is_one_line(tmp_path):
    config = get_config("folder", "runlocal,encoder=mobilenetv3")
    with pytest.raises(ConfigError, match="unknown encoder 'mobilenetv3'"):
        train_and_evaluate(config, tmp_path / "run")


@pytest.fixture
def tints():
    return coloured()


@pytest.fixture
def features(tints, tmp_path, monkeypatch):
    """Of the training images, through the encoder that the cache knows them by."""
    monkeypatch.setattr(common, "cache_directory", lambda: str(tmp_path / "features"))
    return common.real_features(linear_encoder(), tints)


@pytest.mark.parametrize("how", common.SELECTIONS)
def test_selected_images_are_real_ones_of_their_class(how, tints, features):
    labels = np.asarray(tints.train.labels)
    found = common.real_set(how, linear_encoder(), tints, seed=0, per_class=2)
    rows = common._chosen(how, linear_encoder(), tints, seed=0, per_class=2)
    assert labels[rows].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(rows.tolist())) == 6
    np.testing.assert_array_equal(found.labels, labels[rows])
    images = np.asarray(tints.train.inputs)[rows]
    np.testing.assert_array_equal(synthetic.decoded(found).inputs, images)
    assert found.provenance["settings"]["how"] == how


def test_images_nearest_to_the_mean_are_the_nearest(tints, features):
    labels = np.asarray(tints.train.labels)
    expected = linear_encoder().apply(
        linear_encoder().params, jnp.asarray(tints.train.inputs)
    )
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    rows = common._nearest_to_means(features, labels, 2)
    for label, row in zip((0, 0, 1, 1, 2, 2), rows, strict=True):
        own = features[labels == label]
        distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
        here = np.linalg.norm(features[row] - own.mean(axis=0))
        assert labels[row] == label and here <= np.sort(distances)[1] + 1e-6


def test_k_means_of_one_image_is_the_one_nearest_to_the_mean(tints, features):
    nearest, kmeans = (
        common._chosen(how, linear_encoder(), tints, seed=0, per_class=1)
        for how in ("nearest", "kmeans")
    )
    np.testing.assert_array_equal(nearest, kmeans)


@pytest.mark.parametrize("start", common.STARTS)
@pytest.mark.parametrize("contender", common.CONTENDERS)
def test_contenders_are_methods(contender, start):
    settings = common.settings_of(
        contender, per_class=1, learning_rate=0.1, start=start, copies=3
    )
    assert ("copies" in settings) == contender.endswith("augmented")
    methods.make(settings.pop("name"), encoder=linear_encoder(), **settings)


def test_settings_of_the_probe_are_clp_s_alone():
    keywords = dict(per_class=1, learning_rate=0.1, temperature=0.3, ridge=1.0)
    settings = {
        name: common.settings_of(name, **keywords) for name in common.CONTENDERS
    }
    for name, each in settings.items():
        assert ("ridge" in each) == name.startswith("clp")
    without = common.settings_of("clp_augmented", **keywords | {"ridge": None})
    assert without["ridge"] == 1.0
    found = {name: each.get("temperature") for name, each in settings.items()}
    of_cross_entropy = ("clp", "clp_augmented", "clp_several")
    assert found == {name: 0.3 if name in of_cross_entropy else None for name in found}


def test_several_seeds_are_what_each_is_alone(tints, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "cache_directory", lambda: str(tmp_path))
    settings = common.settings_of("clp", per_class=1, learning_rate=0.1)

    method, cache = common.method_of(settings, linear_encoder()), in_memory()
    together = [
        common.distil(method, tints, seed=seed, steps=3, cache=cache) for seed in (0, 1)
    ]
    alone = common.distil(method, tints, seed=1, steps=3)
    digests = [synthetic.digest(run.distilled) for run in together]
    assert digests[0] != digests[1] == synthetic.digest(alone.distilled)
    losses, others = ([r["loss"] for r in run.history] for run in (together[1], alone))
    assert losses == others and len(losses) == 3


def record(row, seed, closed, **extra):
    test = {"linear_probe/closed_form_accuracy": closed} | {
        "linear_probe/gradient_accuracy": closed - 0.1,
        "linear_probe_through_b/closed_form_accuracy": 0.5,
    }
    if row == "full":
        prefix = "full_data_linear_probe/"
        test = {prefix + "closed_form_accuracy": 0.9, prefix + "ridge": 1.0}
        test |= {prefix + "reachable_accuracy": 0.8, prefix + "gradient_accuracy": 0.7}
    place = {"dataset": "cub50", "encoder": "mobilenetv2", "row": row}
    made = made_up.record(
        f"clp_dd/table/x_{row}_{seed}",
        {"test": test},
        config={**place, "method": {"per_class": 1}},
        seed=seed,
    )
    return made | extra


def test_the_table_relates_sets_to_what_is_reachable():
    found = [record("full", 0, 0.0), record("clp", 0, 0.4), record("clp", 1, 0.6)]
    lines = tables.accuracy(found).splitlines()
    assert lines[2].startswith("| **CUB-50, MobileNetV2, 1 a class** |")
    assert lines[3] == "| all training images | 70.00 | 90.00 |  |  |"
    assert lines[4] == (
        "| CLP-DD, cross-entropy | 40.00 ± 14.14 | 50.00 ± 14.14 | 62.50 ± 17.68 | "
        "50.00 ± 0.00 |"
    )


def test_the_table_says_which_rows_are_the_same():
    names = ("nearest", "kmeans")
    found = [record(row, 0, 0.4, name=f"clp_dd/table/{row}") for row in names]
    assert "the same images" in tables.accuracy(found)
    assert "the same images" not in tables.accuracy(found[:1])
    for each in found:
        each["config"]["method"]["per_class"] = 10
    assert "the same images" not in tables.accuracy(found)


def test_columns_that_hold_nothing_are_left_out():
    name = "clp_dd/from_noise/x"
    scores = {
        f"linear_probe/{kind}_accuracy": 0.5 for kind in ("closed_form", "gradient")
    }
    found = record("clp", 0, 0.4, name=name, results={"test": scores})
    lines = tables.TABLES["clp_from_noise"]([found]).splitlines()
    assert lines[0] == "| test accuracy, % | probe by gradient | probe in closed form |"
    assert lines[3] == (
        "| CLP-DD, cross-entropy | 50.00 (one seed) | 50.00 (one seed) |"
    )


@pytest.fixture
def no_collection(monkeypatch):
    """In a process that holds as much as the tests' it takes seconds each time."""
    monkeypatch.setattr(memory.gc, "collect", lambda: 0)


def test_costs_are_measured(tiny, monkeypatch, no_collection):
    monkeypatch.setattr(memory, "reset_peak_memory", lambda: True)
    found = cost.measure("clp", classes=2, encoder="tiny", image_size=32, steps=1)
    # Of a process that has done more before, the peak says nothing about the steps.
    assert found.pop("step_mib") >= 0
    assert set(found) == {"seconds_per_step", "peak_mib", "encoder_seconds"}
    assert all(value > 0 for value in found.values())


@pytest.mark.skipif(sys.platform != "linux", reason="peaks begin anew under Linux only")
def test_memory_is_that_of_the_steps(no_collection):
    def ask():
        found = memory.resident_memory().evaluate(None, None, None, "validation")
        return {name.split("/")[1]: score.mean for name, score in found.items()}

    before = ask()
    held = np.ones((100, 2**20 // 8))
    del held
    after = ask()
    assert 95 < after["peak_mib"] - before["resident_mib"] < 140
    assert after["resident_mib"] < before["resident_mib"] + 40
    assert ask()["peak_mib"] < after["peak_mib"] - 50


def test_the_cost_table_has_ratios():
    one = {"seconds_per_step": 2.0, "step_mib": 10.0, "encoder_seconds": 1.0}
    other = {"seconds_per_step": 9.0, "step_mib": 80.0, "encoder_seconds": 7.2}
    rows = [{"classes": 10, "clp": one, "lgm_augmented": other}]
    found = [
        made_up.record("clp_dd/cost/x", {"rows": rows}, config={"image_size": size})
        for size in (64, 32)
    ]
    lines = tables.cost(found).splitlines()[2:]
    assert lines[0] == "| 10, 32 px | 2 | 9 | 4.5 x | 50 %, 80 % | 10 | 80 | 8.0 x |"
    assert lines[1].startswith("| 10, 64 px |")
    assert lines[3].startswith("Memory: of the compiled step, as XLA plans it. ")
    measured = [each | {"config": {"image_size": 9, "memory": "new"}} for each in found]
    assert "\nMemory: new. " in tables.cost(measured)


@pytest.mark.tfds
@pytest.mark.parametrize("name", ["imagenet100", "imagenet1k"])
def test_imagenet_through_tfds_on_a_stand_in(name, tiny, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")  # TFDS prepares images with it
    from tests.data.test_tfds import builder_class

    tfds.disable_progress_bar()
    sizes = {"train": 45, "validation": 15}
    builder = builder_class(tfds, shape=(None, None, 3), sizes=sizes)
    builder(
        data_dir=tmp_path / "data", file_format="array_record"
    ).download_and_prepare()
    config = with_weights(name, tiny, tmp_path / "features")
    config.data.update(name="tfds:toy", directory=str(tmp_path / "data"), limit=None)
    if name == "imagenet100":
        config.data.classes = (0, 2)
    outcome = train_and_evaluate(config, tmp_path / "run")
    assert "linear_probe/closed_form_accuracy" in outcome.test
    targets = synthetic.decoded(outcome.distilled).targets
    assert len(targets) == (2 if name == "imagenet100" else 3)
