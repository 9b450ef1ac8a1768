import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ddjax.data.augment import (
    DSA_OPERATIONS,
    dsa,
    make,
    random_flip,
    random_noise,
    random_resized_crop,
    sample_bilinear,
)

IMAGES = jax.random.normal(jax.random.key(0), (6, 8, 10, 3), jnp.float32)

STATIC = ("siamese", "strategy", "flip", "scale", "rotate", "crop", "cutout")
augment = jax.jit(dsa, static_argnames=STATIC)


@pytest.fixture(scope="module")
def outcomes():
    """Every operation on several batches, compiled together."""
    twins = jnp.concatenate([IMAGES[:1]] * 6)

    def of_one(operation):
        def run(images, siamese):
            return dsa(
                jax.random.key(3), images, siamese=siamese, strategy=operation, flip=0.6
            )

        return {
            "together": run(IMAGES, True),
            "alone": run(IMAGES[2:4], True),
            "same": run(twins, True),
            "different": run(twins, False),
            "gradient": jax.grad(lambda x: (run(x, False) ** 2).sum())(IMAGES),
        }

    return jax.jit(lambda: {name: of_one(name) for name in DSA_OPERATIONS})()


@pytest.mark.parametrize("operation", DSA_OPERATIONS)
def test_siamese_batches_get_the_same_augmentation(operation, outcomes):
    out = outcomes[operation]
    np.testing.assert_allclose(out["together"][2:4], out["alone"], atol=1e-6)
    assert not np.allclose(out["together"], IMAGES, atol=1e-3)
    assert (np.ptp(out["same"], axis=0) < 1e-6).all()
    assert np.ptp(out["different"], axis=0).max() > 1e-2


@pytest.mark.parametrize("operation", DSA_OPERATIONS)
def test_gradients_reach_the_pixels(operation, outcomes):
    gradient = outcomes[operation]["gradient"]
    assert bool(jnp.isfinite(gradient).all()) and float(jnp.abs(gradient).max()) > 0


def test_one_operation_is_drawn_from_the_strategy():
    singles = {}
    for key in jax.random.split(jax.random.key(1), 40):
        out = augment(key, IMAGES, siamese=True, strategy="flip_cutout", flip=1.0)
        flipped = np.allclose(out, IMAGES[:, :, ::-1])
        zeroed = bool((out == 0).any())
        assert flipped != zeroed
        singles[flipped] = singles.get(flipped, 0) + 1
    assert min(singles[True], singles[False]) >= 10


def test_default_strategy_keeps_shape_and_dtype():
    out = augment(jax.random.key(0), IMAGES, siamese=False)
    assert out.shape == IMAGES.shape and out.dtype == IMAGES.dtype
    with jax.enable_x64(True):
        double = augment(
            jax.random.key(0), jnp.asarray(np.asarray(IMAGES, np.float64)), siamese=True
        )
        assert double.dtype == jnp.float64


def test_bilinear_sampling_agrees_with_scipy():
    generator = np.random.default_rng(0)
    rows = generator.uniform(-2, 9, (6, 5, 7)).astype(np.float32)
    columns = generator.uniform(-2, 11, (6, 5, 7)).astype(np.float32)
    out = jax.jit(sample_bilinear)(IMAGES, jnp.asarray(rows), jnp.asarray(columns))
    for i in range(6):
        for c in range(3):
            # A frame of zeros: scipy cuts off at the outermost pixel centres.
            framed = np.pad(np.asarray(IMAGES[i, ..., c]), 3)
            expected = ndimage.map_coordinates(
                framed, [rows[i] + 3, columns[i] + 3], order=1
            )
            np.testing.assert_allclose(out[i, ..., c], expected, atol=1e-5)


@pytest.mark.parametrize("size", [7, 8])
def test_a_quarter_turn_is_exact(size):
    square = jax.random.normal(jax.random.key(5), (1, size, size, 2), jnp.float32)
    middle = (size - 1) / 2
    i = jnp.arange(size, dtype=jnp.float32) - middle
    rows = jnp.broadcast_to(i[None, None, :] + middle, (1, size, size))
    columns = jnp.broadcast_to(-i[None, :, None] + middle, (1, size, size))
    out = jax.jit(sample_bilinear)(square, rows, columns)
    np.testing.assert_allclose(out[0], np.rot90(square[0]), atol=1e-5)


def test_no_rotation_and_no_scale_are_the_identity():
    key = jax.random.key(0)
    for strategy in ("rotate", "scale"):
        out = augment(
            key, IMAGES, siamese=False, strategy=strategy, rotate=0.0, scale=1.0
        )
        np.testing.assert_allclose(out, IMAGES, atol=1e-5)


def test_rotation_is_about_the_centre_and_rigid():
    spot = jnp.zeros((200, 21, 21, 1)).at[:, 10, 16, 0].set(1.0)
    out = augment(
        jax.random.key(4), spot, siamese=False, strategy="rotate", rotate=90.0
    )
    i, j = jnp.meshgrid(jnp.arange(21.0), jnp.arange(21.0), indexing="ij")
    mass = out[..., 0].sum(axis=(1, 2))
    radius = jnp.hypot(
        (out[..., 0] * (i - 10)[None]).sum(axis=(1, 2)) / mass,
        (out[..., 0] * (j - 10)[None]).sum(axis=(1, 2)) / mass,
    )
    np.testing.assert_allclose(radius, 6.0, atol=0.6)


def test_crop_shifts_by_whole_pixels_and_fills_with_zero():
    ones = jnp.ones((300, 16, 16, 1))
    out = np.asarray(augment(jax.random.key(1), ones, siamese=False, strategy="crop"))
    assert set(np.unique(out)) == {0.0, 1.0}
    heights = (out[..., 0].max(axis=2) > 0).sum(axis=1)
    assert set(heights.tolist()) == {14, 15, 16}
    empty_top = (out[..., 0].max(axis=2) == 0)[:, :2].sum(axis=1)
    assert set(empty_top.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("size", [8, 9])
def test_cutout_zeroes_a_square_that_may_stick_out(size):
    ones = jnp.ones((400, size, size, 1))
    out = np.asarray(augment(jax.random.key(1), ones, siamese=False, strategy="cutout"))
    hidden = (out[..., 0] == 0).reshape(400, -1).sum(axis=1)
    side = int(size * 0.5 + 0.5)
    assert hidden.max() == side**2 and hidden.min() >= (side // 2) ** 2
    assert (out[:, 0, 0] == 0).any() and (out[:, -1, -1] == 0).any()


def test_flip_happens_half_of_the_time():
    twins = jnp.concatenate([IMAGES[:1]] * 400)
    out = augment(jax.random.key(1), twins, siamese=False, strategy="flip")
    flipped = np.isclose(out, IMAGES[:1, :, ::-1]).all(axis=(1, 2, 3))
    kept = np.isclose(out, IMAGES[:1]).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all() and 160 < flipped.sum() < 240


def test_colour_is_an_affine_map_of_each_image():
    grey = jnp.ones((400, 4, 4, 3))
    out = augment(jax.random.key(2), grey, siamese=False, strategy="color")
    # On a constant image only the brightness acts: 1 + U(-1/2, 1/2).
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), 0, atol=1e-5)
    assert 0.5 <= float(out.min()) < 0.55 and 1.45 < float(out.max()) <= 1.5


def test_unknown_operations_are_refused():
    with pytest.raises(ValueError, match="'blur' in strategy 'flip_blur'; known: flip"):
        dsa(jax.random.key(0), IMAGES, siamese=True, strategy="flip_blur")


def test_flips_are_drawn_for_each_image():
    many = jnp.concatenate([IMAGES] * 20)
    out = np.asarray(random_flip(jax.random.key(0), many, probability=0.3))
    flipped = np.array(
        [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, many, strict=True)]
    )
    same = np.array([np.array_equal(a, b) for a, b in zip(out, many, strict=True)])
    assert (flipped ^ same).all() and 0.15 < flipped.mean() < 0.45


def test_the_whole_image_as_a_crop_is_the_image():
    crop = random_resized_crop(
        jax.random.key(0), IMAGES, scale=(1.0, 1.0), ratio=(1.0, 1.0)
    )
    np.testing.assert_allclose(crop, IMAGES, atol=1e-5)


def ramps(height, width, count):
    """Channels: row, column and 1."""
    i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    image = np.stack([i, j, np.ones_like(i)], axis=-1).astype(np.float32)
    return jnp.asarray(np.repeat(image[None], count, axis=0))


def test_crops_of_ramps_are_ramps_of_the_right_slope_inside_the_image():
    height, width, count = 24, 32, 400
    out = np.asarray(
        random_resized_crop(
            jax.random.key(1), ramps(height, width, count), scale=(0.2, 0.5)
        )
    )
    np.testing.assert_allclose(out[..., 2], 1, atol=1e-5)
    assert out[..., 0].min() >= 0 and out[..., 0].max() <= height - 1
    assert out[..., 1].min() >= 0 and out[..., 1].max() <= width - 1
    # The slope of a ramp is the part of the side that is shown.
    tall = np.diff(out[:, 8:16, 0, 0], axis=1).mean(axis=1)
    wide = np.diff(out[:, 0, 12:20, 1], axis=1).mean(axis=1)
    area, aspect = tall * wide, wide / tall
    assert 0.19 < area.min() < 0.25 and 0.45 < area.max() < 0.51
    assert 0.74 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.34
    assert np.abs(np.mean(area) - 0.35) < 0.03
    # Places reach every border.
    first = out[:, 0, 0, 0]
    assert first.min() < 1 and first.max() > 0.3 * height


def test_crops_agree_with_pillow():
    from PIL import Image

    key = jax.random.key(5)
    found = np.asarray(random_resized_crop(key, IMAGES[..., :1], scale=(0.5, 0.9)))
    where = np.asarray(random_resized_crop(key, ramps(8, 10, 6), scale=(0.5, 0.9)))
    for image, place, crop in zip(IMAGES[..., 0], where, found, strict=True):
        # Pixels away from the clamped border say where the part begins and its size.
        slope = place[4, 5, :2] - np.array([place[3, 5, 0], place[4, 4, 1]])
        top, left = place[4, 5, :2] + 0.5 - slope * np.array([4.5, 5.5])
        box = (left, top, left + 10 * slope[1], top + 8 * slope[0])
        resized = Image.fromarray(np.asarray(image)).resize(
            (10, 8), Image.Resampling.BILINEAR, box=tuple(map(float, box))
        )
        np.testing.assert_allclose(
            crop[2:-2, 2:-2, 0], np.asarray(resized)[2:-2, 2:-2], atol=2e-3
        )


def test_gradients_of_crops_reach_the_pixels():
    def total(images):
        return (random_resized_crop(jax.random.key(2), images) ** 2).sum()

    gradient = jax.grad(total)(IMAGES)
    assert bool(jnp.isfinite(gradient).all()) and float(jnp.abs(gradient).max()) > 0


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.0, 1.0)}, {"scale": (0.5, 1.5)}, {"ratio": (2.0, 1.0)}]
)
def test_ranges_of_crops_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        random_resized_crop(jax.random.key(0), IMAGES, **wrong)


@pytest.mark.parametrize("name", ["dsa", "flip_crop_noise"])
def test_whole_augmentations(name):
    twins = jnp.concatenate([IMAGES[:1]] * 6)
    alike, apart = (jax.jit(make(name, siamese=siamese)) for siamese in (True, False))
    keys = jax.random.split(jax.random.key(4), 3)
    for key in keys:
        together = np.asarray(alike(key, IMAGES))
        np.testing.assert_allclose(together[2:4], alike(key, IMAGES[2:4]), atol=1e-5)
        assert np.ptp(alike(key, twins), axis=0).max() < 1e-5
    assert any(np.ptp(apart(key, twins), axis=0).max() > 1e-2 for key in keys)


def test_noise_is_added_now_and_then():
    blank = jnp.zeros((400, 8, 8, 3))
    out = np.asarray(
        random_noise(jax.random.key(0), blank, probability=0.3, std=0.2, mean=0.5)
    )
    noisy = out.any(axis=(1, 2, 3))
    assert 0.2 < noisy.mean() < 0.4
    assert out[noisy].mean() == pytest.approx(0.5, abs=0.01)
    assert out[noisy].std() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(
        random_noise(jax.random.key(0), IMAGES, probability=0.0), IMAGES
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "blur"}, "unknown augmentation 'blur'; known: dsa, flip_crop_noise"),
        ({"name": "flip_crop_noise", "noise_sd": 1.0}, "takes no 'noise_sd'"),
        ({"name": "flip_crop_noise", "noise_std": -1.0}, "std=-1.0"),
        ({"name": "flip_crop_noise", "flip": 2.0}, "probability=2.0"),
        ({"name": "dsa", "strategy": "blur"}, "unknown operation 'blur'"),
    ],
)
def test_augmentations_are_checked_when_made(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings, siamese=True)
