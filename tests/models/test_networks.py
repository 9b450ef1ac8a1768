"""Networks: parameters, features, initialisation, precision and refusals."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


IMAGENET = ((224, 224, 3), {"outputs": 1000, "size": "imagenet"})
CIFAR = ((32, 32, 3), {"outputs": 10})


@pytest.mark.parametrize(
    ("name", "images", "keywords", "published"),
    [
        ("vgg11", IMAGENET, {"norm": "none"}, 132_863_336),
        ("vgg11", IMAGENET, {}, 132_868_840),
        ("resnet18", IMAGENET, {}, 11_689_512),
        ("alexnet", IMAGENET, {}, 61_100_840),
        ("mobilenetv2", IMAGENET, {}, 3_504_872),
        ("vit_small", IMAGENET, {}, 22_050_664),
        ("vgg11", CIFAR, {}, 9_231_114),
        ("resnet18", CIFAR, {}, 11_173_962),
        ("alexnet", CIFAR, {}, 1_872_202),
        ("convnet", CIFAR, {}, 320_010),
        # 28 + 4 = 32 pixels: the first convolution alone differs from that of colours.
        ("convnet", ((28, 28, 1), {}), {"first_padding": 3}, 320_010 - 2 * 9 * 128),
        ("fully_connected", ((28, 28, 1), {}), {}, 785 * 128 + 129 * 128 + 129 * 10),
        ("fully_connected", ((5,), {}), {"depth": 1}, (5 + 1) * 10),
    ],
)
def test_networks_have_the_published_parameters(name, images, keywords, published):
    shape, more = images
    network = NETWORKS[name](**{"outputs": 10, **more, **keywords})
    found = shapes_of(network, shape)[0]["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(found)) == published


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


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", [*SMALL, "convnet_batch"])
def test_networks_are_in_the_precision_of_their_inputs(name, dtype):
    """ConvNet.init once refused images in float64."""
    network, shape = SMALL[name.removesuffix("_batch")]
    network = network.clone(norm="batch") if name == "convnet_batch" else network
    with jax.enable_x64(dtype == "float64"):
        variables, images = shapes_of(network, shape, dtype)
        outputs, changed = jax.eval_shape(
            lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
            variables,
            images,
        )
    kinds = {leaf.dtype for leaf in jax.tree.leaves((variables["params"], outputs))}
    assert kinds == {jnp.dtype(dtype)}
    # Statistics are at least in float32.
    wide = jnp.dtype("float64" if dtype == "float64" else "float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(changed)} <= {wide}


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
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype("float32")}
    chex.assert_trees_all_equal_dtypes(moved, statistics)
    chex.assert_trees_all_close(moved, statistics, rtol=5e-3)


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

    @jax.jit
    def both(maps):
        squares = (
            lambda maps, f=f: (jnp.sum(f(maps) ** 2), f(maps)) for f in (ours, xla)
        )
        return [jax.value_and_grad(f, has_aux=True)(maps) for f in squares]

    chex.assert_trees_all_close(*both(maps), rtol=1e-6)


def test_networks_are_arguments_of_compiled_functions():
    network = convnet(outputs=None, widths=[4, 8, 16])
    assert hash(network) == hash(network.clone())


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("vgg11", {"width": 0}, "width must be at least 1, got 0"),
        ("resnet18", {"outputs": 0}, "outputs must be at least 1, got 0"),
        ("convnet", {"outputs": 0}, "outputs must be at least 1, got 0"),
        ("convnet", {"depth": 0}, "depth must be at least 1, got 0"),
        ("convnet", {"width": 0}, "width must be at least 1, got 0"),
        ("convnet", {"first_padding": 0}, "first_padding must be at least 1, got 0"),
        ("convnet", {"widths": (4, 8)}, "widths=.*depth 3 needs 3 of them"),
        ("convnet", {"widths": (4, 8, 0)}, "widths=.*depth 3 needs 3 of them"),
        ("convnet", {"widths": ()}, "widths=.*depth 3 needs 3 of them"),
        ("convnet", {"norm": "layer"}, "unknown norm 'layer'.*batch"),
        ("vgg11", {"norm": "layer"}, "unknown norm 'layer'.*none"),
        ("resnet18", {"norm": "none"}, "unknown norm 'none'.*batch"),
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
        ("convnet", {"depth": 4}, (8, 8, 1), "8 x 8 .* depth 4.* largest depth is 3"),
        ("convnet", {}, (64,), "use fully_connected for feature vectors"),
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


@pytest.mark.parametrize("name", ["convnet", "fully_connected", "resnet18"])
def test_bytes_are_refused(name):
    with pytest.raises(ValueError, match="type uint8.*scale or standardise images"):
        shapes_of(SMALL[name][0], (16, 16, 3), "uint8")


@pytest.mark.parametrize("layer", ["Dense", "Convolution", "DepthwiseConvolution"])
def test_weights_are_drawn_by_what_an_output_sees(layer):
    made, shape, sees = {
        "Dense": (fully_connected(outputs=None, depth=2, width=40), (50,), 50),
        "Convolution": (layers.Convolution(60, bias=False), (3, 3, 10), 9 * 10),
        "DepthwiseConvolution": (layers.DepthwiseConvolution(), (3, 3, 400), 9),
    }[layer]
    params = jax.jit(made.init)(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    assert set(params.get("Dense_0", params)) - {"bias"} == {"kernel"}
    bound = sees**-0.5
    for leaf in jax.tree.leaves(params):
        assert float(jnp.abs(leaf).max()) <= bound
        assert float(jnp.std(leaf)) == pytest.approx(bound / 3**0.5, rel=0.2)
