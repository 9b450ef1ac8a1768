import numpy as np
import pytest

from ddjax.data import preprocess
from ddjax.data.pixels import pixel_blocks, to_pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_come_back_clipped_and_in_colour(channels):
    pixels = np.random.default_rng(0).uniform(size=(9, 4, 4, channels))
    fitted = preprocess.fit(pixels.astype(np.float32), kind="standardize")
    behind = preprocess.apply(fitted, pixels.astype(np.float32))
    found = to_pixels(fitted, behind)
    assert found.shape == (9, 4, 4, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[..., :channels], pixels, atol=1e-6)
    assert np.array_equal(found[..., 0], found[..., 2]) == (channels == 1)
    beyond = to_pixels(fitted, behind * 10)
    assert beyond.min() == 0 and beyond.max() == 1
    blocks = list(pixel_blocks(fitted, behind, rows=4))
    assert [len(each) for each in blocks] == [4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), found)


@pytest.mark.parametrize("shape", [(5, 7), (5, 4, 4, 2)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="are no images"):
        to_pixels(preprocess.identity(), np.zeros(shape))
