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
    direct = jax.jit(
        lambda params, images: random_features.features(
            params, images, architecture=architecture
        )
    )
    recipe = feature_maps.to_recipe(feature_maps.random(key, architecture, networks=2))
    rebuilt, features = feature_maps.build(feature_maps.from_recipe(recipe), SHAPE)
    chex.assert_trees_all_equal(rebuilt, params)
    np.testing.assert_allclose(
        features(rebuilt, images()), direct(params, images()), rtol=1e-5
    )


def test_readout_counts_the_dense_head():
    key = jax.random.key(3)
    plain, headed = (
        features(params, images())
        for params, features in (
            feature_maps.build(
                feature_maps.random(key, SMALL, networks=2, readout=readout), SHAPE
            )
            for readout in (False, True)
        )
    )
    np.testing.assert_allclose(
        headed @ headed.T,
        SMALL.w_std**2 * (plain @ plain.T) + SMALL.b_std**2,
        rtol=1e-5,
    )


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
    with pytest.raises(ValueError, match="unknown architecture 'transformer'; known"):
        feature_maps.as_architecture("transformer")
    with pytest.raises(ValueError, match="'fully_connected': .*'pooling'"):
        feature_maps.as_architecture({"kind": "fully_connected", "pooling": "none"})


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
    with pytest.raises(ValueError, match=r"'ntk' does not take .*\['networks'\]"):
        feature_maps.from_settings(key, {"kind": "ntk", "networks": 3})
    with pytest.raises(ValueError, match="unknown feature map 'rbf'; known: inputs"):
        feature_maps.from_settings(key, {"kind": "rbf"})


def test_inputs_are_flattened():
    params, features = feature_maps.build(feature_maps.inputs(), SHAPE)
    assert features(params, images()).shape == (5, 36)


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


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"kind": "wavelet"}, "unknown feature map 'wavelet'; known: inputs"),
        ({"kind": "random_features"}, "missing fields .*architecture"),
        ({"kind": "inputs", "widht": 3}, r"unknown fields \['widht'\]"),
        ({"kind": "nngp", "architecture": {"depth": 3}}, "architecture has the fields"),
    ],
)
def test_broken_recipes_are_named(recipe, message):
    with pytest.raises(ValueError, match=message):
        feature_maps.from_recipe(recipe)


def test_kernels_have_no_features_and_features_no_kernel():
    with pytest.raises(ValueError, match="use kernel"):
        feature_maps.build(feature_maps.exact("ntk", SMALL), SHAPE)
    with pytest.raises(ValueError, match="use build"):
        feature_maps.kernel(feature_maps.inputs())
    with pytest.raises(ValueError, match="'nngp' and 'ntk', got 'rbf'"):
        feature_maps.exact("rbf", SMALL)
    with pytest.raises(ValueError, match="networks must be at least 1, got 0"):
        feature_maps.random(jax.random.key(0), SMALL, networks=0)


@pytest.mark.parametrize("block", [1, 3, 7, 8])
def test_blocks_of_samples_change_nothing(block):
    settings = {"architecture": {"kind": "fully_connected", "width": 8}, "networks": 2}
    described = feature_maps.from_settings(jax.random.key(0), settings)
    params, apply = feature_maps.build(described, (4,))
    inputs = jax.random.normal(jax.random.key(1), (7, 4))
    blocked = feature_maps.in_blocks(apply, block)
    np.testing.assert_allclose(
        blocked(params, inputs), apply(params, inputs), rtol=1e-5
    )
    one, two = (
        jax.grad(lambda x, f=f: jnp.sum(f(params, x) ** 2))(inputs)
        for f in (apply, blocked)
    )
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_an_empty_block_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        feature_maps.in_blocks(lambda params, inputs: inputs, 0)


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


@pytest.mark.parametrize("dtype", [np.uint8, bool])
@pytest.mark.parametrize(
    "description",
    [
        feature_maps.inputs(),
        feature_maps.random(jax.random.key(3), SMALL, networks=2),
        feature_maps.fourier(jax.random.key(4), frequencies=5),
    ],
)
def test_bytes_are_refused(description, dtype):
    params, apply = feature_maps.build(description, SHAPE)
    with pytest.raises(ValueError, match=f"type {np.dtype(dtype)}.*scale or standard"):
        apply(params, jnp.ones((2, *SHAPE), dtype))


@pytest.mark.parametrize(
    "settings", [{"frequencies": 0}, {"length_scale": -1.0}, {"networks": 2}]
)
def test_bad_fourier_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        feature_maps.from_settings(jax.random.key(0), {"kind": "fourier", **settings})


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
    inputs = images()
    single_params, apply = feature_maps.build(description, SHAPE)
    single = apply(single_params, inputs)
    with jax.enable_x64(True):
        params, apply = feature_maps.build(description, SHAPE)
        double = jnp.asarray(np.asarray(inputs, np.float64))
        # Nothing on the way is float32.
        assert "f32" not in str(jax.make_jaxpr(apply)(params, double))
        found = apply(params, double)
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(single, found, rtol=1e-4, atol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (single_params, params)), strict=True):
        np.testing.assert_array_equal(np.asarray(one, np.float64), other)


def test_an_architecture_without_its_kind_is_told_so():
    with pytest.raises(ValueError, match=r"needs a 'kind' \(fully_connected.*'width'"):
        feature_maps.as_architecture({"width": 64})
