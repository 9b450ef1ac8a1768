"""Small encoders against timm, transformers and others, through stored numbers."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.models.encoders import conversion, mobile, resnet, vit
from tests.goldens.encoder_weights import cotangents, images, tensor
from tests.slow import slow

GOLDENS = np.load(Path(__file__).parent.parent / "goldens" / "encoders.npz")
SHAPES = json.loads(str(GOLDENS["shapes"]))

SMALL = vit.VisionTransformerSpec(
    patch=4, image_size=12, width=16, depth=2, heads=2, hidden=64
)
CLIP = SMALL._replace(epsilon=1e-5, activation="quick_gelu", norm_first=True)
DINOV2 = SMALL._replace(layer_scale=True)
REGISTERS = DINOV2._replace(registers=2, class_position=False)
EVA02 = SMALL._replace(hidden=42, activation="swiglu", rotary=True)
RESNET = resnet.ResNetSpec(stem=64, depths=(1, 2, 1, 1), widths=(4, 6, 8, 10))
MOBILENETV2 = mobile.MOBILENETV2._replace(
    stem=8,
    stages=(mobile.Stage(1, 8, 1, 1), mobile.Stage(3, 12, 2, 2)),
    head=20,
)
EFFICIENTNET = mobile.EFFICIENTNET_LITE0._replace(
    stages=(
        mobile.Stage(1, 8, 1, 1),
        mobile.Stage(2, 8, 2, 2),
        mobile.Stage(3, 16, 2, 2, 5),
    ),
)

UNUSED = ("mask_token", "_fc.weight", "_fc.bias")

# name: (module, spec, conversion, options, height and width)
CASES = {
    "clip": (vit, CLIP, conversion.clip, {}, (12, 12)),
    "clip_other_size": (vit, CLIP, conversion.clip, {}, (8, 20)),
    "dinov2": (vit, DINOV2, conversion.dinov2, {}, (12, 12)),
    "dinov2_other_size": (vit, DINOV2, conversion.dinov2, {}, (16, 8)),
    "dinov2_registers": (vit, REGISTERS, conversion.dinov2, {}, (16, 12)),
    "dinov2_mean": (vit, REGISTERS, conversion.eva02, {"pooling": "mean"}, (12, 12)),
    "eva02": (vit, EVA02, conversion.eva02, {"pooling": "mean"}, (12, 12)),
    "eva02_other_size": (vit, EVA02, conversion.eva02, {"pooling": "mean"}, (8, 16)),
    "eva02_class": (vit, EVA02, conversion.eva02, {}, (12, 12)),
    "mocov3": (vit, SMALL, conversion.mocov3, {}, (12, 12)),
    "transformers_clip": (vit, CLIP, conversion.clip, {}, (12, 12)),
    "transformers_dinov2": (vit, DINOV2, conversion.dinov2, {}, (12, 12)),
    "transformers_dinov2_registers": (vit, REGISTERS, conversion.dinov2, {}, (12, 12)),
    "resnet": (resnet, RESNET, conversion.unchanged, {}, (20, 17)),
    "mobilenetv2": (mobile, MOBILENETV2, conversion.mobilenetv2, {}, (17, 12)),
    "efficientnet_lite0": (mobile, EFFICIENTNET, conversion.unchanged, {}, (32, 32)),
}


def stored(name):
    """The weights of a case as its library names them."""
    return {key: tensor(key, shape) for key, shape in SHAPES[name].items()}


@functools.cache
def program(module, spec, **options):
    # Half the time of a test is LLVM's; what it compiles here runs once or twice.
    @jax.jit(compiler_options={"xla_backend_optimization_level": 0})
    def both(params, pixels, cotangents):
        apply = functools.partial(module.apply, params, spec=spec, **options)
        features, pull = jax.vjp(apply, pixels)
        return features, pull(cotangents)[0]

    return both


def ours(name, dtype, **options):
    """Features, and the gradient of their product with the cotangents."""
    module, spec, convert, defaults, size = CASES[name]
    arrays = convert(stored(name))
    shapes = module.shapes(spec)
    arrays = {key: arrays[key] for key in arrays if key not in UNUSED}
    assert {key: array.shape for key, array in arrays.items()} == shapes
    if module is not vit:
        arrays = module.prepared(arrays, spec=spec)
    params = {key: jnp.asarray(array.astype(dtype)) for key, array in arrays.items()}
    both = program(module, spec, **(defaults | options))
    pixels = jnp.asarray(images(2, *size).astype(dtype))
    width = GOLDENS[f"{name}/features"].shape[1]
    return both(params, pixels, jnp.asarray(cotangents(2, width).astype(dtype)))


def agree(found, name, tolerance):
    for value, kind in zip(found, ("features", "gradients"), strict=True):
        golden = GOLDENS[f"{name}/{kind}"]
        error = np.abs(np.asarray(value, np.float64) - golden).max()
        assert error <= tolerance * np.abs(golden).max(), (kind, error)


# One for all: in float64 every one agrees to 1e-10.
def test_float32():
    agree(ours("clip", "float32"), "clip", 1e-4)


# What another case has in other company: another size, the pooling of another.
AGAIN = ("clip_other_size", "dinov2_mean", "dinov2_other_size", "eva02_class")


@pytest.mark.parametrize(
    "name", [slow(name) if name in AGAIN else name for name in CASES]
)
def test_float64(name):
    with jax.enable_x64(True):
        agree(ours(name, "float64"), name, 1e-10)


@pytest.mark.parametrize("options", [{"rematerialize": True}, {"scan": True}])
def test_ways_to_compute_the_same(options):
    with jax.enable_x64(True):
        agree(ours("eva02", "float64", **options), "eva02", 1e-10)


def test_bfloat16_is_near():
    agree(ours("clip", jnp.bfloat16), "clip", 0.15)


def test_every_golden_is_compared():
    names = {name.split("/")[0] for name in GOLDENS.files} - {"shapes"}
    assert names == set(CASES) == set(SHAPES)
