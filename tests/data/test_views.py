import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.data.views import VIEWS, check_views, with_views

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


def test_views_are_those_of_numpy():
    rotated = [np.rot90(IMAGES, k, axes=(1, 2)) for k in (1, 2, 3)]
    np.testing.assert_array_equal(
        with_views(jnp.asarray(IMAGES), "rotation"), np.concatenate([IMAGES, *rotated])
    )
    left, right = IMAGES[:, :, :4], IMAGES[:, :, 4:]
    swapped = VIEWS["jigsaw"][0].apply(jnp.asarray(IMAGES))
    np.testing.assert_array_equal(swapped, np.concatenate([right, left], axis=2))


@pytest.mark.parametrize("name", ["rotation", "jigsaw"])
def test_inverses_are_exact(name):
    for view in VIEWS[name]:
        assert view.invert is not None
        back = view.invert(view.apply(jnp.asarray(IMAGES)))
        np.testing.assert_array_equal(back, IMAGES)


def test_crops_are_windows_enlarged():
    images = np.zeros((1, 32, 32, 1), np.float32)
    images[:, 12:, :20] = 1.0
    cropped = [view.apply(jnp.asarray(images)) for view in VIEWS["crop"]]
    # The lower left corner is all ones, the upper right one only where they overlap.
    np.testing.assert_allclose(cropped[2], 1.0)
    assert float(cropped[1].mean()) < float(cropped[0].mean()) < 1.0
    assert all(view.invert is None for view in VIEWS["crop"])


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_views_are_linear_and_keep_shapes(name):
    images = jnp.asarray(IMAGES)
    both, one = with_views(2 * images, name), with_views(images, name)
    assert one.shape == ((1 + len(VIEWS[name])) * 2, 8, 8, 3)
    np.testing.assert_allclose(both, 2 * one, rtol=1e-6)
    assert jax.eval_shape(lambda x: with_views(x, name), images).dtype == jnp.float32


def test_mistakes():
    with pytest.raises(
        ValueError, match="unknown views 'flips'; known: none, rotation"
    ):
        check_views("flips")
    with pytest.raises(ValueError, match="square images, got 8 x 6"):
        check_views("rotation", (8, 6, 3))
    with pytest.raises(ValueError, match="even sizes, got 7 x 8"):
        check_views("jigsaw", (7, 8, 3))
    with pytest.raises(ValueError, match=r"needs images, got inputs of shape \(10,\)"):
        check_views("crop", (10,))
    check_views("none", (10,))
