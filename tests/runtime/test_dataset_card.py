"""Dataset cards: metadata that the Hub reads, and a text that says everything."""

import re

import numpy as np
import pytest
import yaml

from ddjax import synthetic
from ddjax.runtime import dataset_card as cards
from tests.runtime import fakes
from tests.synthetic.problems import distilled_set, table_set


def _of(distilled, name="digits", **source):
    known = {"name": name, "fingerprint": "f" * 64, "source": source}
    provenance = {
        "method": "kip",
        "settings": {"ridge": 1e-6},
        "seeds": {"run": 3},
        "steps": 10,
        "data": known,
        "versions": {"ddjax": "9.9", "jax": "0.1"},
    }
    return distilled._replace(provenance=provenance)


def _parts(text):
    """The metadata as YAML has them, and the text."""
    nothing, front, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    assert nothing == ""
    return yaml.safe_load(front), body


def test_the_metadata_are_those_of_the_hub():
    found, _ = _parts(cards.dataset_card(fakes.report(_of(distilled_set()))))
    assert found == {
        "pretty_name": "digits, distilled to 6 images by kip",
        "license": "cc-by-4.0",
        "tags": ["dataset-distillation", "ddjax", "kip"],
        "size_categories": ["n<1K"],
        "task_categories": ["image-classification"],
        "source_datasets": ["digits"],
    }


def test_what_is_not_known_is_left_out():
    # Two licences meet in a set that was made through pretrained weights.
    recipe = {
        "targets_kind": "scores",
        "encoders": [{"name": "mocov3_vit_b16"}, {"name": "resnet50", "random": True}],
    }
    encoded = _of(distilled_set())._replace(recipe=recipe)
    assert "license" not in cards.metadata(encoded)
    text = cards.dataset_card(fakes.report(encoded))
    assert "mocov3_vit_b16: CC-BY-NC-4.0" in text and "resnet50: " not in text
    unknown = cards.metadata(_of(distilled_set(), "tfds:svhn_cropped:3.0.0"))
    assert "license" not in unknown and unknown["source_datasets"] == ["svhn_cropped"]
    # Arrays that somebody called by the name of a data set are not that data set.
    arrays = cards.metadata(_of(distilled_set(), "fashion_mnist", reader="arrays"))
    assert not {"license", "source_datasets"} & set(arrays)
    bare = cards.metadata(distilled_set()._replace(provenance={}))
    assert bare["pretty_name"] == "Distilled to 6 images"


@pytest.mark.parametrize(
    ("distilled", "task"),
    [
        (distilled_set(shape=(5,)), None),
        (distilled_set(targets_kind="representation"), "image-feature-extraction"),
        (table_set(), "tabular-regression"),
    ],
)
def test_tasks(distilled, task):
    assert cards.metadata(_of(distilled)).get("task_categories") == (task and [task])


def test_sizes():
    large = distilled_set(classes=2, each=600, shape=(1,))
    assert cards.metadata(large)["size_categories"] == ["1K<n<10K"]


def test_names_cannot_leave_the_metadata():
    name = 'a"b\n---\nlicense: mit\n\x1b[31m: é 𝄞 \u2028'
    text = cards.dataset_card(fakes.report(_of(distilled_set(), name)))
    found, _ = _parts(text)
    assert "license" not in found and "\x1b" not in text
    assert found["pretty_name"].startswith(r'a"b\n---\nlicense: mit\n\x1b[31m: é 𝄞 ')


def test_the_text_says_everything_but_the_machine():
    distilled = _of(distilled_set())
    _, body = _parts(cards.dataset_card(fakes.report(distilled)))
    for said in (
        "6 images of 4 x 4 x 3, float32",
        "288 numbers for inputs",
        "1294 real ones",
        "recipe ridge",
        "mean((outputs - targets)&#42;&#42;2)",
        "standardize",
        "25.00 ± 1.00 %",
        "step 8 of 10, the last one",
        '"ridge": 1e-06',
        "ddjax 9.9, jax 0.1",
        "abc123",
        f"digest | {synthetic.digest(distilled)}",
        "digits: CC-BY-4.0, see https://archive.ics.uci.edu/dataset/80",
        "## Certificate",
        synthetic.PYTORCH_SNIPPET,
        synthetic.NUMPY_SNIPPET,
    ):
        assert said in body
    assert "/home/me" not in body and "secret" not in body
    without = distilled._replace(certificate=None)
    assert "## Certificate" not in cards.dataset_card(fakes.report(without))


def test_the_set_is_read_as_without_a_card(tmp_path, monkeypatch):
    distilled = _of(distilled_set())
    folder = synthetic.save(tmp_path / "set", distilled)
    plain = synthetic.load(folder)
    (folder / f".{cards.CARD}.saving-0123456789abcdef").write_text("half")
    card = cards.write_card(folder, fakes.report(distilled)).read_text()
    assert synthetic.digest(synthetic.load(folder)) == synthetic.digest(plain)
    # A set saved over it leaves it there; its digest tells that it is of another one.
    synthetic.save(folder, _of(distilled_set(seed=1)))
    assert synthetic.digest(synthetic.load(folder)) not in card
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 3 and names > {"README.md", "distilled.json"}
    # The code on it runs where the card lies.
    synthetic.to_npz(folder / "distilled.npz", distilled)
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert len(blocks) == 3
    for code in blocks[:2]:
        names = {}
        exec(code, names)
        inputs = names["inputs"] if "inputs" in names else names["distilled"]["inputs"]
        assert np.shape(inputs) == (6, 4, 4, 3)
    compile(blocks[2], "pytorch", "exec")
