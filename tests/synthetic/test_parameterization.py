"""Parameterisations: what they decode to, how they start and how they grow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic
from ddjax.data import preprocess
from ddjax.synthetic.parameterization import colour as colours
from tests.synthetic.problems import assert_same, distilled_set, natural_images

REAL = natural_images(30, (6, 10, 3)) * np.linspace(0.4, 1.0, 3, dtype=np.float32)
REAL[0, 0, 0], REAL[0, 0, 1] = 0.0, 1.0
SHAPE = (2, 6, 10, 3)


def start(**settings):
    made = synthetic.make("pyramid", **settings)
    assert made.start is not None
    return made, made.start(jax.random.key(0), SHAPE, REAL)


@pytest.mark.parametrize("name", ["pixels", "decorrelated_colour", "pyramid"])
def test_images_survive(name):
    made = synthetic.make(name)
    stored = made.init(jnp.asarray(REAL[1:4]), REAL)
    np.testing.assert_allclose(made.decode(stored), REAL[1:4], atol=1 / 500)
    assert set(made.constants) <= set(stored)


@pytest.mark.parametrize("name", ["decorrelated_colour", "pyramid"])
@pytest.mark.parametrize("colour", ["data", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessed_images_survive(name, colour, channels):
    natural = REAL[..., :channels]
    real = np.asarray(preprocess.apply(preprocess.fit(natural), natural))
    made = synthetic.make(name, colour=colour, bounds="data")
    stored = made.init(jnp.asarray(real[:3]), real)
    np.testing.assert_allclose(made.decode(stored), real[:3], atol=0.02)
    low, high = real.min(axis=(0, 1, 2)), real.max(axis=(0, 1, 2))
    moved = {k: v if k in made.constants else 50.0 * v for k, v in stored.items()}
    extremes = np.asarray(made.decode(moved))
    assert (extremes >= low - 1e-5).all() and (extremes <= high + 1e-5).all()


def test_the_colour_matrix_is_a_square_root_of_the_covariance():
    matrix = np.asarray(
        colours.fitted(REAL, SHAPE, colour="data", bounds="unit")["colour"]
    )
    pixels = REAL.reshape(-1, 3)
    covariance = np.cov(pixels.T, bias=True)
    np.testing.assert_allclose(
        matrix @ matrix.T, covariance / np.linalg.eigvalsh(covariance)[-1], atol=1e-6
    )
    assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1.0)


def test_grey_images_keep_an_inverse():
    grey = np.repeat(REAL[..., :1], 3, axis=-1)
    made = synthetic.make("decorrelated_colour")
    stored = made.init(jnp.asarray(grey[1:4]), grey)
    np.testing.assert_allclose(made.decode(stored), grey[1:4], atol=1 / 100)


def test_the_published_matrix():
    """Its first column is brightness; its largest column has norm 1."""
    made, stored = start(colour="imagenet")
    assert "colour" not in stored
    pixel = {name: jnp.zeros_like(values) for name, values in stored.items()}
    pixel = {**pixel, "active": jnp.float32(1), "level_1": jnp.ones((2, 1, 1, 3))}
    column_sums = np.array([0.37, 0.22, 0.21]) / np.sqrt(0.26**2 + 2 * 0.27**2)
    np.testing.assert_allclose(
        made.decode(pixel)[0, 0, 0], 1 / (1 + np.exp(-2 * column_sums)), rtol=1e-5
    )


def bilinear(images, height, width):
    """Half-pixel centres, clamped: one axis after the other."""
    for axis, length in ((1, height), (2, width)):
        old = images.shape[axis]
        at = (np.arange(length) + 0.5) * old / length - 0.5
        images = np.apply_along_axis(
            lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, images
        )
    return images


def test_levels_are_summed_bilinearly():
    made, stored = start(extend_every=0, colour="none")
    sizes = [stored[f"level_{i}"].shape[1:3] for i in range(1, 6)]
    assert sizes == [(1, 1), (2, 2), (4, 4), (6, 8), (6, 10)]
    total = sum(bilinear(np.asarray(stored[f"level_{i}"]), 6, 10) for i in range(1, 6))
    np.testing.assert_allclose(
        made.decode(stored), 1 / (1 + np.exp(-2 * total)), atol=1e-5
    )


def test_levels_start_as_published():
    made = synthetic.make("pyramid", colour="none")
    assert made.start is not None
    stored = made.start(jax.random.key(0), (500, 4, 4, 3), REAL)
    for level in (1, 2, 3):
        deviation = float(jnp.std(stored[f"level_{level}"]))
        assert deviation == pytest.approx(1 / level, rel=0.1)


def test_the_pyramid_grows():
    made, stored = start(extend_every=3, colour="none")
    assert made.advance is not None
    advance = jax.jit(made.advance)
    first = stored
    for step in range(1, 20):
        before = stored
        stored, restarted = advance(stored, jnp.int32(step))
        active, levels = int(before["active"]), 5
        assert bool(restarted) == (step % 3 == 0 and active < levels)
        if not restarted:
            assert all(jnp.array_equal(stored[k], before[k]) for k in stored)
            continue
        assert int(stored["active"]) == active + 1
        for level in range(1, levels + 1):
            factor = active / (active + 1) if level <= active else 1.0
            np.testing.assert_allclose(
                stored[f"level_{level}"], factor * before[f"level_{level}"], rtol=1e-6
            )
    assert int(stored["active"]) == 5
    # Every level has been scaled by the product of the L/(L+1) that it has seen.
    np.testing.assert_allclose(
        stored["level_2"], 2 / 5 * np.asarray(first["level_2"]), rtol=1e-5
    )


def test_inactive_levels_neither_show_nor_learn():
    made, stored = start(colour="data")
    image = np.asarray(made.decode(stored))
    assert np.ptp(image, axis=(1, 2)).max() < 1e-6
    gradients = jax.grad(lambda s: jnp.sum(made.decode(s) ** 2))(stored)
    assert gradients["level_1"].any() and not gradients["level_2"].any()


@pytest.mark.parametrize("name", ["decorrelated_colour", "pyramid"])
def test_files(tmp_path, name):
    made = synthetic.make(name, colour="data", bounds="data")
    assert made.start is not None
    saved = distilled_set(
        stored=made.start(jax.random.key(1), (6, 4, 4, 3), REAL), parameterization=made
    )
    loaded = synthetic.load(synthetic.save(tmp_path / "set", saved))
    assert_same(loaded, saved)
    np.testing.assert_array_equal(
        synthetic.decoded_inputs(loaded), synthetic.decoded_inputs(saved)
    )


@pytest.mark.parametrize(
    ("settings", "real", "message"),
    [
        ({"colour": "pink"}, REAL, "colour must be one of"),
        ({"bounds": "wide"}, REAL, "bounds must be one of"),
        ({"extend_every": -1}, REAL, "extend_every must be at least 0"),
        ({}, 3.0 * REAL - 1.0, "the real images go from -1 to 2"),
        ({}, None, "none were given"),
        ({"colour": "imagenet"}, REAL[..., :1], "1 channels"),
        ({}, REAL[0], "no images"),
    ],
)
def test_refuses(settings, real, message):
    with pytest.raises(ValueError, match=message):
        made = synthetic.make("pyramid", **settings)
        made.init(jnp.asarray(REAL if real is None else real), real)
