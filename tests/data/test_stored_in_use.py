"""Inputs in files give every user of a split what arrays in memory give."""

import jax
import numpy as np
import pytest

from ddjax import methods, runtime, synthetic
from ddjax.data import Batches, on_device
from ddjax.methods import frozen_features
from ddjax.models.encoders.cache import cached_features
from ddjax.synthetic import initialization
from tests.data.test_stored import CHOSEN, both, stored
from tests.models.encoders.tiny import linear_encoder


@pytest.mark.parametrize(
    "how", ["balanced", "kmeans_centres", "kmeans_nearest", "noise"]
)
def test_starts_are_those_of_the_array(how, tmp_path):
    starts = [
        initialization.select(jax.random.key(0), problem, per_class=2, how=how)
        for problem in both(tmp_path)
    ]
    for one, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_are_those_of_the_array(tmp_path):
    encoder = linear_encoder()
    inputs, array, reads = stored()
    found = [
        cached_features(encoder, each, directory=tmp_path / name, fingerprint="x")
        for name, each in (("files", inputs), ("memory", array))
    ]
    np.testing.assert_array_equal(*found)
    assert sum(reads, [])[1:] == CHOSEN.tolist()  # the first for its size and type


def test_real_images_stay_in_their_files(monkeypatch):
    inputs, _, reads = stored()
    labels = np.arange(6, dtype=np.int32) % 2
    monkeypatch.setattr(frozen_features, "DEVICE_BYTES", 0)
    (rows,) = frozen_features.rows_to_draw_from([inputs], labels, batch_size=2)
    assert isinstance(rows, Batches) and not on_device(rows.split) and not reads


def test_a_run_on_files_is_that_on_the_array(tmp_path):
    method = methods.kip(
        batch_size=8,
        features={"architecture": {"kind": "fully_connected", "width": 16}},
        decoder={"name": "decorrelated_colour", "colour": "data"},
    )
    digests = {
        synthetic.digest(
            runtime.train(
                method, problem, seed=0, steps=3, workdir=tmp_path / str(index)
            ).distilled
        )
        for index, problem in enumerate(both(tmp_path))
    }
    assert len(digests) == 1
