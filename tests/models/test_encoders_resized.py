import jax
import numpy as np
import pytest

from ddjax.models.encoders.base import EncoderError
from ddjax.models.encoders.resized import resized
from tests.methods.encoders import small


def test_images_of_any_size_are_brought_to_one():
    encoder = small()
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    found = resized(encoder, 8).apply(encoder.params, images)
    # Antialiased: half the size is a mean with the weights 1, 3, 3, 1 of each axis.
    shrunk = jax.image.resize(images, (2, 8, 8, 3), "linear")
    np.testing.assert_allclose(found, encoder.apply(encoder.params, shrunk), rtol=1e-6)
    same = resized(encoder, 8).apply(encoder.params, np.asarray(shrunk))
    np.testing.assert_allclose(same, found, rtol=1e-5)


def test_it_is_another_encoder():
    encoder = small()
    assert resized(encoder, None) is encoder
    assert resized(encoder, 8).setting != encoder.setting
    assert resized(encoder, 8).source["resized_to"] == 8
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        resized(encoder, 0)
    with pytest.raises(EncoderError, match="expected uint8 or floats"):
        images = np.zeros((1, 8, 8, 3), np.int32)
        resized(encoder, 8).apply(encoder.params, images)
