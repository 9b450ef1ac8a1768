"""Feature maps: recipes survive JSON, networks are rebuilt, mistakes are named."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import random_features
from ddjax.models import feature_maps

SHAPE = (6, 6, 1)
SMALL = random_features.fully_connected(depth=2, width=16)
CONV = random_features.convolutional(depth=2, width=8)


def images(n: int = 5):
    return jax.random.normal(jax.random.key(7), (n, *SHAPE))


@pytest.mark.parametrize(
    "description",
    [
        feature_maps.inputs(),
        feature_maps.random(jax.random.key(3), SMALL, networks=2),
        feature_maps.random(jax.random.key(3), CONV, networks=2, readout=True),
        feature_maps.random(jax.random.key(3, impl="rbg"), SMALL, networks=1),
        feature_maps.fourier(jax.random.key(4), frequencies=3, length_scale=0.5),
        feature_maps.exact("nngp", SMALL),
        feature_maps.exact("ntk", CONV),
    ],
)
def test_recipes_survive_json(description):
    text = json.dumps(feature_maps.to_recipe(description))
    assert feature_maps.from_recipe(json.loads(text)) == description


@pytest.mark.parametrize("architecture", [SMALL, CONV])
def test_the_very_same_networks_are_rebuilt(architecture):
    key = jax.random.key(3)
    params = random_features.init_networks(
        key, architecture, input_shape=SHAPE, networks=2
    )
    recipe = feature_maps.to_recipe(feature_maps.random(key, architecture, networks=2))
    rebuilt, _ = feature_maps.build(feature_maps.from_recipe(recipe), SHAPE)
    chex.assert_trees_all_equal(rebuilt, params)


def test_readout_counts_the_dense_head():
    def rows(readout):
        settings = {"networks": 2, "readout": readout}
        seen = feature_maps.random(jax.random.key(3), SMALL, **settings)
        params, features = feature_maps.build(seen, SHAPE)
        return features(params, images())

    plain, headed = rows(False), rows(True)
    wanted = SMALL.w_std**2 * (plain @ plain.T) + SMALL.b_std**2
    np.testing.assert_allclose(headed @ headed.T, wanted, rtol=1e-5)


def test_rebuilding_does_not_recompile():
    first = feature_maps.random(jax.random.key(3), SMALL, networks=2)
    params, features = feature_maps.build(first, SHAPE)
    features(params, images())
    compiled = features._cache_size()
    other = feature_maps.random(jax.random.key(4), SMALL, networks=2)
    params, features = feature_maps.build(other, SHAPE)
    features(params, images())
    assert features._cache_size() == compiled


def test_architectures_come_from_plain_values():
    assert feature_maps.as_architecture("convolutional") == (
        random_features.convolutional()
    )
    assert feature_maps.as_architecture(SMALL) is SMALL
    plain = {"kind": "fully_connected", "depth": 2, "width": 16}
    assert feature_maps.as_architecture(plain) == SMALL


def test_settings_have_the_published_defaults():
    key = jax.random.key(3)
    default = feature_maps.from_settings(key)
    assert default == feature_maps.random(
        key, random_features.fully_connected(depth=3, width=1024), networks=30
    )
    convolutional = feature_maps.from_settings(key, {"architecture": "convolutional"})
    assert convolutional.networks == 8
    assert convolutional.architecture == random_features.convolutional(width=256)
    assert feature_maps.from_settings(key, {"kind": "inputs"}) == feature_maps.inputs()
    exact = feature_maps.from_settings(key, {"kind": "ntk", "architecture": SMALL})
    assert exact == feature_maps.exact("ntk", SMALL)


def test_exact_kernels_are_the_limit_of_random_features():
    wide = random_features.fully_connected(depth=1, width=4096)
    params, features = feature_maps.build(
        feature_maps.random(jax.random.key(0), wide, networks=2, readout=True), SHAPE
    )
    found = features(params, images())
    exact = jax.jit(feature_maps.kernel(feature_maps.exact("nngp", wide)))
    np.testing.assert_allclose(
        found @ found.T, exact(images(), images()), rtol=0.1, atol=0.05
    )


KEY = jax.random.key(0)
RECIPE, SETTINGS = feature_maps.from_recipe, feature_maps.from_settings
NETWORKS = feature_maps.as_architecture
REFUSED = {
    "unknown feature map 'wavelet'; known: inputs": (RECIPE, {"kind": "wavelet"}),
    "missing fields .*architecture": (RECIPE, {"kind": "random_features"}),
    r"unknown fields \['widht'\]": (RECIPE, {"kind": "inputs", "widht": 3}),
    "architecture has the fields": (
        RECIPE,
        {"kind": "nngp", "architecture": {"depth": 3}},
    ),
    "unknown feature map 'rbf'; known: inputs": (SETTINGS, KEY, {"kind": "rbf"}),
    r"'ntk' does not .*\['networks'\]": (SETTINGS, KEY, {"kind": "ntk", "networks": 3}),
    "networks must be at least 1, got 0": (SETTINGS, KEY, {"networks": 0}),
    **{
        name: (SETTINGS, KEY, {"kind": "fourier", name: value})
        for name, value in (("frequencies", 0), ("length_scale", -1.0), ("networks", 2))
    },
    "unknown architecture 'transformer'; known": (NETWORKS, "transformer"),
    "'fully_connected': .*'pooling'": (
        NETWORKS,
        {"kind": "fully_connected", "pooling": "none"},
    ),
    r"needs a 'kind' \(fully_connected.*'width'": (NETWORKS, {"width": 64}),
    "use kernel": (feature_maps.build, feature_maps.exact("ntk", SMALL), SHAPE),
    "use build": (feature_maps.kernel, feature_maps.inputs()),
    "'nngp' and 'ntk', got 'rbf'": (feature_maps.exact, "rbf", SMALL),
    "at least 1 sample, got 0": (feature_maps.in_blocks, jnp.dot, 0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_mistakes_are_named(message):
    function, *arguments = REFUSED[message]
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.parametrize("block", [1, 3, 7, 8])
def test_blocks_of_samples_change_nothing(block):
    params, inputs = jax.random.normal(jax.random.key(1), (2, 7, 4))

    def apply(params, inputs):
        return jnp.tanh(inputs @ params.T)

    @jax.jit(static_argnums=0)
    def rows_and_slopes(apply, inputs):
        rows, pull = jax.vjp(lambda x: apply(params, x), inputs)
        return rows, pull(rows)[0]

    found = rows_and_slopes(feature_maps.in_blocks(apply, block), inputs)
    wanted = rows_and_slopes(apply, inputs)
    chex.assert_trees_all_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_fourier_features_are_rebuilt_and_relative_to_the_size_of_inputs():
    made = feature_maps.from_settings(
        jax.random.key(4), {"kind": "fourier", "frequencies": 2048, "length_scale": 0.5}
    )
    params, features = feature_maps.build(made, SHAPE)
    again, _ = feature_maps.build(
        feature_maps.from_recipe(feature_maps.to_recipe(made)), SHAPE
    )
    np.testing.assert_array_equal(params, again)
    x = 0.5 * images(4)
    rows, flat = features(params, x), np.asarray(x).reshape(4, -1)
    squares = np.square(flat[:, None] - flat[None, :]).sum(axis=-1)
    wanted = np.exp(-squares / (2 * 0.25 * flat.shape[1]))
    np.testing.assert_allclose(rows @ rows.T, wanted, atol=0.06)
    assert np.abs(wanted - np.eye(4)).max() > 0.1


@pytest.mark.parametrize("kind", ["inputs", "random_features", "fourier"])
def test_bytes_are_refused(kind):
    apply = feature_maps.application(feature_maps.from_settings(KEY, {"kind": kind}))
    with pytest.raises(ValueError, match="type uint8.*scale or standardise"):
        apply(jnp.ones((3, 36)), jnp.ones((2, *SHAPE), np.uint8))


@pytest.mark.parametrize(
    "description",
    [
        feature_maps.inputs(),
        feature_maps.random(jax.random.key(3), SMALL, networks=2, readout=True),
        feature_maps.random(jax.random.key(3), CONV, networks=2),
        feature_maps.fourier(jax.random.key(4), frequencies=5),
    ],
)
def test_features_are_double_under_x64_and_of_the_same_networks(description):
    single_params, _ = feature_maps.build(description, SHAPE)
    with jax.enable_x64(True):
        params, apply = feature_maps.build(description, SHAPE)
        double = jnp.zeros((5, *SHAPE), jnp.float64)
        # Nothing on the way is float32.
        program = jax.make_jaxpr(apply)(params, double)
        assert "f32" not in str(program)
        assert program.out_avals[0].dtype == jnp.float64
        single_params = jax.tree.map(jnp.float64, single_params)
    chex.assert_trees_all_equal(single_params, params)
