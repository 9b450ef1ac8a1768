"""The registered encoders: sizes, and the table of them in the docs."""

import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.models import encoders
from ddjax.models.encoders import vit

PAGE = Path(__file__).parent.parent.parent / "docs" / "encoders.md"

# Of the trained weights, without classifiers, projections, mask tokens and running
# statistics.
PARAMETERS = {
    "mobilenetv2": 2_223_872,
    "efficientnet_lite0": 3_371_008,
    "resnet50": 23_508_032,
    "clip_vit_b16": 85_799_424,
    "dinov2_vit_b14": 86_579_712,
    "dinov2_registers_vit_b14": 86_582_016,
    "eva02_vit_b14": 85_758_720,
    "mocov3_vit_b16": 85_798_656,
}


@pytest.mark.parametrize("name", encoders.ENTRIES)
def test_number_of_parameters(name):
    entry = encoders.ENTRIES[name]
    shapes = entry.shapes(entry.spec)
    trained = [s for key, s in shapes.items() if ".running_" not in key]
    assert sum(math.prod(shape) for shape in trained) == PARAMETERS[name]


@pytest.mark.parametrize("name", encoders.ENTRIES)
def test_shape_of_the_features(name):
    entry = encoders.ENTRIES[name]
    arrays = {key: np.zeros(s) for key, s in entry.shapes(entry.spec).items()}
    params = {
        key: jax.ShapeDtypeStruct(array.shape, jnp.float32)
        for key, array in entry.prepare(arrays, spec=entry.spec).items()
    }
    side = 4 * getattr(entry.spec, "patch", 16)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    features = jax.eval_shape(
        lambda params, images: entry.apply(params, images, spec=entry.spec),
        params,
        images,
    )
    assert features.shape == (2, entry.width)


def test_files_do_not_collide():
    files = [entry.file for entry in encoders.ENTRIES.values()]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("name", encoders.ENTRIES)
def test_the_readme_lists_it(name):
    entry = encoders.ENTRIES[name]
    size, width = entry.input_size, entry.width
    row = (
        f"| `{name}` | {size} | {width} | {entry.repository}: `{entry.original}` | "
        f"{entry.terms.licence} | `{entry.file}` |"
    )
    page = PAGE.read_text(encoding="utf-8")
    assert row in page
    assert entry.terms.licence and entry.terms.page
    # Addresses are links there.
    plain = page.replace("<http", "http").replace(">", "")
    assert f"| `{name}` | {entry.terms.in_words} |" in plain


def test_images_that_no_patch_divides_are_refused():
    spec = vit.VisionTransformerSpec(
        patch=4, image_size=8, width=4, depth=1, heads=1, hidden=8
    )
    params = {key: jnp.zeros(shape) for key, shape in vit.shapes(spec).items()}
    with pytest.raises(encoders.EncoderError, match="9 x 8 pixels.*patch, 4"):
        vit.apply(params, jnp.zeros((1, 9, 8, 3)), spec=spec)
    with pytest.raises(encoders.EncoderError, match="allowed: class, mean"):
        vit.apply(params, jnp.zeros((1, 8, 8, 3)), spec=spec, pooling="max")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0"])
def test_real_weights_in_both_precisions(name):
    single, double = (_features_and_gradients(name, d) for d in ("float32", "float64"))
    for near, exact, tolerance in zip(single, double, (1e-5, 2e-2), strict=True):
        # Of a million ReLU6 some stand nearer to a kink than float32 can tell, and
        # each that falls on the other side changes the gradient by a part.
        assert np.linalg.norm(near - exact) <= tolerance * np.linalg.norm(exact)


def _features_and_gradients(name, dtype):
    random = np.random.default_rng(0)
    pixels = random.uniform(size=(2, 64, 64, 3)).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        encoder = encoders.load(
            name, directory=os.environ["DDJAX_DATA_DIR"], dtype=dtype
        )
        cotangents = random.standard_normal((2, encoder.width)).astype(dtype)

        @jax.jit
        def both(params, pixels, cotangents):
            features, pull = jax.vjp(lambda x: encoder.apply(params, x), pixels)
            return features, pull(cotangents)[0]

        found = both(encoder.params, jnp.asarray(pixels), jnp.asarray(cotangents))
        return [np.asarray(array) for array in found]
