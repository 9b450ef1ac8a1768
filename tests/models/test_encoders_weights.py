"""Reading weights: what is accepted, and what is refused by name."""

import functools
import hashlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ddjax.models import encoders
from ddjax.models.encoders import conversion, mobile, vit
from ddjax.models.encoders.images import as_pixels
from ddjax.models.encoders.settings import as_encoder
from tests.goldens.encoder_weights import tensor

SPEC = mobile.MOBILENETV2._replace(
    stem=4, stages=(mobile.Stage(1, 4, 1, 1), mobile.Stage(2, 6, 1, 2)), head=5
)
SHAPES = mobile.shapes(SPEC)


@pytest.fixture
def small(monkeypatch):
    """A registered encoder of a few hundred weights."""
    entry = encoders.ENTRIES["mobilenetv2"]._replace(spec=SPEC, width=5)
    monkeypatch.setitem(encoders.ENTRIES, "small", entry)
    return entry


@pytest.fixture
def arrays():
    return {k: tensor(k, s).astype(np.float32) for k, s in SHAPES.items()}


def write(folder, arrays, name="mobilenetv2_features.safetensors"):
    path = folder / "encoders" / name
    path.parent.mkdir(exist_ok=True)
    save_file(arrays, path)
    return path


@pytest.mark.parametrize("stored", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_stored_dtypes_become_the_one_computed_in(small, arrays, tmp_path, stored):
    arrays = {name: array.astype(stored) for name, array in arrays.items()}
    path = write(tmp_path, arrays)
    encoder = encoders.load("small", directory=tmp_path)
    expected = mobile.prepared(arrays, spec=SPEC)
    assert set(encoder.params) == set(expected)
    for name, array in expected.items():
        assert encoder.params[name].dtype == jnp.float32
        np.testing.assert_array_equal(encoder.params[name], array.astype(np.float32))
    assert encoder.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert encoder.source["file"] == path.name
    assert encoder.source["licence"] == small.terms.licence
    assert encoder.source["repository"] == small.repository


def test_images_of_bytes_are_pixels_by_255():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    found = as_pixels(pixels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, pixels / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((1, 8, 8, 3), 255.0, np.float32), r"255 to 255.*\[0, 1\].*by 255"),
        (np.full((1, 8, 8, 3), -2.0, np.float32), r"from -2 to -2.*\[0, 1\]"),
        (np.full((1, 8, 8, 3), np.nan, np.float32), "are not finite"),
        (np.ones((1, 8, 8, 3), bool), "dtype bool.*uint8 or floats in"),
        (np.ones((1, 8, 8, 3), np.int32), "dtype int32.*uint8 or floats in"),
        (np.ones((1, 3, 8, 8), np.float32), r"\(1, 3, 8, 8\).*channels last"),
        (np.ones((1, 8, 8, 1), np.float32), r"\(1, 8, 8, 1\).*RGB"),
        (np.ones((8, 8, 3), np.float32), r"\(8, 8, 3\).*\(n, h, w, 3\)"),
    ],
)
def test_other_images_are_refused(small, images, message):
    encoder = encoders.random("small", jax.random.key(0))
    with pytest.raises(encoders.EncoderError, match=message) as caught:
        encoder.apply(encoder.params, images)
    assert "\n" not in str(caught.value)
    if "dtype" in message or "shape" in str(caught.value):
        with pytest.raises(encoders.EncoderError, match=message):
            jax.eval_shape(encoder.apply, encoder.params, images)


def test_features_are_those_of_the_normalised_images(small, arrays, tmp_path):
    path = write(tmp_path, arrays)
    encoder = encoders.load("small", weights=path)
    pixels = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    mean, std = (jnp.asarray(x).reshape(1, 1, 1, 3) for x in (small.mean, small.std))
    traces = []

    def traced(params, pixels):
        traces.append(0)
        return encoder.apply(params, pixels)

    compiled = jax.jit(traced)
    features = [compiled(encoder.params, pixels) for _ in range(2)][1]
    apply = jax.jit(functools.partial(mobile.apply, spec=SPEC))
    expected = apply(encoder.params, (pixels - mean) / std)
    assert len(traces) == 1
    assert features.shape == (2, encoder.width)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_single_precision_features(small, arrays, tmp_path):
    write(tmp_path, arrays)
    encoder = encoders.load("small", directory=tmp_path / "encoders", dtype="bfloat16")
    assert {a.dtype for a in encoder.params.values()} == {np.dtype(jnp.bfloat16)}
    shape = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    assert jax.eval_shape(encoder.apply, encoder.params, shape).dtype == jnp.float32


def test_a_missing_file_says_where_to_get_and_put_it(small, tmp_path):
    with pytest.raises(encoders.MissingWeightsError) as error:
        encoders.load("small", directory=tmp_path)
    where = tmp_path / "encoders" / small.file
    for part in (str(where), small.repository, small.original, small.terms.licence):
        assert part in str(error.value)
    assert isinstance(error.value, FileNotFoundError)


def _without(arrays, name):
    return {k: v for k, v in arrays.items() if k != name}


WEIGHT = "features.2.conv.3.weight"
KERNELS = "features.2.conv.3.kernels"
CHANGES = {
    "lacks features.2.conv.3.weight": lambda a: _without(a, WEIGHT),
    "unexpected features.9.weight": lambda a: a | {"features.9.weight": a[WEIGHT]},
    r"features.2.conv.3.weight has shape \(8, 1, 3\), expected \(8, 1, 3, 3\)": (
        lambda a: a | {WEIGHT: a[WEIGHT][..., 0].copy()}
    ),
    f"and {len(SHAPES) - 6} more": lambda a: {WEIGHT: a[WEIGHT]},
    "features.2.conv.3.weight has dtype I32": (
        lambda a: a | {WEIGHT: a[WEIGHT].astype(np.int32)}
    ),
    "features.2.conv.3.weight has numbers that are not finite": (
        lambda a: a | {WEIGHT: np.full_like(a[WEIGHT], np.nan)}
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_weights_are_refused_by_name(small, arrays, tmp_path, message):
    path = write(tmp_path, CHANGES[message](arrays))
    with pytest.raises(encoders.EncoderError, match=message) as error:
        encoders.load("small", directory=tmp_path)
    assert str(path) in str(error.value)


def test_a_classifier_is_left_out(small, arrays, tmp_path):
    head = {"classifier.1.weight": np.ones((3, 5), np.float32)}
    counters = {"features.0.1.num_batches_tracked": np.array(7)}
    write(tmp_path, arrays | head | counters)
    found = encoders.load("small", directory=tmp_path).params
    assert set(found) == set(mobile.prepared(arrays, spec=SPEC))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(small, arrays, tmp_path, keep):
    path = write(tmp_path, arrays)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(encoders.EncoderError, match="not a valid safetensors file"):
        encoders.load("small", directory=tmp_path)


@pytest.mark.parametrize("name", ["vit-b-300ep.pth.tar", "weights.pth", "model.bin"])
def test_pickles_are_not_opened(small, tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(encoders.EncoderError, match="save_file"):
        encoders.load("small", weights=tmp_path / name)


def test_what_is_asked_for_is_checked_first(tmp_path):
    for options, message in (
        ({"name": "mobilnetv2"}, "Did you mean 'mobilenetv2'"),
        ({"name": "resnet50", "pooling": "mean"}, "resnet50 has no option 'pooling'"),
        ({"name": "clip_vit_b16", "pooling": "max"}, "allowed: 'class', 'mean'"),
    ):
        with pytest.raises(encoders.EncoderError, match=message):
            encoders.load(**options, directory=tmp_path)


def test_dtypes_are_checked(small):
    key = jax.random.key(0)
    with pytest.raises(encoders.EncoderError, match="allowed: float32"):
        encoders.random("small", key, dtype="float16")
    if not jax.config.read("jax_enable_x64"):
        with pytest.raises(encoders.EncoderError, match="jax_enable_x64"):
            encoders.random("small", key, dtype="float64")
    with jax.enable_x64(True):
        encoder = encoders.random("small", key, dtype="float64")
    assert {array.dtype for array in encoder.params.values()} == {np.dtype("float64")}


def test_random_weights_say_so_and_carry_a_signal(small):
    first, again, other = (
        encoders.random("small", jax.random.key(seed)) for seed in (0, 0, 1)
    )
    assert first.source["random"] is True and first.source["sha256"] is None
    assert jnp.array_equal(first.params[KERNELS], again.params[KERNELS])
    assert not jnp.array_equal(first.params[KERNELS], other.params[KERNELS])
    pixels = jax.random.uniform(jax.random.key(0), (8, 16, 16, 3))
    spread = jnp.std(jax.jit(first.apply)(first.params, pixels), axis=0)
    assert 1e-3 < jnp.max(spread) < 10


def test_random_weights_lie_in_no_directory(small, tmp_path):
    setting = {"name": "small", "random": 3, "directory": str(tmp_path)}
    drawn = encoders.random("small", jax.random.key(3))
    assert jnp.array_equal(as_encoder(setting).params[KERNELS], drawn.params[KERNELS])


def test_torchvision_nests_what_is_flat_here():
    names = {
        "features.1.conv.0.0.weight": "features.1.conv.0.weight",
        "features.1.conv.0.1.running_mean": "features.1.conv.1.running_mean",
        "features.1.conv.1.weight": "features.1.conv.3.weight",
        "features.1.conv.2.bias": "features.1.conv.4.bias",
        "features.2.conv.0.0.weight": "features.2.conv.0.weight",
        "features.2.conv.0.1.weight": "features.2.conv.1.weight",
        "features.2.conv.1.0.weight": "features.2.conv.3.weight",
        "features.2.conv.1.1.weight": "features.2.conv.4.weight",
        "features.2.conv.2.weight": "features.2.conv.6.weight",
        "features.2.conv.3.weight": "features.2.conv.7.weight",
        "features.0.0.weight": "features.0.0.weight",
    }
    arrays = {name: np.array(place) for place, name in enumerate(names)}
    found = conversion.mobilenetv2(arrays)
    assert found == {names[name]: array for name, array in arrays.items()}
    assert conversion.mobilenetv2(found) == found


VIT = vit.VisionTransformerSpec(
    patch=4, image_size=8, width=4, depth=1, heads=1, hidden=8
)


def _numbered(spec):
    return {
        name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        for name, shape in vit.shapes(spec).items()
    }


def test_openai_names():
    expected = _numbered(VIT._replace(norm_first=True))
    names = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj.weight": "conv1.weight",
    }
    for ours, theirs in {
        "norm_pre.": "ln_pre.",
        "norm.": "ln_post.",
        "blocks.0.norm1.": "transformer.resblocks.0.ln_1.",
        "blocks.0.norm2.": "transformer.resblocks.0.ln_2.",
        "blocks.0.attn.qkv.": "transformer.resblocks.0.attn.in_proj_",
        "blocks.0.attn.proj.": "transformer.resblocks.0.attn.out_proj.",
        "blocks.0.mlp.fc1.": "transformer.resblocks.0.mlp.c_fc.",
        "blocks.0.mlp.fc2.": "transformer.resblocks.0.mlp.c_proj.",
    }.items():
        names |= {f"{ours}{last}": f"{theirs}{last}" for last in ("weight", "bias")}
    theirs = {f"visual.{names[name]}": array for name, array in expected.items()}
    theirs["visual.class_embedding"] = expected["cls_token"].reshape(-1)
    theirs["visual.positional_embedding"] = expected["pos_embed"][0]
    chex.assert_trees_all_equal(conversion.clip(theirs), expected)


def test_older_transformers_names_of_dinov2():
    expected = _numbered(VIT._replace(layer_scale=True))
    parts = zip(("query", "key", "value"), range(3), strict=True)
    prefix = "encoder.layer.0.attention"
    theirs = {
        f"{prefix}.attention.{part}.{last}": expected[f"blocks.0.attn.qkv.{last}"][
            4 * place : 4 * place + 4
        ]
        for part, place in parts
        for last in ("weight", "bias")
    }
    theirs[f"{prefix}.output.dense.weight"] = expected["blocks.0.attn.proj.weight"]
    found = conversion.dinov2(theirs)
    names = ("attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight")
    wanted = {f"blocks.0.{n}": expected[f"blocks.0.{n}"] for n in names}
    chex.assert_trees_all_equal(found, wanted)


def test_a_moco_checkpoint_gives_its_base_encoder(monkeypatch, tmp_path):
    expected = _numbered(VIT)
    entry = encoders.ENTRIES["mocov3_vit_b16"]._replace(spec=VIT, width=4)
    monkeypatch.setitem(encoders.ENTRIES, "small", entry)
    theirs = {f"module.base_encoder.{k}": v for k, v in expected.items()}
    theirs |= {f"module.momentum_encoder.{k}": 0 * v for k, v in expected.items()}
    theirs["module.base_encoder.head.0.weight"] = np.ones((3, 4), np.float32)
    theirs["module.predictor.0.weight"] = np.ones((3, 4), np.float32)
    path = write(tmp_path, theirs)
    found = encoders.load("small", weights=path).params
    chex.assert_trees_all_equal(found, expected)


def test_two_names_for_one_weight_are_refused():
    with pytest.raises(ValueError, match=r"stand for norm\.weight"):
        conversion.eva02({"norm.weight": np.ones(1), "fc_norm.weight": np.ones(1)})
