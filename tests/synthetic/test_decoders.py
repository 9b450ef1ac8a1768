"""Decoders: what they make of stored numbers, how they start and how they grow."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic
from ddjax.data import preprocess
from ddjax.data.problem import Split
from ddjax.synthetic.checks import named
from ddjax.synthetic.decoders import DECODERS, Pairs, from_setting, make
from ddjax.synthetic.decoders import colour as colours
from tests.synthetic.problems import (
    assert_same,
    changed,
    distilled_set,
    natural_images,
)

REAL = natural_images(30, (6, 10, 3)) * np.linspace(0.4, 1.0, 3, dtype=np.float32)
REAL[0, 0, 0], REAL[0, 0, 1] = 0.0, 1.0
SHAPE = (6, 6, 10, 3)
TARGETS = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]] - np.float32(1 / 3)
EVERY = sorted(DECODERS)
# As many bases as the 30 real images span lose nothing of them.
WHOLE = {"bases": {"image_bases": 29, "downscale": 1}}
# The six samples are two of each class.
PARTS = {"partition": {"rows": 2, "columns": 1}}


def _initialised(decoder, real=REAL):
    fitted = decoder.fit(Split(real))
    pairs = Pairs(jnp.asarray(real[: len(TARGETS)]), jnp.asarray(TARGETS))
    return pairs, decoder.init(pairs, fitted)


def _drawn(decoder, shape=SHAPE, real=REAL):
    targets = jnp.zeros((shape[0], 3), jnp.float32)
    return decoder.noise(jax.random.key(0), shape, targets, decoder.fit(Split(real)))


# --- every decoder -------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_decoder_is_rebuilt_from_its_name_and_settings(name):
    decoder = make(name)
    again = from_setting({"name": decoder.name, **decoder.settings})
    assert again[:2] == decoder[:2] == (name, decoder.settings)
    assert from_setting(name)[:2] == decoder[:2]
    assert from_setting(decoder) is decoder


@pytest.mark.parametrize("name", [n for n in EVERY if n != "partition"])
def test_pairs_survive(name):
    decoder = make(name, **WHOLE.get(name, {}))
    pairs, stored = _initialised(decoder)
    found = decoder.decode(stored)
    assert isinstance(found, Pairs)
    error = 1e-6 if decoder.exact else 1 / 500
    np.testing.assert_allclose(found.inputs, pairs.inputs, atol=error)
    np.testing.assert_array_equal(found.targets, pairs.targets)
    assert {*decoder.constants, *decoder.targets} <= set(stored)
    assert not set(decoder.constants) & set(decoder.targets)
    assert [path for path, _ in named(stored, "stored")]


@pytest.mark.parametrize("name", EVERY)
def test_decoding_is_differentiable(name):
    decoder = make(name, **PARTS.get(name, {}))
    _, stored = _initialised(decoder)
    learned = {k: v for k, v in stored.items() if k not in decoder.constants}
    rest = {k: v for k, v in stored.items() if k in decoder.constants}

    def total(learned):
        inputs, targets = decoder.decode({**learned, **rest})
        return jnp.sum(jnp.sin(inputs)) + jnp.sum(jnp.sin(targets))

    gradients = jax.jit(jax.grad(total))(learned)
    assert jax.tree.structure(gradients) == jax.tree.structure(learned)
    for path, slope in named(gradients, "gradients"):
        assert np.isfinite(slope).all() and slope.any(), path


@pytest.mark.parametrize("name", [n for n in EVERY if make(n).noise is not None])
def test_noise_has_the_form_of_what_is_initialised(name):
    decoder = make(name, **PARTS.get(name, {}))
    _, stored = _initialised(decoder)
    drawn = _drawn(decoder)
    chex.assert_trees_all_equal_shapes_and_dtypes(drawn, stored)
    inputs, targets = decoder.decode(drawn)
    assert inputs.shape == SHAPE and np.isfinite(inputs).all()
    np.testing.assert_array_equal(targets, jnp.zeros((6, 3)))
    chex.assert_trees_all_equal(drawn, _drawn(decoder))


@pytest.mark.parametrize("name", EVERY)
def test_sets_are_saved_loaded_and_exported(tmp_path, name):
    decoder = make(name, **PARTS.get(name, {}))
    _, stored = _initialised(decoder)
    saved = changed(distilled_set(kind="none"), stored=stored, decoder=decoder)
    loaded = synthetic.load(synthetic.save(tmp_path / "set", saved))
    assert_same(loaded, saved)
    inputs, targets = synthetic.decoded(saved)
    with np.load(synthetic.to_npz(tmp_path / "a.npz", loaded)) as file:
        np.testing.assert_array_equal(file["inputs"], inputs)
        np.testing.assert_array_equal(file["targets"], targets)
    synthetic.to_torch_safetensors(tmp_path / "a.safetensors", loaded)
    assert synthetic.draw(loaded).ndim == 3


@pytest.mark.parametrize("name", EVERY)
def test_float64_stays_float64(name):
    with jax.enable_x64(True):
        bounded = name in ("decorrelated_colour", "pyramid")
        settings = {"bounds": "data"} if bounded else PARTS.get(name, {})
        decoder = make(name, **settings)
        real = REAL.astype(np.float64)
        fitted = decoder.fit(Split(jnp.asarray(real)))
        pairs = Pairs(jnp.asarray(real[:6]), jnp.asarray(TARGETS, jnp.float64))
        starts = [decoder.init(pairs, fitted)]
        if decoder.noise is not None:
            key = jax.random.key(0)
            starts.append(decoder.noise(key, SHAPE, pairs.targets, fitted))
        if decoder.advance is not None:
            step, steps = jnp.int32(1), jnp.int32(9)
            starts.append(jax.eval_shape(decoder.advance, starts[-1], step, steps)[0])
        for stored in starts:
            pairs = jax.eval_shape(decoder.decode, stored)
            assert {each.dtype for each in pairs} == {np.dtype("float64")}


@pytest.mark.parametrize("name", EVERY)
def test_inputs_that_are_no_images_are_taken_or_refused_by_name(name):
    decoder = make(name, **PARTS.get(name, {}))
    rows = Split(jnp.ones((5, 4)), targets=jnp.ones((5, 1)))
    if name == "pixels":
        stored = decoder.init(Pairs(rows.inputs, rows.targets), decoder.fit(rows))
        assert decoder.decode(stored).inputs.shape == (5, 4)
        return
    with pytest.raises(ValueError, match=r"shape \(4,\) are no images"):
        decoder.fit(rows)
    fitted = decoder.fit(Split(REAL))
    with pytest.raises(ValueError, match=r"shape \(4,\) are no images"):
        decoder.init(Pairs(rows.inputs, rows.targets), fitted)
    with pytest.raises(ValueError, match=r"shape \(4,\) are no images"):
        decoder.noise(jax.random.key(0), (5, 4), rows.targets, fitted)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("x", "unknown decoder 'x'; known: bases, decorrelated_colour, partition"),
        ("pixel", "unknown decoder 'pixel'; .*; did you mean 'pixels'"),
        (
            {"name": "pyramid", "extend_evry": 3},
            r"takes no 'extend_evry'; did you mean 'extend_every'\? it takes: "
            "extend_every, colour, bounds",
        ),
        ({"name": "pixels", "size": 3}, "takes no 'size'; it takes: no settings"),
        ({"extend_every": 0.1}, "described by a name and settings, got"),
        ({"name": 3}, "known names: bases, decorrelated_colour, partition"),
    ],
)
def test_unknown_names_and_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        from_setting(setting)


# --- colours -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["decorrelated_colour", "pyramid"])
@pytest.mark.parametrize("colour", ["data", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessed_images_survive(name, colour, channels):
    natural = REAL[..., :channels]
    real = np.asarray(preprocess.apply(preprocess.fit(natural), natural))
    made = make(name, colour=colour, bounds="data")
    pairs, stored = _initialised(made, real)
    np.testing.assert_allclose(made.decode(stored).inputs, pairs.inputs, atol=0.02)
    low, high = real.min(axis=(0, 1, 2)), real.max(axis=(0, 1, 2))
    moved = {k: v if k in made.constants else 50.0 * v for k, v in stored.items()}
    extremes = np.asarray(made.decode(moved).inputs)
    assert (extremes >= low - 1e-5).all() and (extremes <= high + 1e-5).all()


def test_the_colour_matrix_is_a_square_root_of_the_covariance():
    fitted = colours.fit(Split(REAL), colour="data", bounds="unit")
    matrix = np.asarray(fitted["colour"])
    pixels = REAL.reshape(-1, 3)
    covariance = np.cov(pixels.T, bias=True)
    np.testing.assert_allclose(
        matrix @ matrix.T, covariance / np.linalg.eigvalsh(covariance)[-1], atol=1e-6
    )
    assert np.linalg.norm(matrix, axis=0).max() == pytest.approx(1.0)


def test_grey_images_keep_an_inverse():
    made = make("decorrelated_colour")
    grey = np.repeat(REAL[..., :1], 3, axis=-1)
    pairs, stored = _initialised(made, grey)
    np.testing.assert_allclose(made.decode(stored).inputs, pairs.inputs, atol=1 / 100)


def test_the_published_matrix():
    """Its first column is brightness; its largest column has norm 1."""
    made = make("pyramid", colour="imagenet")
    stored = _drawn(made)
    assert "colour" not in stored
    pixel = {name: jnp.zeros_like(values) for name, values in stored.items()}
    pixel = {**pixel, "active": jnp.float32(1), "level_1": jnp.ones((6, 1, 1, 3))}
    column_sums = np.array([0.37, 0.22, 0.21]) / np.sqrt(0.26**2 + 2 * 0.27**2)
    np.testing.assert_allclose(
        made.decode(pixel).inputs[0, 0, 0],
        1 / (1 + np.exp(-2 * column_sums)),
        rtol=1e-5,
    )


# --- the pyramid ---------------------------------------------------------------------


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
    made = make("pyramid", extend_every=0, colour="none")
    stored = _drawn(made)
    assert made.advance is None
    sizes = [stored[f"level_{i}"].shape[1:3] for i in range(1, 6)]
    assert sizes == [(1, 1), (2, 2), (4, 4), (6, 8), (6, 10)]
    total = sum(bilinear(np.asarray(stored[f"level_{i}"]), 6, 10) for i in range(1, 6))
    np.testing.assert_allclose(
        made.decode(stored).inputs, 1 / (1 + np.exp(-2 * total)), atol=1e-5
    )


def test_levels_start_as_published():
    stored = _drawn(make("pyramid", colour="none"), (500, 4, 4, 3))
    for level in (1, 2, 3):
        deviation = float(jnp.std(stored[f"level_{level}"]))
        assert deviation == pytest.approx(1 / level, rel=0.1)


def test_the_pyramid_grows():
    made = make("pyramid", extend_every=0.15, colour="none")
    assert made.advance is not None
    advance, first = jax.jit(made.advance), _drawn(made)
    stored, levels = first, 5
    for step in range(1, 20):
        before = stored
        stored, restarted = advance(stored, jnp.int32(step), jnp.int32(20))
        active = int(before["active"])
        assert bool(restarted) == (step % 3 == 0 and active < levels)
        if not restarted:
            chex.assert_trees_all_equal(stored, before)
            continue
        assert int(stored["active"]) == active + 1
        for level in range(1, levels + 1):
            factor = active / (active + 1) if level <= active else 1.0
            np.testing.assert_allclose(
                stored[f"level_{level}"], factor * before[f"level_{level}"], rtol=1e-6
            )
    assert int(stored["active"]) == 5
    np.testing.assert_array_equal(stored["targets"], first["targets"])
    # Every level has been scaled by the product of the L/(L+1) that it has seen.
    np.testing.assert_allclose(
        stored["level_2"], 2 / 5 * np.asarray(first["level_2"]), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("extend_every", "steps", "between"),
    [(0.04, 5000, 200), (0.04, 10000, 400), (0.05, 1000, 50), (0.04, 12, 1), (1, 4, 4)],
)
def test_levels_come_in_at_fractions_of_the_run(extend_every, steps, between):
    """The paper's setting is the first: every 200 of 5000 steps, and nowhere else."""
    made = make("pyramid", extend_every=extend_every, colour="none")
    assert made.advance is not None
    stored = {"level_1": jnp.zeros((1, 1, 1, 1)), "level_2": jnp.zeros((1, 2, 2, 1))}
    stored |= {"active": jnp.float32(1), "targets": jnp.zeros((1, 1))}
    restarted = jax.jit(
        jax.vmap(lambda step: made.advance(stored, step, jnp.int32(steps))[1])
    )(jnp.arange(1, steps + 1, dtype=jnp.int32))
    expected = np.arange(between, steps + 1, between)
    np.testing.assert_array_equal(1 + np.flatnonzero(restarted), expected)


def test_inactive_levels_neither_show_nor_learn():
    made = make("pyramid", colour="data")
    stored = _drawn(made)
    image = np.asarray(made.decode(stored).inputs)
    assert np.ptp(image, axis=(1, 2)).max() < 1e-6
    gradients = jax.grad(lambda s: jnp.sum(made.decode(s).inputs ** 2))(stored)
    assert gradients["level_1"].any() and not gradients["level_2"].any()


@pytest.mark.parametrize(
    ("settings", "real", "message"),
    [
        ({"colour": "pink"}, REAL, "unknown colour "),
        ({"bounds": "wide"}, REAL, "unknown bounds "),
        ({"extend_every": -0.1}, REAL, "fraction of the run, between 0 and 1, got -0"),
        ({"extend_every": 200}, REAL, "fraction of the run, between 0 and 1, got 200"),
        ({}, 3.0 * REAL - 1.0, "the real images go from -1 to 2"),
        ({"colour": "imagenet"}, REAL[..., :1], "1 channels"),
        ({}, REAL[0], "no images"),
    ],
)
def test_refuses(settings, real, message):
    with pytest.raises(ValueError, match=message):
        _initialised(make("pyramid", **settings), real)


@pytest.mark.parametrize("name", ["decorrelated_colour", "pyramid"])
def test_what_was_not_fitted_is_named(name):
    made = make(name, bounds="data")
    pairs = Pairs(jnp.asarray(REAL[:6]), jnp.asarray(TARGETS))
    with pytest.raises(ValueError, match="low, high must be fitted .*'colour'"):
        made.init(pairs, {"colour": jnp.eye(3)})


# --- parts side by side --------------------------------------------------------------


def test_parts_are_means_over_pixels_enlarged_again():
    """Against the plain definition, part by part."""
    decoder = make("partition", rows=2, columns=1)
    pairs, stored = _initialised(decoder)
    assert stored["inputs"].shape == (3, 6, 10, 3)
    assert stored["targets"].shape == (3, 3)
    found = decoder.decode(stored)
    assert found.inputs.shape == pairs.inputs.shape
    for index, image in enumerate(pairs.inputs):
        small = (image[0::2] + image[1::2]) / 2
        half = stored["inputs"][index // 2, 3 * (index % 2) : 3 * (index % 2) + 3]
        np.testing.assert_allclose(half, small, atol=1e-6)
        wanted = jax.image.resize(small, image.shape, "linear")
        np.testing.assert_allclose(found.inputs[index], wanted, atol=1e-6)
    np.testing.assert_array_equal(found.targets, TARGETS)


@pytest.mark.parametrize(
    ("settings", "count", "message"),
    [
        ({"rows": 0}, 6, "rows must be at least 1, got 0"),
        ({"rows": 4}, 6, "6 x 10 pixels cannot be cut into 4 x 2 parts"),
        ({"rows": 1}, 5, "5 pairs cannot stand 2 to an image"),
        ({"rows": 3, "columns": 1}, 6, "stores one target for 3 pairs"),
    ],
)
def test_what_cannot_stand_side_by_side_is_refused(settings, count, message):
    pairs = Pairs(jnp.asarray(REAL[:count]), jnp.asarray(TARGETS[:count]))

    with pytest.raises(ValueError, match=message):
        decoder = make("partition", **settings)
        decoder.init(pairs, decoder.fit(Split(REAL)))
