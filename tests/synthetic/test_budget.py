"""Tests of the storage budget, decoding and parameterisations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic
from ddjax.data import preprocess
from tests.synthetic.problems import distilled_set, natural_images


def test_pixels_cost_what_they_show():
    distilled = distilled_set(classes=3, each=2, shape=(4, 5, 3))
    assert synthetic.floats(distilled) == 6 * 4 * 5 * 3
    assert synthetic.target_floats(distilled) == 6 * 3
    assert synthetic.images_equivalent(distilled) == 6.0


def test_a_parameterization_that_stores_less():
    def decode(stored):
        outer = stored["rows"][:, :, None] * stored["columns"][:, None, :]
        return outer[..., None]

    outer = synthetic.pixels()._replace(decode=decode)
    stored = {
        "rows": np.ones((5, 8), np.float32),
        "columns": jnp.ones((5, 8), jnp.float32),
    }
    distilled = distilled_set()._replace(stored=stored, parameterization=outer)
    assert synthetic.floats(distilled) == 80
    assert synthetic.images_equivalent(distilled) == 80 / 64


@pytest.mark.parametrize("kind", ["none", "standardize", "zca"])
def test_natural_inputs_undo_the_preprocessing(kind):
    distilled = distilled_set(kind=kind, seed=3)
    expected = natural_images(6, (4, 4, 3), seed=3)
    np.testing.assert_allclose(synthetic.natural_inputs(distilled), expected, atol=1e-5)
    decoded = synthetic.decoded_inputs(distilled)
    assert isinstance(decoded, jax.Array)
    again = preprocess.apply(distilled.preprocessing, np.asarray(expected))
    np.testing.assert_allclose(decoded, again, atol=1e-5)


def test_pixels_are_the_identity():
    pixels = synthetic.make("pixels")
    inputs = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pixels.decode(pixels.init(inputs)), inputs)
    assert (pixels.name, pixels.settings) == ("pixels", {})


def test_unknown_parameterizations_are_refused():
    with pytest.raises(
        ValueError, match="unknown parameterization 'x'; known: .*pixels"
    ):
        synthetic.make("x")
