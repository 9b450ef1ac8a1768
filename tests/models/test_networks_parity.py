"""Small networks against PyTorch's modules, through stored numbers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.models.encoders.mobile import MOBILENETV2
from ddjax.models.networks import (
    MobileNetV2,
    ResNet,
    alexnet,
    convnet,
    fully_connected,
    vgg11,
    vit_small,
)
from tests.goldens.encoder_weights import cotangents, images, tensor
from tests.slow import slow

GOLDENS = np.load(Path(__file__).parent.parent / "goldens" / "networks.npz")
COUNT, OUTPUTS = 3, 2

BLOCKS = {"outputs": OUTPUTS, "depth": 2, "widths": (4, 6)}
NARROW = {"outputs": OUTPUTS, "width": 2}


def resnet(size, norm, depths):
    """With fewer blocks than ResNet-18: that it has eight, its parameters tell."""
    return ResNet(OUTPUTS, size, 2, norm, depths)


def mobilenetv2(size, repeats):
    """With the first stages alone, which saves most of the compiling."""
    pairs = zip(MOBILENETV2.stages, repeats, strict=False)
    stages = tuple(stage._replace(repeats=count) for stage, count in pairs)
    return MobileNetV2(OUTPUTS, size, 4, stages)


CASES = {
    # name: (the network, height and width of the images)
    "convnet_instance": (convnet(**BLOCKS), (8, 10)),
    "convnet_batch": (convnet(**BLOCKS, norm="batch"), (9, 8)),
    "fully_connected": (fully_connected(outputs=OUTPUTS, width=5), (4, 3)),
    "vgg11_batch": (vgg11(**NARROW), (32, 33)),
    "vgg11_imagenet": (vgg11(**NARROW, size="imagenet", norm="none"), (288, 32)),
    "alexnet": (alexnet(**NARROW), (16, 8)),
    "alexnet_imagenet": (alexnet(**NARROW, size="imagenet"), (70, 256)),
    "resnet": (resnet("small", "batch", (2, 1)), (16, 11)),
    "resnet_instance": (resnet("small", "instance", (1, 1)), (8, 10)),
    "resnet_imagenet": (resnet("imagenet", "batch", (1,)), (40, 33)),
    "mobilenetv2": (mobilenetv2("small", (1, 1, 1)), (8, 11)),
    "mobilenetv2_imagenet": (mobilenetv2("imagenet", (1, 2)), (17, 16)),
    "vit_small": (vit_small(outputs=OUTPUTS, width=12, depth=2, heads=3), (8, 8)),
}

TORCH = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def named(path):
    """A tensor's name in PyTorch."""
    *modules, last = (each.key for each in path[1:])
    return ".".join([*modules, TORCH.get(last, last)])


def transposed(value):
    """A kernel between the two layouts, in either direction."""
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}
    return value.transpose(axes[value.ndim]) if value.ndim in axes else value


def in_torch(path, value):
    return transposed(value) if path[-1].key == "kernel" else value


def stored(path, leaf):
    """The numbers that stand under a name, as the network has them."""
    if path[-1].key != "kernel":
        return tensor(named(path), leaf.shape)
    shape = in_torch(path, np.empty(leaf.shape)).shape
    axes = {2: (1, 0), 4: (2, 3, 1, 0)}[len(shape)]
    return tensor(named(path), shape).transpose(axes)


def both(network):
    """The compiled outputs in evaluation, in training, and gradients in training."""

    def training(params, statistics, pixels):
        variables = {"params": params, **statistics}
        return network.apply(variables, pixels, train=True, mutable=["batch_stats"])

    # Half the time of a test is LLVM's; what it compiles here runs once.
    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def compute(variables, pixels, cotangents):
        params, statistics = variables["params"], dict(variables)
        del statistics["params"]
        trained, pull, changed = jax.vjp(
            lambda params, pixels: training(params, statistics, pixels),
            params,
            pixels,
            has_aux=True,
        )
        return network.apply(variables, pixels), trained, changed, pull(cotangents)

    return compute


def agree(found, expected):
    error = np.abs(np.asarray(found) - expected).max()
    assert error <= 1e-10 * np.abs(expected).max()


def agree_by_name(found, case, kind):
    """Norms, and products with a direction, of every tensor."""
    names = [str(name) for name in GOLDENS[f"{case}/{kind}_names"]]
    assert sorted(found) == names
    expected = GOLDENS[f"{case}/{kind}"]
    for name, (norm, product) in zip(names, expected, strict=True):
        value = np.asarray(found[name])
        # A bias in front of a norm has no gradient but for rounding.
        scale = 1e-9 * norm + 1e-13 * expected[:, 0].max()
        assert abs(np.linalg.norm(value) - norm) <= scale, name
        direction = tensor(f"to.{name}", value.shape)
        error = abs(np.sum(value * direction) - product)
        assert error <= scale * np.linalg.norm(direction), name


# What another case has in other company: layers, norms, the ends of `imagenet`.
AGAIN = ("vgg11_imagenet", "resnet_instance", "mobilenetv2")


@pytest.mark.parametrize(
    "case", [slow(case) if case in AGAIN else case for case in CASES]
)
def test_outputs_statistics_and_gradients_are_those_of_pytorch(case):
    network, size = CASES[case]
    with jax.enable_x64(True):
        pixels = jnp.asarray(images(COUNT, *size))
        shapes = jax.eval_shape(network.init, jax.random.key(0), pixels)
        variables = jax.tree_util.tree_map_with_path(stored, shapes)
        given = variables, pixels, jnp.asarray(cotangents(COUNT, OUTPUTS))
        evaluated, trained, changed, (of_params, of_images) = both(network)(*given)
    agree(evaluated, GOLDENS[f"{case}/evaluated"])
    agree(trained, GOLDENS[f"{case}/trained"])
    statistics, gradients = (
        {named(path): in_torch(path, np.asarray(value)) for path, value in leaves}
        for leaves in (
            jax.tree_util.tree_leaves_with_path(changed),
            jax.tree_util.tree_leaves_with_path({"params": of_params}),
        )
    )
    agree_by_name(statistics, case, "statistics")
    agree_by_name({**gradients, "images": of_images}, case, "gradients")


def test_every_golden_is_compared():
    assert {name.split("/")[0] for name in GOLDENS.files} == set(CASES)
