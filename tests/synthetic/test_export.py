"""Tests of the exports to NumPy and PyTorch."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from ddjax import synthetic
from ddjax.data import preprocess
from tests.synthetic.problems import (
    changed,
    distilled_set,
    natural_images,
    table_set,
)

Error = synthetic.DistilledSetError
KINDS = ("none", "standardize", "zca", "zca_uncentred")
README = Path(__file__).parents[2] / "README.md"
SHAPES = ((3, 4, 3), (4, 3, 1), (5,))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_npz_holds_everything_without_pickle(tmp_path, shape, kind):
    distilled = distilled_set(shape=shape, kind=kind)
    path = synthetic.to_npz(tmp_path / "new" / "set.npz", distilled)
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    np.testing.assert_array_equal(content["inputs"], distilled.stored["inputs"])
    np.testing.assert_array_equal(
        content["natural_inputs"], synthetic.natural_inputs(distilled)
    )
    np.testing.assert_array_equal(content["targets"], distilled.stored["targets"])
    np.testing.assert_array_equal(content["labels"], distilled.labels)
    np.testing.assert_array_equal(content["mean"], distilled.preprocessing.mean)
    np.testing.assert_array_equal(content["std"], distilled.preprocessing.std)
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
    np.testing.assert_array_equal(found[:, :3], synthetic.natural_inputs(distilled))
    np.testing.assert_array_equal(
        found[:, 3:], synthetic.natural_regression_targets(distilled)
    )
    nameless = distilled._replace(columns=None, targets_preprocessing=None)
    text = synthetic.to_csv(path, nameless).read_text()
    assert text.startswith("x0,x1,x2,y0\n")
    assert float(text.split("\n")[1].split(",")[3]) == distilled.stored["targets"][0, 0]


def test_what_is_no_table_gives_no_csv(tmp_path):
    with pytest.raises(Error, match="'scores' have no natural units"):
        synthetic.to_csv(tmp_path / "a.csv", distilled_set())
    images = distilled_set(targets_kind="regression", labels=None, class_names=None)
    with pytest.raises(Error, match=r"shape \(4, 4, 3\) are no columns"):
        synthetic.to_csv(tmp_path / "a.csv", images)
    with pytest.raises(Error, match="not finite"):
        synthetic.to_csv(
            tmp_path / "a.csv", changed(table_set(), targets=np.full(5, np.nan))
        )
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
        "class_names": list(distilled.class_names),
        "digest": synthetic.digest(distilled),
    }


def test_the_snippet_is_five_lines_and_runs(tmp_path, monkeypatch):
    assert len([line for line in synthetic.PYTORCH_SNIPPET.splitlines() if line]) == 5
    compile(synthetic.PYTORCH_SNIPPET, "snippet", "exec")
    torch = pytest.importorskip("torch")
    distilled = distilled_set(shape=(3, 4, 3))
    synthetic.to_torch_safetensors(tmp_path / "distilled.safetensors", distilled)
    monkeypatch.chdir(tmp_path)
    images = natural_images(7, (3, 4, 3), seed=5)
    names = {"test_images": torch.from_numpy(images.transpose(0, 3, 1, 2).copy())}
    exec(synthetic.PYTORCH_SNIPPET, names)
    expected = preprocess.apply(distilled.preprocessing, images)
    np.testing.assert_allclose(
        names["test_images"].numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5
    )
    loader = torch.utils.data.DataLoader(names["train"], batch_size=6)
    ((inputs, targets),) = loader
    network = torch.nn.Conv2d(3, 2, 3)
    assert network(inputs).shape == (6, 2, 1, 2)
    np.testing.assert_array_equal(
        inputs.numpy(), distilled.stored["inputs"].transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(targets.numpy(), distilled.stored["targets"])


@pytest.mark.skipif(
    not README.exists() or "safetensors.torch" not in README.read_text(),
    reason="README.md does not show PyTorch",
)
def test_the_readme_shows_the_snippet():
    assert f"```python\n{synthetic.PYTORCH_SNIPPET}```" in README.read_text()


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
