"""The families of image networks: parameters, features, precision and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddjax.models.encoders.mobile import MOBILENETV2
from ddjax.models.networks import (
    NETWORKS,
    MobileNetV2,
    ResNet,
    alexnet,
    convnet,
    fully_connected,
    layers,
    vgg11,
    vit_small,
)

# Small networks of each family, and images that they take.
SMALL = {
    "convnet": (convnet(outputs=4, depth=2, width=3), (8, 8, 3)),
    "fully_connected": (fully_connected(outputs=4, depth=2, width=3), (5,)),
    "vgg11": (vgg11(outputs=4, width=1), (32, 32, 3)),
    "resnet18": (ResNet(4, width=2, depths=(1, 1)), (8, 8, 3)),
    "alexnet": (alexnet(outputs=4, width=1), (8, 8, 3)),
    "mobilenetv2": (MobileNetV2(4, width=4, stages=MOBILENETV2.stages[:2]), (8, 8, 3)),
    "vit_small": (vit_small(outputs=4, width=6, depth=1, heads=2), (8, 8, 3)),
}
FAMILIES = ("vgg11", "resnet18", "alexnet", "mobilenetv2", "vit_small")


def shapes_of(network, shape, dtype="float32"):
    images = jax.ShapeDtypeStruct((2, *shape), jnp.dtype(dtype))
    return jax.eval_shape(network.init, jax.random.key(0), images), images


def parameters(name, side, **keywords) -> int:
    found, _ = shapes_of(NETWORKS[name](**keywords), (side, side, 3))
    return sum(leaf.size for leaf in jax.tree.leaves(found["params"]))


@pytest.mark.parametrize(
    ("name", "keywords", "published"),
    [
        ("vgg11", {"norm": "none"}, 132_863_336),
        ("vgg11", {}, 132_868_840),
        ("resnet18", {}, 11_689_512),
        ("alexnet", {}, 61_100_840),
        ("mobilenetv2", {}, 3_504_872),
        ("vit_small", {}, 22_050_664),
    ],
)
def test_networks_for_imagenet_have_the_published_parameters(name, keywords, published):
    found = parameters(name, 224, outputs=1000, size="imagenet", **keywords)
    assert found == published


@pytest.mark.parametrize(
    ("name", "features", "weights"),
    [
        ("vgg11", 512, 9_231_114),
        ("resnet18", 512, 11_173_962),
        ("mobilenetv2", 1280, 2_236_682),
        ("alexnet", 192 * 4 * 4, 1_872_202),
    ],
)
def test_networks_for_small_images_and_their_features(name, features, weights):
    found = shapes_of(NETWORKS[name](outputs=10), (32, 32, 3))[0]["params"]
    assert found["head"]["kernel"].shape == (features, 10)
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == weights


# VGG and MobileNetV2 end as ResNet does, and take longer to compile.
@pytest.mark.parametrize(
    "name", ["convnet", "fully_connected", "resnet18", "alexnet", "vit_small"]
)
def test_without_its_head_a_network_returns_what_the_head_sees(name):
    network, shape = SMALL[name]
    shapes, images = shapes_of(network, shape)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda each: random.uniform(size=each.shape), shapes)
    variables = jax.tree.map(lambda each: np.asarray(each, np.float32), variables)
    pixels = random.uniform(size=images.shape).astype(np.float32)

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(variables, pixels):
        features = network.clone(outputs=None).apply(variables, pixels)
        return features, network.apply(variables, pixels)

    features, outputs = (np.asarray(each) for each in both(variables, pixels))
    head = variables["params"]["head" if name in FAMILIES else _last_dense(variables)]
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-3)
    # A network without a head needs no weights of one.
    bare, _ = shapes_of(network.clone(outputs=None), shape)
    assert set(shapes["params"]) - set(bare["params"]) == (
        {"head"} if name in FAMILIES else {_last_dense(variables)}
    )


def _last_dense(variables):
    return sorted(name for name in variables["params"] if name.startswith("Dense"))[-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_in_the_precision_of_their_inputs(name):
    network, shape = SMALL[name]
    with jax.enable_x64(True):
        variables, images = shapes_of(network, shape, "float64")
        found = jax.eval_shape(
            lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
            variables,
            images,
        )
        leaves = jax.tree.leaves((variables, found))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float64")}


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_with_statistics_in_float32(name):
    network, shape = SMALL[name]
    variables, images = shapes_of(network, shape, "bfloat16")
    outputs, changed = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
        variables,
        images,
    )
    assert outputs.dtype == jnp.bfloat16
    assert {each.dtype for each in jax.tree.leaves(variables["params"])} == {
        jnp.dtype("bfloat16")
    }
    assert {each.dtype for each in jax.tree.leaves(changed)} <= {jnp.dtype("float32")}


def test_batch_normalisation_in_bfloat16_is_near_that_in_float32():
    norm = layers.BatchNorm()
    rows = 5 + jax.random.normal(jax.random.key(0), (300, 2))
    variables = norm.init(jax.random.key(1), rows, False)
    apply = jax.jit(lambda v, x: norm.apply(v, x, True, mutable=["batch_stats"]))
    wide, statistics = apply(variables, rows)
    half = {
        "params": jax.tree.map(lambda x: x.astype("bfloat16"), variables["params"]),
        "batch_stats": variables["batch_stats"],
    }
    narrow, moved = apply(half, rows.astype(jnp.bfloat16))
    np.testing.assert_allclose(wide.mean(axis=0), np.zeros(2), atol=1e-5)
    np.testing.assert_allclose(narrow.astype(jnp.float32), wide, atol=0.05)
    for one, other in zip(
        jax.tree.leaves(moved), jax.tree.leaves(statistics), strict=True
    ):
        assert one.dtype == other.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=5e-3)


@settings(max_examples=8)
@given(
    height=st.integers(1, 9), width=st.integers(1, 9), size=st.sampled_from([2, 3, 7])
)
def test_adaptive_pooling_takes_means_of_parts_that_cover_the_map(height, width, size):
    maps = np.random.default_rng(height).normal(size=(2, height, width, 1))
    maps = maps.astype(np.float32)
    found = np.asarray(layers.adaptive_average_pool(jnp.asarray(maps), size))
    for i, j in np.ndindex(size, size):
        rows = slice(int(np.floor(i * height / size)), -int(-(i + 1) * height // size))
        columns = slice(int(np.floor(j * width / size)), -int(-(j + 1) * width // size))
        mean = maps[:, rows, columns].mean(axis=(1, 2))
        np.testing.assert_allclose(found[:, i, j], mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_max_pooling_and_its_gradient_are_those_of_xla(window, stride, padding):
    maps = jax.random.uniform(jax.random.key(0), (2, 7, 8, 3))

    def xla(maps):
        lengths, strides = (1, window, window, 1), (1, stride, stride, 1)
        margins = ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0))
        return jax.lax.reduce_window(
            maps, -jnp.inf, jax.lax.max, lengths, strides, margins
        )

    def ours(maps):
        return layers.max_pool(maps, window, stride, padding)

    for one, other in ((ours, xla), *(_gradients(ours, xla),)):
        np.testing.assert_allclose(jax.jit(one)(maps), jax.jit(other)(maps), rtol=1e-6)


def _gradients(*functions):
    return [
        jax.grad(lambda maps, apply=apply: jnp.sum(jnp.square(apply(maps))))
        for apply in functions
    ]


@pytest.mark.parametrize("side", [1, 2, 4])
def test_convolutions_of_maps_smaller_than_the_kernel(side):
    layer = layers.Convolution(4, kernel=5)
    images = jax.random.normal(jax.random.key(0), (2, side, side, 3))
    variables = jax.jit(layer.init)(jax.random.key(1), images)
    params = variables["params"]
    expected = jax.lax.conv_general_dilated(
        images,
        params["kernel"],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = expected + params["bias"].reshape(1, 1, 1, -1)
    found = jax.jit(layer.apply)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_convnet_of_three_widths():
    network = NETWORKS["convnet"](outputs=None, widths=[4, 8, 16], norm="batch")
    variables, images = shapes_of(network, (16, 16, 3))
    widths = [
        variables["params"][f"_Convolution_{block}"]["kernel"].shape[-1]
        for block in range(3)
    ]
    assert widths == [4, 8, 16]
    features = jax.eval_shape(network.apply, variables, images)
    assert features.shape == (2, 2 * 2 * 16)
    # Networks are arguments of compiled functions: told apart by what they are.
    assert hash(network) == hash(network.clone())


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 0), ()])
def test_widths_that_do_not_go_with_the_depth_are_refused(widths):
    with pytest.raises(ValueError, match="widths=.*depth 3 needs 3 of them"):
        NETWORKS["convnet"](outputs=2, widths=widths)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("vgg11", {"width": 0}, "width must be at least 1, got 0"),
        ("resnet18", {"outputs": 0}, "outputs must be at least 1, got 0"),
        ("vgg11", {"norm": "layer"}, "norm 'layer'; known: instance, batch, none"),
        ("resnet18", {"norm": "none"}, "norm 'none'; known: instance, batch"),
        ("mobilenetv2", {"width": 6}, "width must be a multiple of 4, got 6"),
        ("vit_small", {"width": 10}, "width 10 must be a multiple of heads, 6"),
        *((each, {"size": "large"}, "size 'large'; known: small") for each in FAMILIES),
    ],
)
def test_settings_that_are_refused(name, keywords, message):
    with pytest.raises(ValueError, match=message):
        NETWORKS[name](**{"outputs": 2, **keywords})


@pytest.mark.parametrize(
    ("name", "keywords", "shape", "message"),
    [
        ("vgg11", {}, (28, 28, 1), "28 x 28 are too small .* at least 32"),
        ("resnet18", {}, (4, 9, 3), "4 x 9 are too small .* at least 8"),
        ("resnet18", {"norm": "instance"}, (8, 8, 3), "1 x 1 pixels leaves nothing"),
        ("alexnet", {"size": "imagenet"}, (32, 32, 3), "32 x 32 .* at least 63"),
        ("alexnet", {}, (64,), "use fully_connected for feature vectors"),
        ("mobilenetv2", {"width": 4}, (7, 7, 3), "7 x 7 are too small .* at least 8"),
        ("vit_small", {}, (8, 12, 3), "square .* its patch, 4; got 8 x 12 x 3"),
        ("vit_small", {}, (10, 10, 3), "its patch, 4; got 10 x 10 x 3"),
        ("vit_small", {}, (8, 8, 1), "3 channels .* got 8 x 8 x 1"),
    ],
)
def test_images_that_are_refused(name, keywords, shape, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(NETWORKS[name](outputs=2, **keywords), shape)


@pytest.mark.parametrize("layer", ["Convolution", "DepthwiseConvolution"])
def test_weights_are_drawn_by_what_an_output_sees(layer):
    made, channels, sees = {
        "Convolution": (layers.Convolution(200, bias=False), 20, 9 * 20),
        "DepthwiseConvolution": (layers.DepthwiseConvolution(), 400, 9),
    }[layer]
    params = jax.jit(made.init)(jax.random.key(0), jnp.zeros((1, 3, 3, channels)))[
        "params"
    ]
    assert set(params) == {"kernel"}
    bound = sees**-0.5
    assert float(jnp.abs(params["kernel"]).max()) <= bound
    assert float(jnp.std(params["kernel"])) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_vgg_for_imagenet_takes_other_sizes_of_images():
    network = vgg11(outputs=2, size="imagenet", width=1)
    for one, other in (((224, 224, 3), (64, 96, 3)), ((224, 224, 1), (32, 32, 1))):
        assert jax.tree.map(jnp.shape, shapes_of(network, one)[0]) == jax.tree.map(
            jnp.shape, shapes_of(network, other)[0]
        )
