"""Trained networks: their files, damaged ones, and what they are as encoders."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ddjax.models import trained
from ddjax.models.encoders.base import EncoderError, MissingWeightsError
from ddjax.models.encoders.settings import as_encoder
from ddjax.models.trained import TrainedNetwork, make_network, network_setting

SMALL = {"name": "convnet", "depth": 1, "width": 3, "norm": "batch"}


def network(channels=3, seed=0, **settings):
    setting = network_setting({**SMALL, **settings})
    images = jnp.zeros((1, 4, 4, channels))
    variables = make_network(setting).init(jax.random.key(seed), images)
    # Statistics that are not those of the start.
    variables = jax.tree.map(lambda leaf: np.asarray(leaf + 0.1), variables)
    return TrainedNetwork(
        setting,
        (4, 4, channels),
        variables,
        (0.5, 0.4, 0.3)[:channels],
        (0.2, 0.3, 0.25)[:channels],
        {"method": "test"},
    )


NETWORK = network()
PIXELS = jax.random.uniform(jax.random.key(1), (5, 4, 4, 3), jnp.float32)


def test_files_give_back_every_bit(tmp_path):
    path = trained.save(tmp_path / "new" / "network.safetensors", NETWORK)
    found = trained.load(path)
    assert found._replace(variables={}) == NETWORK._replace(variables={})
    chex.assert_trees_all_equal(NETWORK.variables, found.variables, strict=True)
    assert trained.digest(found) == trained.digest(NETWORK)
    again = trained.save(tmp_path / "again.safetensors", found)
    assert again.read_bytes() == path.read_bytes()


def test_the_digest_covers_all_but_where_a_network_comes_from():
    same = trained.digest(NETWORK)
    assert trained.digest(NETWORK._replace(provenance={"seed": 1})) == same
    others = (
        network(seed=1),
        network(first_padding=2),
        NETWORK._replace(mean=(0.5, 0.4, 0.31)),
        NETWORK._replace(std=(0.2, 0.3, 0.26)),
    )
    assert len({same, *map(trained.digest, others)}) == 5


def test_an_encoder_normalises_and_applies_the_network(tmp_path):
    path = trained.save(tmp_path / "network.safetensors", NETWORK)
    encoder = as_encoder({"name": "network_file", "weights": str(path)})
    mean, std = np.array([NETWORK.mean, NETWORK.std], jnp.result_type(float))
    seen = jnp.asarray((np.asarray(PIXELS) - mean) / std)
    variables = jax.tree.map(jnp.asarray, NETWORK.variables)
    expected = make_network(NETWORK.network).apply(variables, seen)
    found = encoder.apply(encoder.params, PIXELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (encoder.width, encoder.input_size) == (12, 4)
    # One network, wherever it lies, and one compiled program.
    direct = trained.as_encoder(NETWORK)
    assert direct.setting == encoder.setting
    assert direct.setting["sha256"] == trained.digest(NETWORK)
    assert direct.apply is encoder.apply
    json.dumps(direct.setting)


def test_an_encoder_of_one_channel_sees_grey(each_precision):
    grey = network(channels=1)
    encoder = trained.as_encoder(grey, dtype=each_precision)
    found = encoder.apply(encoder.params, PIXELS)
    brightness = jnp.repeat(PIXELS.mean(axis=-1, keepdims=True), 3, axis=-1)
    again = encoder.apply(encoder.params, brightness)
    np.testing.assert_allclose(found, again, rtol=1e-5)
    assert found.dtype == each_precision


def test_an_encoder_computes_in_the_dtype_that_is_asked_for():
    half = trained.as_encoder(NETWORK, dtype="bfloat16")
    single = trained.as_encoder(NETWORK)
    found = half.apply(half.params, PIXELS)
    expected = single.apply(single.params, PIXELS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(found), expected, atol=0.1)
    assert not np.array_equal(found, expected)
    with pytest.raises(EncoderError, match="dtype='float16'; allowed"):
        trained.as_encoder(NETWORK, dtype="float16")


def rewritten(path, *, change=None, **document):
    """The file with other arrays or other words, its digest as it was."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        words = json.loads(file.metadata()["ddjax"])
    arrays = load_file(path)
    if change is not None:
        change(arrays)
    save_file(arrays, path, {"ddjax": json.dumps({**words, **document})})


def of_width(width):
    return {**NETWORK.network, "width": width}


def nudge(arrays):
    arrays[max(arrays)][0] += 1e-6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: rewritten(path, change=nudge), "digest .* was changed or da"),
        (lambda path: rewritten(path, mean=[0.0, 0.0, 0.0]), "the content has the dig"),
        (lambda path: rewritten(path, std=[1.0, 0.0, 1.0]), "std is .* numbers > 0"),
        (lambda path: rewritten(path, mean=[0.5]), "mean is .* 3 finite numbers"),
        (lambda path: rewritten(path, version=2), "version 2 of the format; known: 1"),
        (lambda path: rewritten(path, format="other"), "do not say that it is a tra"),
        (lambda path: rewritten(path, network=None), "metadata lack network"),
        (lambda path: rewritten(path, input_shape=[4, 4, 2]), "input_shape is"),
        (lambda path: rewritten(path, network={"name": "lenet"}), "unknown network 'l"),
        (lambda path: rewritten(path, network=SMALL), "is not described in full"),
        (lambda path: rewritten(path, network=of_width("3")), "(?s)network .*'3'"),
        (lambda path: rewritten(path, network=of_width(4)), "has shape .*, expected"),
        (lambda path: rewritten(path, change=dict.popitem), "the file lacks"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "not a valid safetens"),
        (lambda path: save_file({"a": np.zeros(2)}, path), "do not say that it is"),
    ],
)
def test_damaged_files_are_refused(damage, message, tmp_path):
    path = trained.save(tmp_path / "network.safetensors", NETWORK)
    damage(path)
    with pytest.raises(EncoderError, match=message) as raised:
        trained.load(path)
    assert str(path) in str(raised.value)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(MissingWeightsError, match="there is no such file. Train one"):
        as_encoder({"name": "network_file", "weights": str(tmp_path / "none")})
    with pytest.raises(EncoderError, match="network_file needs weights"):
        as_encoder("network_file")
    with pytest.raises(EncoderError, match="no option 'random'; it has: weights, dty"):
        as_encoder({"name": "network_file", "random": 0})
    with pytest.raises(ValueError, match="ends in .safetensors"):
        trained.save(tmp_path / "network.npz", NETWORK)
    with pytest.raises(EncoderError, match="trained on 4 x 6 images"):
        trained.as_encoder(NETWORK._replace(input_shape=(4, 6, 3)))
    with pytest.raises(ValueError, match="unknown network 'lenet'; known: convnet"):
        network_setting("lenet")
    with pytest.raises(ValueError, match="takes no 'widht'; did you mean 'width'"):
        network_setting({"name": "convnet", "widht": 3})
    with pytest.raises(ValueError, match="without its head: give no outputs"):
        network_setting({"name": "convnet", "outputs": 3})
