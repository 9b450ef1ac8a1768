"""ConvNets and fully connected networks: sizes, initialisation and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.models import NETWORKS
from ddjax.models.networks import convnet, fully_connected


def parameters(network, shape) -> int:
    found = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(found))


def test_convnet_3_has_the_published_number_of_parameters():
    assert parameters(convnet(outputs=10), (32, 32, 3)) == 320_010


def test_convnet_3_padded_for_28_pixel_gray_images():
    padded = convnet(outputs=10, first_padding=3)
    # 28 + 4 = 32 pixels: only the first convolution differs from the colour network.
    assert parameters(padded, (28, 28, 1)) == 320_010 - 2 * 9 * 128


def test_fully_connected_counts_its_layers():
    assert parameters(fully_connected(outputs=10), (28, 28, 1)) == (
        (784 + 1) * 128 + (128 + 1) * 128 + (128 + 1) * 10
    )
    assert parameters(fully_connected(outputs=3, depth=1), (5,)) == (5 + 1) * 3


@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("convnet", (8, 8, 1), {"depth": 3, "width": 4}),
        ("convnet", (28, 28, 1), {"depth": 3, "width": 4}),
        ("convnet", (224, 224, 3), {"depth": 6, "width": 2}),
        ("convnet", (9, 15, 3), {"depth": 2, "width": 4}),
        ("fully_connected", (8, 8, 1), {"depth": 2, "width": 5}),
        ("fully_connected", (7,), {"depth": 3, "width": 5}),
    ],
)
def test_networks_work_on_all_supported_shapes(name, shape, settings):
    network = NETWORKS[name](outputs=3, **settings)
    inputs = jnp.zeros((2, *shape))
    params = jax.eval_shape(network.init, jax.random.key(1), inputs)
    outputs = jax.eval_shape(network.apply, params, inputs)
    assert outputs.shape == (2, 3)


def test_the_norm_is_per_image_and_channel():
    network = convnet(outputs=2, depth=1, width=3)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    params = jax.jit(network.init)(jax.random.key(1), images)
    apply = jax.jit(network.apply)
    scaled = apply(params, 100.0 * images)
    # An image's outputs do not depend on the other images.
    others = apply(params, images.at[1:].multiply(3.0))
    together = apply(params, images)
    np.testing.assert_allclose(others[:1], together[:1], rtol=1e-4, atol=1e-5)
    # Up to the epsilon and the bias, an image's contrast is normalised away.
    np.testing.assert_allclose(scaled, together, rtol=0.2, atol=0.05)


def test_weights_and_biases_are_uniform_within_one_over_root_fan_in():
    network = fully_connected(outputs=200, depth=2, width=400)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 100)))["params"]
    for layer, fan_in in (("Dense_0", 100), ("Dense_1", 400)):
        for leaf in params[layer].values():
            bound = fan_in**-0.5
            assert float(jnp.abs(leaf).max()) <= bound
            assert float(jnp.std(leaf)) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_images_too_small_for_the_depth_are_refused_with_the_largest_depth():
    network = convnet(outputs=10, depth=4)
    with pytest.raises(ValueError, match="8 x 8 .* depth 4.* largest depth is 3"):
        network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_feature_vectors_are_refused_by_the_convnet():
    with pytest.raises(ValueError, match=r"fully_connected for feature vectors"):
        convnet(outputs=10).init(jax.random.key(0), jnp.zeros((1, 64)))


@pytest.mark.parametrize("factory", [convnet, fully_connected])
def test_bytes_are_refused(factory):
    inputs = jnp.ones((2, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="type uint8.*scale or standardise images"):
        factory(outputs=2, depth=2).init(jax.random.key(0), inputs)


@pytest.mark.parametrize("size", ["outputs", "depth", "width", "first_padding"])
def test_sizes_below_one_are_refused(size):
    with pytest.raises(ValueError, match=f"{size} must be at least 1, got 0"):
        convnet(**{"outputs": 10, size: 0})


@pytest.mark.parametrize(
    ("name", "settings"),
    [("convnet", {}), ("convnet", {"norm": "batch"}), ("fully_connected", {})],
)
def test_networks_are_in_the_precision_of_their_inputs(name, settings):
    """ConvNet.init once refused images in float64."""
    network = NETWORKS[name](outputs=3, depth=2, width=4, **settings)

    def outputs(images):
        variables = network.init(jax.random.key(0), images)
        return variables, network.apply(variables, images)

    with jax.enable_x64(True):
        for dtype in ("float32", "float64"):
            images = jax.ShapeDtypeStruct((2, 8, 8, 1), dtype)
            leaves = jax.tree.leaves(jax.eval_shape(outputs, images))
            assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}
        images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1), jnp.float64)
        if "norm" in settings:
            return
        variables, found = jax.jit(outputs)(images)
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), variables)
    single = jax.jit(network.apply)(narrow, np.asarray(images, np.float32))
    np.testing.assert_allclose(single, found, rtol=1e-4, atol=1e-5)


def _plain_batch_convnet(params, images, statistics=None):
    """One block; by the statistics of the batch, which it returns, or by others."""
    kernel, bias = (np.asarray(params["_Convolution_0"][k]) for k in ("kernel", "bias"))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    hidden = bias + sum(
        padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i, j in np.ndindex(3, 3)
    )
    found = hidden.mean(axis=(0, 1, 2)), hidden.var(axis=(0, 1, 2))
    mean, variance = found if statistics is None else statistics
    scale, shift = (np.asarray(params["_BatchNorm_0"][k]) for k in ("scale", "bias"))
    hidden = (hidden - mean) / np.sqrt(variance + 1e-5) * scale + shift
    hidden = np.maximum(hidden, 0).reshape(-1, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    head = params["Dense_0"]
    outputs = hidden.reshape(len(hidden), -1) @ np.asarray(head["kernel"])
    return outputs + np.asarray(head["bias"]), found


def test_batch_normalisation_and_its_running_statistics():
    network = convnet(outputs=2, depth=1, width=3, norm="batch")
    with jax.enable_x64(True):
        images = 2 + np.random.default_rng(0).normal(size=(5, 8, 8, 1))
        variables = jax.jit(network.init)(jax.random.key(1), images)
        variables["params"]["_BatchNorm_0"]["scale"] *= jnp.array([1.0, 0.5, 2.0])
        params, before = variables["params"], variables["batch_stats"]
        train = jax.jit(
            lambda variables, images: network.apply(
                variables, images, train=True, mutable=["batch_stats"]
            )
        )
        outputs, changed = train(variables, images)
        expected, (mean, variance) = _plain_batch_convnet(params, images)
        np.testing.assert_allclose(outputs, expected, rtol=1e-9)
        unbiased = variance * 320 / 319
        found = changed["batch_stats"]["_BatchNorm_0"]
        np.testing.assert_allclose(found["mean"], 0.1 * mean, rtol=1e-9)
        np.testing.assert_allclose(found["var"], 0.9 + 0.1 * unbiased, rtol=1e-9)
        # Otherwise the running statistics count, and stay as they are.
        apply = jax.jit(network.apply)
        outputs = apply({"params": params, **changed}, images[:2])
        running = 0.1 * mean, 0.9 + 0.1 * unbiased
        expected, _ = _plain_batch_convnet(params, images[:2], running)
        np.testing.assert_allclose(outputs, expected, rtol=1e-9)
    assert jax.tree.map(jnp.shape, before) == {
        "_BatchNorm_0": {"mean": (3,), "var": (3,)}
    }


@pytest.mark.parametrize("name", ["convnet", "fully_connected"])
def test_training_makes_no_difference_without_batch_statistics(name):
    network = NETWORKS[name](outputs=2, depth=2, width=3)
    images = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(1), images)
    assert set(variables) == {"params"}
    one, other = (
        jax.make_jaxpr(lambda v, x, train=train: network.apply(v, x, train=train))(
            variables, images
        )
        for train in (False, True)
    )
    assert str(one) == str(other)


def test_unknown_norms_are_refused():
    with pytest.raises(
        ValueError, match="unknown norm 'layer'; known: instance, batch"
    ):
        convnet(outputs=10, norm="layer")
