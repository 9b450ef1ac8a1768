"""Augmentations: each transform against its definition, its draws, and compositions."""

import colorsys
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ddjax.data.augment import (
    AUGMENTATIONS,
    TRANSFORMS,
    Transform,
    augmenter,
    color_jitter,
    compose,
    crop,
    cutout,
    dsa,
    flip,
    flip_crop_noise,
    grayscale,
    make,
    noise,
    one_of,
    resized_crop,
    rotate,
    scale,
    solarize,
)
from tests.slow import slow

SHAPE = (8, 10, 3)
IMAGES = jax.random.normal(jax.random.key(0), (6, *SHAPE), jnp.float32)


def drawn(transform, count=400, *, shape=SHAPE, seed=1):
    params = transform.draw(jax.random.key(seed), count, shape)
    return jax.tree.map(np.asarray, params)


# One definition a transform: plain NumPy, one image at a time, at these parameters.


def sampled(image, rows, columns):
    """Bilinear at `rows` x `columns` (h, w) with zeros around the image."""
    around = 30
    return np.stack(
        [
            # Framed, for scipy cuts off at the outermost pixel centres.
            ndimage.map_coordinates(
                np.pad(channel, around), [rows + around, columns + around], order=1
            )
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )


def plain_flip(mirrored, image):
    return np.fliplr(image) if mirrored else image


def plain_crop(params, image):
    shifted = np.zeros_like(image)
    for i, j in np.ndindex(*image.shape[:2]):
        row, column = i + params["rows"], j + params["columns"]
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            shifted[i, j] = image[row, column]
    return shifted


def plain_scale(params, image):
    i, j = np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij")
    middle = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    rows = params["rows"] * (i - middle[0]) + middle[0]
    return sampled(image, rows, params["columns"] * (j - middle[1]) + middle[1])


def plain_rotate(degrees, image):
    i, j = np.meshgrid(*map(np.arange, image.shape[:2]), indexing="ij")
    middle = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    place = ((i - middle[0]) + 1j * (j - middle[1])) * np.exp(-1j * np.radians(degrees))
    return sampled(image, place.real + middle[0], place.imag + middle[1])


def plain_cutout(params, image):
    hidden = image.copy()
    sides = image.shape[0] // 2, image.shape[1] // 2
    for i, j in np.ndindex(*sides):
        row, column = params["row"] + i, params["column"] + j
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            hidden[row, column] = 0
    return hidden


def plain_color(params, image):
    image = image + params["brightness"]
    grey = image.mean(axis=2, keepdims=True)
    image = grey + params["saturation"] * (image - grey)
    return image.mean() + params["contrast"] * (image - image.mean())


def plain_resized_crop(params, image):
    places = []
    for length, start, part in (
        (image.shape[0], params["top"], params["height"]),
        (image.shape[1], params["left"], params["width"]),
    ):
        # A pixel of the result is at the same share of the part as of the result.
        edge = (np.arange(length) + 0.5) / length * part * length
        edge = start * length + np.clip(edge, 0.5, max(part * length - 0.5, 0.5))
        places.append(np.clip(edge - 0.5, 0, length - 1))
    return sampled(image, *np.meshgrid(*places, indexing="ij"))


def luma(image):
    return (image @ [0.299, 0.587, 0.114])[..., None]


def turned(image, share):
    def one(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + share) % 1, saturation, value)

    return np.apply_along_axis(one, 2, image)


def plain_color_jitter(params, image):
    def blended(grey, factor):
        return lambda image: np.clip(grey(image) + factor * (image - grey(image)), 0, 1)

    each = (
        blended(np.zeros_like, params["brightness"]),
        blended(lambda image: luma(image).mean(), params["contrast"]),
        blended(luma, params["saturation"]),
        lambda image: turned(image, params["hue"]),
    )
    if params["which"]:
        for place in params["order"]:
            image = each[place](image)
    return image


PLAIN = {
    "flip": (plain_flip, np.array([True, False, True])),
    "crop": (plain_crop, {"rows": [1, 0, -1], "columns": [-1, 1, 0]}),
    "scale": (plain_scale, {"rows": [0.9, 1.1, 1.0], "columns": [1.2, 0.8, 1.0]}),
    "rotate": (plain_rotate, [10.0, -35.0, 0.0]),
    "cutout": (plain_cutout, {"row": [-2, 3, 6], "column": [7, 2, -3]}),
    "color": (
        plain_color,
        {
            "brightness": [0.3, -0.5, 0.0],
            "saturation": [1.7, 0.2, 1.0],
            "contrast": [0.6, 1.4, 1.0],
        },
    ),
    "resized_crop": (
        plain_resized_crop,
        {
            "top": [0.1, 0.5, 0.0],
            "left": [0.0, 0.33, 0.0],
            "height": [0.5, 0.5, 1.0],
            "width": [0.9, 0.3, 1.0],
        },
    ),
    "noise": (
        lambda added, image: image + added,
        np.random.default_rng(5).normal(size=(3, *SHAPE)),
    ),
    "color_jitter": (
        plain_color_jitter,
        {
            "which": [True, True, False],
            "brightness": [1.3, 0.7, 1.4],
            "contrast": [0.7, 1.4, 1.4],
            "saturation": [1.2, 0.8, 1.2],
            "hue": [0.1, -0.45, 0.1],
            "order": np.array([[0, 1, 2, 3], [3, 1, 0, 2], [0, 1, 2, 3]]),
        },
    ),
    "grayscale": (
        lambda grey, image: luma(image) + 0 * image if grey else image,
        np.array([True, False, True]),
    ),
    "solarize": (
        lambda inverted, image: np.where(inverted & (image >= 0.5), 1 - image, image),
        np.array([True, False, True]),
    ),
}


def test_every_transform_has_its_definition():
    assert PLAIN.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_and_their_gradients_are_what_they_say(name):
    plain, params = PLAIN[name]
    is_array = {"is_leaf": lambda leaf: isinstance(leaf, list)}
    params = jax.tree.map(np.asarray, params, **is_array)
    generator = np.random.default_rng(1)
    weights, direction = generator.normal(size=(2, 3, *SHAPE))

    @jax.jit
    def transformed(params, images):
        apply = TRANSFORMS[name]().apply
        out, pull = jax.vjp(lambda images: apply(params, images), images)
        return out, pull(jnp.asarray(weights))[0]

    with jax.enable_x64(True):
        images = np.asarray(IMAGES[:3], np.float64)
        one = jax.tree.map(lambda leaf: leaf[:1], params)  # for all of the images
        for own, found in (
            ([0, 1, 2], transformed(params, images)[0]),
            ([0, 0, 0], jax.jit(TRANSFORMS[name]().apply)(one, images)),
        ):
            expected = [
                plain(jax.tree.map(lambda leaf, i=i: leaf[i], params), image)
                for i, image in zip(own, images, strict=True)
            ]
            assert found.dtype == jnp.float64
            np.testing.assert_allclose(found, np.stack(expected), atol=1e-12)
        # At fixed parameters transforms are affine, or smooth between their kinks.
        images = generator.uniform(0.2, 0.7, size=(3, *SHAPE))
        moved = 1e-7 * direction
        slope = (transformed(params, images)[1] * direction).sum()
        ends = (transformed(params, images + step)[0] for step in (moved, -moved))
        difference = (weights * np.subtract(*map(np.asarray, ends))).sum() / 2e-7
        np.testing.assert_allclose(slope, difference, rtol=1e-6)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", TRANSFORMS)
def test_parameters_of_another_dtype_are_brought_to_that_of_the_images(name):
    transform = TRANSFORMS[name]()
    with jax.enable_x64(True):
        double = IMAGES.astype(jnp.float64)
    for wide, images in ((True, IMAGES), (True, double), (False, double)):
        with jax.enable_x64(wide):
            params = jax.eval_shape(lambda: transform.draw(jax.random.key(0), 6, SHAPE))
        with jax.enable_x64(True):
            found = jax.eval_shape(transform.apply, params, images)
            chex.assert_trees_all_equal_shapes_and_dtypes(found, images)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_image_has_a_draw_of_its_own(name):
    for leaf in jax.tree.leaves(drawn(TRANSFORMS[name]())):
        assert len(leaf) == 400
        assert np.ptp(leaf.astype(float), axis=0).any()


@pytest.mark.parametrize(
    "setting",
    [
        {"name": "dsa", "strategy": "cutout_color"},
        "flip_crop_noise",
        slow("dsa"),
        slow("crop_jitter_solarize"),
    ],
)
def test_shared_augmentations_act_alike_and_have_gradients(setting):
    alike, own = (augmenter(setting, shared=shared) for shared in (True, False))
    traces = []

    @jax.jit
    def run(key, images):
        traces.append(1)
        different, pull = jax.vjp(lambda images: own(key, images), images)
        return {
            "same": alike(key, images),
            "different": different,
            "gradient": pull(different)[0],
        }

    twins = jnp.concatenate([IMAGES[:3], IMAGES[:3]])
    found = [run(key, twins) for key in jax.random.split(jax.random.key(4), 6)]
    assert len(traces) == 1
    for out in found:
        chex.assert_trees_all_equal_shapes_and_dtypes(out["gradient"], twins)
        assert bool(jnp.isfinite(out["gradient"]).all())
        assert float(jnp.abs(out["gradient"]).max()) > 0
        np.testing.assert_allclose(out["same"][:3], out["same"][3:], atol=1e-5)
        assert not np.allclose(out["same"], twins, atol=1e-3)
    assert any(
        not np.allclose(out["different"][:3], out["different"][3:], atol=1e-2)
        for out in found
    )
    assert len({np.asarray(out["same"]).tobytes() for out in found}) > 3


# The draws.


def test_crops_shift_by_up_to_a_part_of_each_side():
    found = drawn(crop(part=0.125), shape=(16, 24, 1))
    assert set(found["rows"].tolist()) == {-2, -1, 0, 1, 2}
    assert set(found["columns"].tolist()) == {-3, -2, -1, 0, 1, 2, 3}


@pytest.mark.parametrize(
    ("transform", "ranges"),
    [
        (scale(largest=1.25), {"rows": (0.8, 1.25), "columns": (0.8, 1.25)}),
        (rotate(degrees=15.0), {"angle": (-15.0, 15.0)}),
        (
            TRANSFORMS["color"](),
            {
                "brightness": (-0.5, 0.5),
                "saturation": (0.0, 2.0),
                "contrast": (0.5, 1.5),
            },
        ),
        (
            color_jitter(brightness=1.5, hue=0.2),
            {
                "brightness": (0.0, 2.5),
                "contrast": (0.6, 1.4),
                "saturation": (0.8, 1.2),
                "hue": (-0.2, 0.2),
            },
        ),
    ],
)
def test_numbers_are_drawn_from_their_ranges(transform, ranges):
    found = drawn(transform)
    found = found if isinstance(found, dict) else {"angle": found}
    values = [
        (found[name] - low) / (high - low) for name, (low, high) in ranges.items()
    ]
    for each in values:
        assert -1e-6 <= each.min() < 0.02 and 0.98 < each.max() <= 1 + 1e-6
        assert abs(each.mean() - 0.5) < 0.05
    between = np.corrcoef(values) - np.eye(len(values))
    assert (np.abs(between) < 0.15).all()


@pytest.mark.parametrize(
    ("transform", "changed"),
    [
        (flip, lambda drawn: drawn),
        (solarize, lambda drawn: drawn),
        (noise, lambda drawn: drawn.any(axis=(1, 2, 3))),
        (color_jitter, lambda drawn: drawn["which"]),
    ],
)
def test_images_are_changed_with_a_probability(transform, changed):
    assert 0.22 < changed(drawn(transform(probability=0.3))).mean() < 0.38
    assert not changed(drawn(transform(probability=0.0))).any()
    assert changed(drawn(transform(probability=1.0))).all()


def test_jitters_come_in_every_order():
    orders = set(map(tuple, drawn(color_jitter())["order"].tolist()))
    assert len(orders) == 24 and all(sorted(each) == [0, 1, 2, 3] for each in orders)


@pytest.mark.parametrize("size", [8, 9])
def test_holes_have_their_middle_in_the_image(size):
    side = int(size * 0.5 + 0.5)
    for first in drawn(cutout(), shape=(size, size, 1)).values():
        assert first.min() == -(side // 2) and first.max() == size - (side + 1) // 2


def test_parts_of_crops_have_the_area_and_the_aspect_that_were_asked_for():
    found = drawn(resized_crop(scale=(0.2, 0.5)))
    area = found["height"] * found["width"]
    aspect = found["width"] / found["height"]
    assert 0.2 <= area.min() < 0.21 and 0.49 < area.max() <= 0.5 + 1e-6
    assert abs(area.mean() - 0.35) < 0.02
    assert 0.75 - 1e-6 <= aspect.min() < 0.77 and 1.31 < aspect.max() <= 4 / 3 + 1e-6
    for start, part in (("top", "height"), ("left", "width")):
        end = found[start] + found[part]
        assert found[start].min() >= 0 and end.max() <= 1 + 1e-6
        # Places reach every border.
        assert found[start].min() < 0.02 and end.max() > 0.98


def test_parts_that_would_be_longer_than_the_image_are_cut():
    found = drawn(resized_crop(scale=(1.0, 1.0)))
    assert max(found["height"].max(), found["width"].max()) == 1
    assert min(found["height"].min(), found["width"].min()) < 0.9


def test_noise_has_its_mean_and_deviation():
    found = drawn(noise(probability=1.0, std=0.2, mean=0.5))
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert found.std() == pytest.approx(0.2, abs=0.01)


# What needs no parameters to be seen.


@pytest.mark.parametrize("transform", [color_jitter(), grayscale(probability=1.0)])
def test_grey_images_have_no_hue(transform):
    grey = jax.random.uniform(jax.random.key(3), (2, 3, 3, 1), jnp.float32)
    params = drawn(transform, 1)
    if transform.name == "color_jitter":
        params |= dict.fromkeys(("brightness", "contrast"), np.ones(1, np.float32))
        params |= {"which": np.array([True]), "hue": np.array([0.4], np.float32)}
    found = jax.jit(transform.apply)(params, grey)
    np.testing.assert_allclose(found, grey, atol=1e-6)


@pytest.mark.parametrize("transform", [color_jitter(), grayscale()])
def test_colours_of_other_numbers_of_channels_are_refused(transform):
    params = jax.tree.map(jnp.asarray, drawn(transform, 1))
    with pytest.raises(ValueError, match="have 2 channels; colours are those of 1"):
        transform.apply(params, IMAGES[..., :2])


def test_solarized_pixels_mirror_at_one_half():
    transform = solarize(probability=1.0, threshold=0.25)
    images = jnp.array([0.2, 0.25, 0.9]).reshape(1, 3, 1, 1)
    params = jnp.asarray([True])
    out = np.ravel(transform.apply(params, images))
    np.testing.assert_allclose(out, [0.2, 0.75, 0.1], atol=1e-6)


def test_a_quarter_turn_is_exact():
    square = jax.random.normal(jax.random.key(5), (1, 8, 8, 2), jnp.float32)
    out = jax.jit(rotate().apply)(jnp.array([90.0]), square)
    np.testing.assert_allclose(out[0], np.rot90(square[0]), atol=1e-5)


# Several as one.


def test_composed_transforms_follow_one_another():
    first, second = scale(largest=1.5), cutout(part=0.3)
    both = compose(first, second)
    params = jax.tree.map(lambda leaf: leaf[:6], drawn(both))
    expected = jax.jit(first.apply)(params[0], IMAGES)
    expected = jax.jit(second.apply)(params[1], expected)
    found = jax.jit(both.apply)(params, IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Each has a draw of its own.
    twice = drawn(compose(first, first))
    assert not np.allclose(twice[0]["rows"], twice[1]["rows"])
    nothing = augmenter([], shared=False)
    np.testing.assert_array_equal(nothing(jax.random.key(0), IMAGES), IMAGES)


def test_one_of_them_is_drawn_for_the_batch():
    either = one_of(flip(probability=1.0), cutout())
    augment = jax.jit(augmenter(either, shared=False))
    counts = [0, 0]
    for key in jax.random.split(jax.random.key(1), 40):
        out = augment(key, IMAGES)
        flipped = np.array_equal(out, IMAGES[:, :, ::-1])
        holes = np.asarray(out == 0).all(axis=-1).any(axis=(1, 2))
        assert holes.all() != flipped and holes.any() != flipped
        counts[flipped] += 1
    assert min(counts) >= 10
    with pytest.raises(ValueError, match="at least one transform"):
        one_of()


def test_dsa_has_its_published_numbers():
    """Every operation is the transform of that name with its defaults."""
    transform = dsa()
    keys = jax.random.split(jax.random.key(0), 200)
    choose = jax.jit(jax.vmap(lambda key: transform.draw(key, 1, SHAPE)[0]))
    choices = choose(keys)
    assert (np.bincount(np.ravel(choices), minlength=6) > 15).all()
    names = transform.settings["strategy"].split("_")
    key = jax.random.key(1)
    keys = jax.random.split(jax.random.split(key)[1], len(names))
    expected = [
        TRANSFORMS[name]().draw(own, 5, SHAPE)
        for name, own in zip(names, keys, strict=True)
    ]
    chex.assert_trees_all_equal(list(transform.draw(key, 5, SHAPE)[1]), expected)
    assert len(drawn(dsa(strategy="flip_cutout"))[1]) == 2


def test_flip_crop_noise_is_those_three():
    transform = flip_crop_noise(flip=0.2, scale=(0.3, 0.4), noise=0.6, noise_mean=0.5)
    params = drawn(transform)
    assert 0.13 < params[0].mean() < 0.27
    area = params[1]["height"] * params[1]["width"]
    assert 0.3 - 1e-6 <= area.min() and area.max() <= 0.4 + 1e-6
    noisy = params[2].any(axis=(1, 2, 3))
    assert 0.5 < noisy.mean() < 0.7 and 0.4 < params[2][noisy].mean() < 0.6
    assert len(drawn(flip_crop_noise(noise=0.0))) == 2


# By name.


@pytest.mark.parametrize(
    "setting",
    [
        *AUGMENTATIONS,
        *TRANSFORMS,
        {"name": "flip", "probability": 0.25},
        ["flip", {"name": "noise", "std": 0.1}],
        {"name": "one_of", "transforms": ["rotate", ["flip", "crop"]]},
        {"name": "dsa", "strategy": "flip_color", "saturation": 1.0},
        {"name": "flip_crop_noise", "scale": (0.5, 1.0)},
        {"name": "crop_jitter_solarize", "scale": (0.5, 1.0), "solarize": 0.0},
    ],
)
def test_settings_make_the_transform_again(setting):
    transform = make(setting)
    text = json.dumps({"name": transform.name, **transform.settings})
    again = make(json.loads(text))
    assert (again.name, again.settings) == (transform.name, transform.settings)


def test_a_transform_made_from_settings_says_all_of_them():
    assert make("rotate").settings == {"degrees": 15.0}
    assert make(["crop"]).settings == {"transforms": [{"name": "crop", "part": 0.125}]}
    assert make("dsa").settings["strategy"] == "flip_scale_rotate_crop_cutout_color"
    given = rotate(degrees=3.0)
    assert make(given) is given


def test_equal_settings_are_one_function():
    assert augmenter("flip", shared=True) is augmenter({"name": "flip"}, shared=True)
    assert augmenter("flip", shared=True) is not augmenter("flip", shared=False)
    one, other = (
        augmenter({"name": "flip", "probability": p}, shared=True) for p in (0.1, 0.2)
    )
    assert one is not other


def test_transforms_of_ones_own_are_not_taken_for_others():
    def own(value):
        return Transform(
            "flip",
            {"probability": 0.5},
            lambda key, count, shape: jnp.full((1,), value),
            lambda params, images: images + params.reshape(1, 1, 1, 1),
        )

    for value in (1.0, 2.0):
        for setting in (own(value), [own(value)]):
            augment = augmenter(setting, shared=True)
            out = augment(jax.random.key(0), IMAGES)
            np.testing.assert_array_equal(out, IMAGES + value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("blur", "unknown augmentation 'blur'; known: dsa, flip_crop_noise, crop_jit"),
        (["flip", "blur"], "unknown augmentation 'blur'"),
        ({"probability": 0.5}, "has no 'name'"),
        ({"name": "flip", "chance": 1}, "'flip' takes no 'chance'; it takes: prob"),
        ({"name": "one_of", "among": []}, "'one_of' takes no 'among'"),
        ({"name": "one_of"}, "at least one transform"),
        ({"name": "dsa", "strategy": "flip_blur"}, "'blur' in strategy 'flip_blur'; k"),
        ({"name": "dsa", "flip": 2.0}, r"flip has probability=2.0; .* in \[0.0, 1.0\]"),
        ({"name": "dsa", "strategy": "flip", "scale": 0.5}, "scale has largest=0.5"),
        ({"name": "flip_crop_noise", "noise_sd": 1.0}, "takes no 'noise_sd'"),
        ({"name": "flip_crop_noise", "noise_std": -1.0}, "noise has std=-1.0"),
        ({"name": "rotate", "degrees": float("nan")}, "rotate has degrees=nan"),
        ({"name": "crop", "part": 1.5}, "crop has part=1.5"),
        ({"name": "cutout", "part": -0.5}, "cutout has part=-0.5"),
        ({"name": "color", "contrast": -1.0}, "color has contrast=-1.0"),
        ({"name": "color_jitter", "hue": 0.6}, r"hue=0.6; .* in \[0.0, 0.5\]"),
        ({"name": "color_jitter", "contrast": -1.0}, "color_jitter has contrast=-1.0"),
        ({"name": "grayscale", "probability": 2.0}, "grayscale has probability=2.0"),
        ({"name": "solarize", "threshold": 2.0}, "solarize has threshold=2.0"),
        ({"name": "crop_jitter_solarize", "jitter": -1.0}, "color_jitter has prob"),
        ({"name": "resized_crop", "scale": (0.0, 1.0)}, r"scale=\(0.0, 1.0\); .*<= 1"),
        ({"name": "resized_crop", "scale": (0.5, 1.5)}, r"scale=\(0.5, 1.5\)"),
        ({"name": "resized_crop", "ratio": (2.0, 1.0)}, r"ratio=\(2.0, 1.0\)"),
    ],
)
def test_mistakes_are_named_when_a_transform_is_made(setting, message):
    with pytest.raises(ValueError, match=message):
        augmenter(setting, shared=True)
