import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from ddjax.data.problem import Split
from ddjax.data.views import VIEWS
from ddjax.synthetic import decoders
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.decoders.bases import SHIFTS, approximate, bases, floats_of

N, H, C, D = 40, 8, 3, 10
SIZES = {"image_bases": 5, "target_bases": 4, "downscale": 2}


def real(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(N, H, H, C)).astype(np.float32)
    targets = (rng.normal(size=(N, D)) * np.arange(1, D + 1) + 3.0).astype(np.float32)
    return Split(jnp.asarray(images), None, jnp.asarray(targets))


def started(views="none", samples=3, **settings):
    decoder = bases(**{**SIZES, **settings}, views=views)
    data = real()
    count = 1 + len(VIEWS[views])
    pairs = Pairs(
        jnp.tile(data.inputs[:samples], (count, 1, 1, 1)),
        data.targets[: samples * count],
    )
    return decoder, decoder.init(pairs, decoder.fit(data)), pairs


def test_projections_are_those_of_scikit_learn():
    decoder, stored, pairs = started()
    data = real()
    pca = PCA(4, svd_solver="full").fit(np.asarray(data.targets, np.float64))
    wanted = pca.inverse_transform(pca.transform(np.asarray(pairs.targets, np.float64)))
    np.testing.assert_allclose(decoder.decode(stored).targets, wanted, atol=1e-4)
    small = np.asarray(data.inputs).reshape(N, 4, 2, 4, 2, C).mean(axis=(2, 4))
    flat = small.reshape(N, -1).astype(np.float64)
    pca = PCA(5, svd_solver="full").fit(flat)
    wanted = pca.inverse_transform(pca.transform(flat[:3]))
    found = np.asarray(stored["image_coefficients"]) @ np.asarray(
        stored["image_bases"]
    ).reshape(5, -1) + np.asarray(stored["image_mean"]).reshape(1, -1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_all_components_give_the_images_and_targets_back():
    decoder = bases(image_bases=12, target_bases=D, downscale=1)
    rng = np.random.default_rng(0)
    data = Split(
        jnp.asarray(rng.normal(size=(N, 2, 2, 3)), jnp.float32), None, real().targets
    )
    pairs = Pairs(data.inputs[:6], data.targets[:6])
    found = decoder.decode(decoder.init(pairs, decoder.fit(data)))
    np.testing.assert_allclose(found.inputs, pairs.inputs, atol=1e-5)
    np.testing.assert_allclose(found.targets, pairs.targets, atol=1e-4)


@pytest.mark.parametrize("views", ["rotation", "crop"])
def test_views_come_after_their_images(views):
    decoder, stored, pairs = started(views)
    found, count = decoder.decode(stored), 1 + len(VIEWS[views])
    assert decoder.pairs_per_sample == count
    assert found.inputs.shape == (3 * count, H, H, C)
    assert found.targets.shape == (3 * count, D)
    one = VIEWS[views][1].apply(found.inputs[:3])
    np.testing.assert_array_equal(found.inputs[6:9], one)
    # The targets of each view are projections of its own.
    plain, _, _ = started()
    for view in range(count):
        part = slice(3 * view, 3 * view + 3)
        alone = plain.init(
            Pairs(pairs.inputs[:3], pairs.targets[part]), plain.fit(real())
        )
        np.testing.assert_allclose(
            found.targets[part], plain.decode(alone).targets, atol=1e-4
        )


@pytest.mark.parametrize(
    ("views", "shift"),
    [("none", "stored"), ("crop", "network"), *(("rotation", s) for s in SHIFTS)],
)
def test_every_number_is_counted(views, shift):
    decoder, stored, _ = started(views, hidden=2)
    if views != "none":
        key = jax.random.key(0)
        decoder, stored, _ = approximate(key, decoder, stored, shift=shift, steps=2)
    found = sum(np.size(leaf) for leaf in jax.tree.leaves(stored))
    sizes = {**SIZES, "views": views, "shift": shift, "hidden": 2}
    assert found == floats_of(3, image_shape=(H, H, C), target_width=D, **sizes)
    # Names of targets are names of stored numbers, and none is left over.
    assert set(decoder.targets) <= set(stored)
    of_targets = {k for k in stored if k.startswith(("target", "view"))}
    assert of_targets == set(decoder.targets)
    again = decoders.from_setting(decoder.setting)
    np.testing.assert_array_equal(
        again.decode(stored).targets, decoder.decode(stored).targets
    )


def test_shifts_are_what_they_say():
    decoder, stored, _ = started("rotation", samples=9)
    errors = {}
    for shift in SHIFTS:
        made, kept, errors[shift] = approximate(
            jax.random.key(0), decoder, stored, shift=shift, steps=3000
        )
        pairs = made.decode(kept)
        wanted = decoder.decode(stored)
        np.testing.assert_array_equal(pairs.inputs, wanted.inputs)
        # Bases are orthonormal: errors of coefficients are errors of targets.
        error = np.sum(np.square(pairs.targets - wanted.targets)) / (3 * 9 * 4)
        np.testing.assert_allclose(errors[shift], error, rtol=1e-3, atol=1e-9)
    assert errors["stored"] == 0
    assert errors["network"] < 0.7 * errors["bias"] < 0.7 * errors["same"]
    base, of_views = stored["target_coefficients"], stored["view_coefficients"]
    mean = np.mean(np.asarray(of_views) - np.asarray(base), axis=1, keepdims=True)
    rest = np.asarray(of_views) - np.asarray(base) - mean
    np.testing.assert_allclose(errors["bias"], np.mean(rest**2), rtol=1e-5)


def test_gradients_reach_bases_and_coefficients():
    with jax.enable_x64(True):
        decoder, stored, _ = started("rotation", samples=2)
        stored = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), stored)
        rng = np.random.default_rng(1)
        weights = jax.eval_shape(decoder.decode, stored)
        assert weights.inputs.dtype == jnp.float64
        weights = jax.tree.map(lambda x: rng.normal(size=x.shape), weights)

        @jax.jit
        def value(stored):
            pairs = decoder.decode(stored)
            return sum(
                jnp.sum(jnp.sin(each) * weight)
                for each, weight in zip(pairs, weights, strict=True)
            )

        slopes = jax.jit(jax.grad(value))(stored)
        for name, leaf in stored.items():
            direction = jnp.asarray(rng.normal(size=leaf.shape))
            step = 1e-6
            up, down = (
                value({**stored, name: leaf + sign * step * direction})
                for sign in (1.0, -1.0)
            )
            wanted = (up - down) / (2 * step)
            found = jnp.sum(slopes[name] * direction)
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("start", ["real", "random"])
def test_other_starts(start):
    decoder = bases(**SIZES, views="rotation", start=start)
    data = real()
    fitted = decoder.fit(data)
    key = jax.random.key(3)
    stored = decoder.noise(key, (12, H, H, C), data.targets[:12], fitted)
    assert stored["image_coefficients"].shape == (3, 5)
    assert stored["view_coefficients"].shape == (3, 3, 4)
    if start == "real":
        rows = np.linspace(0, N - 1, 4).round().astype(int)
        np.testing.assert_allclose(stored["target_bases"], data.targets[rows])
        first = np.asarray(data.inputs[0]).reshape(4, 2, 4, 2, C).mean(axis=(1, 3))
        np.testing.assert_allclose(stored["image_bases"][0], first, atol=1e-6)
    else:
        key = jax.random.key(4)
        other = decoder.noise(key, (12, H, H, C), data.targets[:12], fitted)
        assert not np.allclose(stored["image_bases"], other["image_bases"])
        assert abs(float(stored["image_bases"].std()) - 1) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_bases": 0}, "image_bases must be at least 1, got 0"),
        ({"shift": "shifted"}, "unknown shift 'shifted'.*same"),
        ({"start": "pca"}, "unknown start 'pca'"),
        ({"views": "flip"}, "unknown views 'flip'"),
        ({"views": "rotation"}, "views='rotation' needs target_bases"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ValueError, match=message):
        bases(**settings)


def test_data_that_do_not_fit():
    data = real()
    for settings, split, message in (
        ({"downscale": 3}, data, "downscale=3 does not divide images of 8 x 8"),
        (
            {"image_bases": 49},
            data,
            "image_bases=49, but 40 .* at most 39",
        ),
        ({"target_bases": 2}, data._replace(targets=None), "needs real targets"),
        ({}, Split(jnp.zeros((5, 7))), r"inputs of shape \(7,\) are no images"),
    ):
        with pytest.raises(ValueError, match=message):
            bases(**settings).fit(split)
    decoder = bases(**SIZES, views="rotation")
    with pytest.raises(ValueError, match="6 pairs are not 4 for each sample"):
        decoder.init(Pairs(data.inputs[:6], data.targets[:6]), decoder.fit(data))
    with pytest.raises(ValueError, match="of decoder 'bases' with views"):
        approximate(jax.random.key(0), decoders.pixels(), {}, shift="same")
