"""Tests of the exports to NumPy and PyTorch."""

import csv
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from ddjax import data, synthetic
from ddjax.data import preprocess
from ddjax.data.problem import Split
from ddjax.synthetic import distilled as sets
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.decoders.bases import approximate, bases
from ddjax.synthetic.learn_with import learn_with
from tests.synthetic.problems import (
    changed,
    distilled_set,
    natural_images,
    table,
    table_set,
)

Error = synthetic.DistilledSetError
KINDS = ("none", "standardize", "zca", "zca_uncentred")
PAGE = (Path(__file__).parents[2] / "docs" / "for-pytorch-users.md").read_text()
SHAPES = ((3, 4, 3), (4, 3, 1), (5,))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_npz_holds_everything_without_pickle(tmp_path, shape, kind):
    distilled = distilled_set(shape=shape, kind=kind)
    path = synthetic.to_npz(tmp_path / "new" / "set.npz", distilled)
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    prep = distilled.preprocessing
    wanted = {
        **distilled.stored,
        "natural_inputs": synthetic.natural_inputs(distilled),
        "labels": distilled.labels,
        **{"mean": prep.mean, "std": prep.std},
    }
    for name, array in wanted.items():
        np.testing.assert_array_equal(content[name], array)
    assert tuple(content["class_names"]) == distilled.class_names
    assert content["targets_kind"] == "scores"
    assert ("whiten" in content) == ("unwhiten" in content) == kind.startswith("zca")
    description = json.loads(str(content["description"]))
    assert description["provenance"] == distilled.provenance
    assert description["digest"] == synthetic.digest(distilled)


def test_regression_sets_keep_their_units(tmp_path):
    distilled = table_set()
    natural = synthetic.natural_regression_targets(distilled)
    assert 500 < float(natural.mean()) < 3000
    with np.load(synthetic.to_npz(tmp_path / "a.npz", distilled)) as file:
        np.testing.assert_array_equal(file["natural_targets"], natural)
        assert file["target_names"].tolist() == ["price"]
        assert file["input_names"].tolist() == ["rooms", "area", "age"]
        back = file["targets"] * file["targets_std"] + file["targets_mean"]
    np.testing.assert_allclose(back, natural, rtol=1e-6)
    path = synthetic.to_torch_safetensors(tmp_path / "a.safetensors", distilled)
    tensors = load_file(path)
    back = tensors["targets"] * tensors["targets_std"] + tensors["targets_mean"]
    np.testing.assert_allclose(back, natural, rtol=1e-6)
    with safe_open(path, framework="numpy") as file:
        columns = json.loads(file.metadata()["ddjax"])["columns"]
    assert columns["targets"] == ["price"] and columns["units"] == {"area": "m2"}


def test_csv_is_the_table_in_natural_units(tmp_path):
    distilled = table_set()
    path = synthetic.to_csv(tmp_path / "new" / "a.csv", distilled)
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["rooms", "area", "age", "price"]
    found = np.array(rows, np.float32)
    natural = (
        synthetic.natural_inputs(distilled),
        synthetic.natural_regression_targets(distilled),
    )
    np.testing.assert_array_equal(found, np.float32(np.concatenate(natural, axis=1)))
    nameless = distilled._replace(columns=None, targets_preprocessing=None)
    text = synthetic.to_csv(path, nameless).read_text()
    assert text.startswith("x0,x1,x2,y0\n")
    assert float(text.split("\n")[1].split(",")[3]) == distilled.stored["targets"][0, 0]


def test_what_is_no_table_gives_no_csv(tmp_path):
    images = distilled_set(targets_kind="regression", labels=None, class_names=None)
    for distilled, message in (
        (distilled_set(), "'scores' have no natural units"),
        (images, r"shape \(4, 4, 3\) are no columns"),
        (changed(table_set(), targets=np.full(5, np.nan)), "not finite"),
    ):
        with pytest.raises(Error, match=message):
            synthetic.to_csv(tmp_path / "a.csv", distilled)
    assert not list(tmp_path.iterdir())


def test_npz_of_a_set_without_labels(tmp_path):
    distilled = distilled_set(labels=None, class_names=None, targets_kind="regression")
    with np.load(synthetic.to_npz(tmp_path / "a.npz", distilled)) as file:
        assert not {"labels", "class_names", "whiten"} & set(file.files)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_torch_tensors_preprocess_as_the_library_does(tmp_path, shape, kind):
    distilled = distilled_set(shape=shape, kind=kind)
    path = synthetic.to_torch_safetensors(tmp_path / "a.safetensors", distilled)
    tensors = load_file(path)
    floats = {n: t for n, t in tensors.items() if n != "labels"}
    assert {t.dtype for t in floats.values()} == {np.dtype(np.float32)}
    assert tensors["labels"].dtype == np.int64
    np.testing.assert_array_equal(tensors["labels"], distilled.labels)
    np.testing.assert_array_equal(tensors["targets"], distilled.stored["targets"])

    def channels_first(images):
        return images.transpose(0, 3, 1, 2) if images.ndim == 4 else images

    stored = distilled.stored["inputs"]
    np.testing.assert_array_equal(tensors["inputs"], channels_first(stored))
    images = natural_images(7, shape, seed=5)
    expected = channels_first(preprocess.apply(distilled.preprocessing, images))
    images = channels_first(images)
    found = (images - tensors["mean"]) / tensors["std"]
    if kind.startswith("zca"):
        found = (found.reshape(7, -1) @ tensors["whiten"]).reshape(found.shape)
        back = (found.reshape(7, -1) @ tensors["unwhiten"]).reshape(found.shape)
        back = back * tensors["std"] + tensors["mean"]
        np.testing.assert_allclose(back, images, atol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_torch_metadata(tmp_path):
    distilled = distilled_set()
    path = synthetic.to_torch_safetensors(tmp_path / "a.safetensors", distilled)
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["ddjax"])
    assert metadata == {
        "targets_kind": "scores",
        "learn_with": learn_with(distilled),
        "class_names": list(distilled.class_names),
        "digest": synthetic.digest(distilled),
    }


# --- the page for PyTorch users, on a set of every kind ---------------------------


def block(name):
    """A marked block of the page, as a reader would copy it."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", PAGE, re.S)
    assert found is not None, name
    return found.group(1)


def digits_set(digits, kind, *, preprocessing="standardize"):
    """Forty real digits a class with targets of a kind, new images, what to predict."""
    images, labels = digits
    classes = 2 if kind == "margin" else 3
    images, labels = images[labels < classes], labels[labels < classes]
    rows = np.concatenate([np.flatnonzero(labels == k)[:40] for k in range(classes)])
    prep = preprocess.fit(images, kind=preprocessing)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    wanted, recipe = labels[200:], {}
    if kind == "margin":
        targets = 1.2 * (2 * labels.astype(np.float32) - 1)
    elif kind == "probabilities":
        targets = 0.85 * one_hot + 0.05
    elif kind == "scores":
        targets = one_hot - np.float32(1 / classes)
    elif kind == "one_vs_rest":
        targets, kind = 2 * one_hot - 1, "scores"
        recipe = {"loss": {"name": "logistic"}}
    else:
        assert kind == "representation"
        targets = wanted = np.tanh(images.reshape(-1, 64) @ np.eye(64)[:, 26:30])
        targets, wanted = targets.astype(np.float32), wanted[200:]
    names = tuple(f"digit {k}" for k in range(classes))
    named = kind != "representation"
    distilled = changed(
        distilled_set(),
        inputs=np.asarray(preprocess.apply(prep, images[rows])),
        targets=targets[rows],
        recipe={"targets_kind": kind, **recipe},
        labels=labels[rows] if named else None,
        preprocessing=prep,
        class_names=names if named else None,
    )
    return distilled, images[200:], wanted


def regression_rows():
    """Five rows for ridge regression on the inputs, new rows, their targets."""
    problem = table(samples=200, device=False)
    distilled = changed(
        table_set(),
        inputs=problem.train.inputs[:20],
        targets=problem.train.targets[:20],
        preprocessing=problem.preprocessing,
        targets_preprocessing=problem.targets_preprocessing,
    )
    ridge = {"strength": 1e-6, "convention": "per_sample"}
    recipe = {**distilled.recipe, "features": {"kind": "inputs"}, "ridge": ridge}
    rows = preprocess.invert(problem.preprocessing, problem.test.inputs[20:])
    targets = problem.test.targets[20:]
    wanted = preprocess.invert(problem.targets_preprocessing, targets)
    return distilled._replace(recipe=recipe), np.asarray(rows), np.asarray(wanted)


KINDS_OF_TARGETS = (
    ("probabilities", "standardize"),
    ("scores", "none"),
    ("scores", "zca"),
    ("one_vs_rest", "standardize"),
    ("margin", "standardize"),
    ("representation", "standardize"),
    ("regression", "standardize"),
)


def exported(tmp_path, monkeypatch, digits, kind, preprocessing):
    """The two files in the working directory; new inputs and what they are."""
    distilled, inputs, wanted = (
        regression_rows()
        if kind == "regression"
        else digits_set(digits, kind, preprocessing=preprocessing)
    )
    monkeypatch.chdir(tmp_path)
    synthetic.to_npz("distilled.npz", distilled)
    synthetic.to_torch_safetensors("distilled.safetensors", distilled)
    return inputs, wanted


def assert_right(predicted, wanted):
    predicted = np.asarray(predicted)
    assert predicted.shape == wanted.shape
    if wanted.ndim == 1:
        assert np.mean(predicted == wanted) > 0.9
    else:
        squares = np.square(predicted - wanted).sum(axis=0)
        total = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
        assert np.all(1 - squares / total > 0.5)


@pytest.mark.parametrize("learner", ["numpy-learn", "sklearn-learn"])
@pytest.mark.parametrize(("kind", "preprocessing"), KINDS_OF_TARGETS)
def test_the_page_reads_every_kind_in_numpy(
    tmp_path, monkeypatch, digits, kind, preprocessing, learner
):
    inputs, wanted = exported(tmp_path, monkeypatch, digits, kind, preprocessing)
    names = {"test_inputs": inputs}
    for name in ("numpy-read", learner, "numpy-predict"):
        exec(block(name), names)
    assert_right(names["predicted"], wanted)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "preprocessing"), KINDS_OF_TARGETS)
def test_the_page_reads_every_kind_in_pytorch(
    tmp_path, monkeypatch, digits, kind, preprocessing
):
    torch = pytest.importorskip("torch")
    inputs, wanted = exported(tmp_path, monkeypatch, digits, kind, preprocessing)
    if inputs.ndim == 4:
        inputs = inputs.transpose(0, 3, 1, 2)
    names = {"test_inputs": torch.from_numpy(np.ascontiguousarray(inputs))}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in ("read", "train", "ridge", "predict"):
            exec(block(f"pytorch-{name}"), names)
    assert_right(names["predicted"], wanted)


@pytest.mark.torch
def test_the_page_decodes_bases_in_pytorch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(40, 8, 8, 3)), jnp.float32)
    targets = jnp.asarray(rng.normal(size=(40, 6)), jnp.float32)
    decoder = bases(image_bases=5, target_bases=3, views="rotation", hidden=2)
    pairs = Pairs(images[:12], targets[:12])
    stored = decoder.init(pairs, decoder.fit(Split(images, None, targets)))
    key = jax.random.key(0)
    made, kept, _ = approximate(key, decoder, stored, shift="network", steps=20)
    problem = data.from_arrays(
        (np.asarray(images), np.asarray(targets)), preprocessing="none"
    )
    recipe = {"targets_kind": "representation"}
    distilled = sets.distilled_set(kept, made, problem, recipe=recipe)
    monkeypatch.chdir(tmp_path)
    synthetic.save("stored.safetensors", distilled)
    names = {}
    exec(block("pytorch-bases"), names)
    wanted = sets.decoded(distilled)
    found = names["inputs"].numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, wanted.inputs, atol=1e-5)
    np.testing.assert_allclose(names["targets"].numpy(), wanted.targets, atol=1e-5)
    # Some twenty lines.
    lines = [line for line in block("pytorch-bases").splitlines() if line.strip()]
    assert len(lines) < 30


@pytest.mark.parametrize(
    ("kind", "loss", "outputs", "prediction"),
    [
        ("probabilities", "cross_entropy", 3, "largest"),
        ("scores", "squared", 3, "largest"),
        ("one_vs_rest", "logistic", 3, "largest"),
        ("margin", "logistic", 1, "sign"),
        ("representation", "squared", 4, "value"),
    ],
)
def test_exports_say_what_goes_with_the_targets(
    tmp_path, digits, kind, loss, outputs, prediction
):
    distilled, _, _ = digits_set(digits, kind)
    path = synthetic.to_torch_safetensors(tmp_path / "a.safetensors", distilled)
    with safe_open(path, framework="numpy") as file:
        said = json.loads(file.metadata()["ddjax"])["learn_with"]
        targets = file.get_tensor("targets")
    assert targets.shape == (len(distilled.stored["targets"]), outputs)
    with np.load(synthetic.to_npz(tmp_path / "a.npz", distilled)) as file:
        assert json.loads(str(file["learn_with"])) == said
    assert (said["loss"], said["outputs"]) == (loss, outputs)
    assert said["prediction"] == prediction
    assert said["formula"] and said["prediction_in_words"]
    assert f"`{loss}`" in PAGE and f"`{prediction}`" in PAGE
    # The page's blocks know every name that can be said.
    assert f'"{loss}": ' in block("pytorch-train")


def test_exports_say_what_learners_saw_the_inputs_through(tmp_path):
    said = learn_with(distilled_set())
    assert "through" not in said
    inputs = np.asarray(distilled_set().stored["inputs"], float)
    np.testing.assert_allclose(said["ridge"], 1e-6 * np.square(inputs).sum() / 6)
    through = {
        "encoders": [{"name": "mobilenetv2", "file": "m.safetensors"}],
        "probe": {"ridge": 0.01, "normalize_features": True},
    }
    recipe = {"targets_kind": "scores", **through}
    said = learn_with(distilled_set()._replace(recipe=recipe))
    assert said["through"] == through and "ridge" not in said


def test_the_page_shows_the_snippet():
    compile(synthetic.PYTORCH_SNIPPET, "snippet", "exec")
    assert block("pytorch-read") == synthetic.PYTORCH_SNIPPET
    assert block("numpy-read").startswith(synthetic.NUMPY_SNIPPET)


@pytest.mark.parametrize("export", [synthetic.to_npz, synthetic.to_torch_safetensors])
def test_errors_name_the_file(tmp_path, export):
    invalid = distilled_set(targets_kind="soft")
    with pytest.raises(Error, match="a: cannot be exported: unknown targets_kind"):
        export(tmp_path / "a", invalid)
    (tmp_path / "b").mkdir()
    with pytest.raises(Error, match="b: cannot be written"):
        export(tmp_path / "b", distilled_set())
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    one, two = (export(tmp_path / n, distilled_set()) for n in ("c", "d"))
    assert one.read_bytes() == two.read_bytes()
