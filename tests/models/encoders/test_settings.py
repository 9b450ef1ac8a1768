"""Encoders as configurations name them: loaded once, and known by their weights."""

from pathlib import Path

import jax

from ddjax.models import encoders
from ddjax.models.encoders.settings import as_encoder
from tests.models.encoders.tiny import linear_encoder


def test_other_weights_under_the_same_path_are_loaded(tmp_path, monkeypatch):
    """A notebook went on with the old ones, and called them the new ones."""
    loaded = []

    def load(name, *, weights):
        loaded.append(name)
        source = {"sha256": Path(weights).read_text()}
        return linear_encoder()._replace(name=name, source=source)

    monkeypatch.setattr(encoders, "load", load)
    path = tmp_path / "weights.safetensors"
    setting = {"name": "mobilenetv2", "weights": str(path), "random": None}
    for text in ("one", "other"):
        path.write_text(text)
        for _ in range(2):
            assert as_encoder(setting).setting["sha256"] == text
    assert len(loaded) == 2


def test_weights_without_a_file_are_known_by_themselves():
    one = linear_encoder()._replace(source={"sha256": None, "random": True})
    other = one._replace(params=jax.tree.map(lambda each: each + 1, one.params))
    assert one.setting["sha256"] == one.setting["sha256"]
    assert one.setting["sha256"] != other.setting["sha256"]
