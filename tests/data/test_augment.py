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
    sample_bilinear,
    scale,
    solarize,
)

SHAPE = (8, 10, 3)
IMAGES = jax.random.normal(jax.random.key(0), (6, *SHAPE), jnp.float32)
EVERY = {**AUGMENTATIONS, **TRANSFORMS}


def drawn(transform, number=400, *, shape=SHAPE, shared=False, seed=1):
    params = transform.draw(jax.random.key(seed), number, shape, shared)
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
NOT_AFFINE = ("color_jitter", "solarize")


def fixed(name):
    """The definition and parameters of three images, in float64."""
    plain, params = PLAIN[name]
    is_array = {"is_leaf": lambda leaf: isinstance(leaf, list)}
    return plain, jax.tree.map(np.asarray, params, **is_array)


def test_every_transform_has_its_definition():
    assert PLAIN.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_what_they_say(name):
    plain, params = fixed(name)
    with jax.enable_x64(True):
        images = np.asarray(IMAGES[:3], np.float64)
        apply = jax.jit(TRANSFORMS[name]().apply)
        found = apply(params, images)
        assert found.dtype == jnp.float64
        expected = np.stack(
            [
                plain(jax.tree.map(lambda leaf, i=i: leaf[i], params), image)
                for i, image in enumerate(images)
            ]
        )
        np.testing.assert_allclose(found, expected, atol=1e-12)
        # One set of parameters for all images.
        one = jax.tree.map(lambda leaf: leaf[:1], params)
        expected = np.stack(
            [plain(jax.tree.map(lambda leaf: leaf[0], params), x) for x in images]
        )
        np.testing.assert_allclose(apply(one, images), expected, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n not in NOT_AFFINE])
def test_gradients_are_finite_differences(name):
    """At fixed parameters most transforms are affine: differences are exact."""
    _, params = fixed(name)
    with jax.enable_x64(True):
        images, direction = np.random.default_rng(1).normal(size=(2, 3, *SHAPE))
        weights = np.random.default_rng(2).normal(size=(3, *SHAPE))

        @jax.jit
        def total(images, params):
            return (weights * TRANSFORMS[name]().apply(params, images)).sum()

        slope = (jax.jit(jax.grad(total))(images, params) * direction).sum()
        difference = total(images + direction, params) - total(images, params)
        np.testing.assert_allclose(slope, difference, rtol=1e-10)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_gradients_are_small_differences(name):
    """Of what is affine piece by piece, or smooth between its kinks."""
    _, params = fixed(name)
    with jax.enable_x64(True):
        generator = np.random.default_rng(1)
        images = generator.uniform(0.2, 0.7, size=(3, *SHAPE))
        direction, weights = generator.normal(size=(2, 3, *SHAPE))

        params = jax.tree.map(jnp.asarray, params)

        @jax.jit
        def total(images):
            return (weights * TRANSFORMS[name]().apply(params, images)).sum()

        slope = (jax.jit(jax.grad(total))(images) * direction).sum()
        moved = 1e-7 * direction
        difference = (total(images + moved) - total(images - moved)) / 2e-7
        np.testing.assert_allclose(slope, difference, rtol=1e-6)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", TRANSFORMS)
def test_parameters_of_another_dtype_are_brought_to_that_of_the_images(name):
    transform = TRANSFORMS[name]()

    def parameters():
        return jax.eval_shape(
            lambda: transform.draw(jax.random.key(0), 6, SHAPE, False)
        )

    def result(params, images):
        return jax.eval_shape(transform.apply, params, images)

    with jax.enable_x64(True):
        double = IMAGES.astype(jnp.float64)
        wide = parameters()
        chex.assert_trees_all_equal_shapes_and_dtypes(result(wide, IMAGES), IMAGES)
        chex.assert_trees_all_equal_shapes_and_dtypes(result(wide, double), double)
    narrow = parameters()
    with jax.enable_x64(True):
        chex.assert_trees_all_equal_shapes_and_dtypes(result(narrow, double), double)


@pytest.mark.parametrize("name", EVERY)
def test_shared_draws_do_not_depend_on_how_many_images_there_are(name):
    transform = EVERY[name]()

    def program(number, shared):
        made = jax.make_jaxpr(lambda key: transform.draw(key, number, SHAPE, shared))
        return made(jax.random.key(0))

    assert str(program(6, True)) == str(program(2, True))
    leading = [
        {leaf.shape[0] for leaf in program(6, shared).out_avals}
        for shared in (True, False)
    ]
    # Which operation it is, is drawn for the batch.
    assert leading == [{1}, {1, 6} if name == "dsa" else {6}]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_image_has_a_draw_of_its_own(name):
    leaves = jax.tree.leaves(drawn(TRANSFORMS[name]()))
    assert all(np.ptp(leaf.astype(float), axis=0).any() for leaf in leaves)


@pytest.fixture(scope="module", params=AUGMENTATIONS)
def outcomes(request):
    """A whole augmentation of three images and their twins, compiled once."""
    alike = augmenter(request.param, shared=True)
    own = augmenter(request.param, shared=False)
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
    return twins, found


def test_shared_augmentations_act_alike(outcomes):
    twins, found = outcomes
    for out in found:
        np.testing.assert_allclose(out["same"][:3], out["same"][3:], atol=1e-5)
        assert not np.allclose(out["same"], twins, atol=1e-3)
    assert any(
        not np.allclose(out["different"][:3], out["different"][3:], atol=1e-2)
        for out in found
    )
    assert len({np.asarray(out["same"]).tobytes() for out in found}) > 3


def test_gradients_of_whole_augmentations_reach_the_pixels(outcomes):
    twins, found = outcomes
    for out in found:
        chex.assert_trees_all_equal_shapes_and_dtypes(out["gradient"], twins)
        assert bool(jnp.isfinite(out["gradient"]).all())
        assert float(jnp.abs(out["gradient"]).max()) > 0


# The draws.


def test_flips_are_drawn_for_each_image():
    assert 0.22 < drawn(flip(probability=0.3)).mean() < 0.38
    assert not drawn(flip(probability=0.0)).any() and drawn(flip(probability=1.0)).all()


def test_crops_shift_by_up_to_a_part_of_each_side():
    found = drawn(crop(part=0.125), shape=(16, 24, 1))
    assert set(found["rows"].tolist()) == {-2, -1, 0, 1, 2}
    assert set(found["columns"].tolist()) == {-3, -2, -1, 0, 1, 2, 3}


def test_scales_are_drawn_for_each_axis():
    found = drawn(scale(largest=1.2))
    for factors in found.values():
        assert 1 / 1.2 <= factors.min() < 0.85 and 1.18 < factors.max() <= 1.2
        assert abs(factors.mean() - (1 / 1.2 + 1.2) / 2) < 0.02
    assert abs(np.corrcoef(found["rows"], found["columns"])[0, 1]) < 0.15


def test_angles_are_drawn():
    found = drawn(rotate(degrees=15.0))
    assert -15 <= found.min() < -14 and 14 < found.max() <= 15


@pytest.mark.parametrize("size", [8, 9])
def test_holes_have_their_middle_in_the_image(size):
    transform = cutout()
    params = drawn(transform, shape=(size, size, 1))
    side = int(size * 0.5 + 0.5)
    for first in params.values():
        assert first.min() == -(side // 2) and first.max() == size - (side + 1) // 2
    ones = jnp.ones((400, size, size, 1))
    out = np.asarray(jax.jit(transform.apply)(params, ones))
    hidden = (out[..., 0] == 0).reshape(400, -1).sum(axis=1)
    assert hidden.max() == side**2 and hidden.min() >= (side // 2) ** 2
    assert (out[:, 0, 0] == 0).any() and (out[:, -1, -1] == 0).any()


def test_colours_are_drawn():
    found = drawn(TRANSFORMS["color"]())
    for name, low, high in (
        ("brightness", -0.5, 0.5),
        ("saturation", 0.0, 2.0),
        ("contrast", 0.5, 1.5),
    ):
        margin = 0.02 * (high - low)
        assert low <= found[name].min() < low + margin
        assert high - margin < found[name].max() <= high


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


def test_noise_is_added_now_and_then():
    found = drawn(noise(probability=0.3, std=0.2, mean=0.5))
    noisy = found.any(axis=(1, 2, 3))
    assert 0.22 < noisy.mean() < 0.38
    assert found[noisy].mean() == pytest.approx(0.5, abs=0.01)
    assert found[noisy].std() == pytest.approx(0.2, abs=0.01)
    assert not drawn(noise(probability=0.0)).any()


def test_jitters_are_drawn():
    found = drawn(color_jitter(probability=0.3, brightness=1.5, hue=0.2))
    assert 0.22 < found["which"].mean() < 0.38
    for name, low, high in (
        ("brightness", 0.0, 2.5),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.8, 1.2),
        ("hue", -0.2, 0.2),
    ):
        margin = 0.02 * (high - low)
        assert low <= found[name].min() < low + margin
        assert high - margin < found[name].max() <= high
    orders = {tuple(order) for order in found["order"].tolist()}
    assert len(orders) == 24 and all(sorted(each) == [0, 1, 2, 3] for each in orders)


# What needs no parameters to be seen.


def test_bilinear_sampling_agrees_with_scipy():
    generator = np.random.default_rng(0)
    rows = generator.uniform(-2, 9, (6, 5, 7)).astype(np.float32)
    columns = generator.uniform(-2, 11, (6, 5, 7)).astype(np.float32)
    out = jax.jit(sample_bilinear)(IMAGES, jnp.asarray(rows), jnp.asarray(columns))
    for i in range(6):
        expected = sampled(np.asarray(IMAGES[i]), rows[i], columns[i])
        np.testing.assert_allclose(out[i], expected, atol=1e-5)


def test_jittered_pixels_stay_pixels_and_grey_ones_have_no_hue():
    images = jax.random.uniform(jax.random.key(3), (40, 3, 3, 3), jnp.float32)
    strengths = dict.fromkeys(("brightness", "contrast", "saturation"), 1.0)
    strong = color_jitter(probability=1.0, **strengths)
    out = jax.jit(augmenter(strong, shared=False))(jax.random.key(1), images)
    assert float(out.min()) >= 0 and float(out.max()) <= 1 + 1e-6
    only_colour = compose(
        color_jitter(probability=1.0, brightness=0.0, contrast=0.0, hue=0.5),
        grayscale(probability=1.0),
    )
    augment = jax.jit(augmenter(only_colour, shared=False))
    grey = images[..., :1]
    np.testing.assert_allclose(augment(jax.random.key(1), grey), grey, atol=1e-6)


def test_a_third_of_the_circle_exchanges_the_channels():
    images = jax.random.uniform(jax.random.key(3), (2, 3, 3, 3), jnp.float32)
    params = drawn(color_jitter(), 1)
    still = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 1 / 3}
    params |= {name: np.array([value]) for name, value in still.items()}
    params["which"] = np.array([True])
    out = jax.jit(color_jitter().apply)(params, images)
    np.testing.assert_allclose(out, np.roll(images, 1, axis=-1), atol=1e-6)


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


@pytest.mark.parametrize("size", [7, 8])
def test_a_quarter_turn_is_exact(size):
    square = jax.random.normal(jax.random.key(5), (1, size, size, 2), jnp.float32)
    out = jax.jit(rotate().apply)(jnp.array([90.0]), square)
    np.testing.assert_allclose(out[0], np.rot90(square[0]), atol=1e-5)


def test_crops_agree_with_pillow():
    from PIL import Image

    transform = resized_crop(scale=(0.5, 0.9))
    params = jax.tree.map(lambda leaf: leaf[:6], drawn(transform, seed=5))
    found = np.asarray(jax.jit(transform.apply)(params, IMAGES[..., :1]))
    for i, image in enumerate(IMAGES[..., 0]):
        left, width = 10 * params["left"][i], 10 * params["width"][i]
        top, height = 8 * params["top"][i], 8 * params["height"][i]
        box = (left, top, left + width, top + height)
        resized = Image.fromarray(np.asarray(image)).resize(
            (10, 8), Image.Resampling.BILINEAR, box=tuple(map(float, box))
        )
        # Pixels away from the border of the part, where Pillow looks beyond it.
        np.testing.assert_allclose(
            found[i, 2:-2, 2:-2, 0], np.asarray(resized)[2:-2, 2:-2], atol=2e-3
        )


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


def test_dsa_draws_one_operation_of_its_strategy():
    transform = dsa(strategy="flip_cutout", flip=1.0)
    augment = jax.jit(augmenter(transform, shared=True))
    seen = set()
    for key in jax.random.split(jax.random.key(1), 20):
        out = augment(key, IMAGES)
        flipped = np.array_equal(out, IMAGES[:, :, ::-1])
        assert flipped != bool((out == 0).any())
        seen.add(flipped)
    assert seen == {True, False}


def test_dsa_has_its_published_numbers():
    """Every operation is the transform of that name with its defaults."""
    transform = dsa()
    keys = jax.random.split(jax.random.key(0), 200)
    choose = jax.jit(jax.vmap(lambda key: transform.draw(key, 1, SHAPE, True)[0]))
    choices = choose(keys)
    assert (np.bincount(np.ravel(choices), minlength=6) > 15).all()
    names = transform.settings["strategy"].split("_")
    for name, own in zip(names, drawn(transform)[1], strict=True):
        expected = drawn(TRANSFORMS[name](), seed=2)
        chex.assert_trees_all_equal_shapes_and_dtypes(own, expected)
        for one, other in zip(*map(jax.tree.leaves, (own, expected)), strict=True):
            one, other = one.astype(float), other.astype(float)
            room = 0.1 * np.ptp(other)
            for statistic in (np.min, np.max, np.mean):
                assert abs(statistic(one) - statistic(other)) < room


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
        *EVERY,
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
            lambda key, number, shape, shared: jnp.full((1,), value),
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
