import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.data import DataError, preprocess
from tests.memory import peak_of

KINDS = list(preprocess.KINDS)


def images(count=50, shape=(4, 3, 2), dtype=np.float64):
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(int(np.prod(shape)),) * 2)
    flat = generator.random((count, len(mixing))) @ mixing + 3.0
    return flat.reshape(count, *shape).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_invert_undoes_apply(kind):
    natural = images(dtype=np.float32)
    fitted = preprocess.fit(natural, kind=kind)
    there = preprocess.apply(fitted, natural)
    back = preprocess.invert(fitted, there)
    # Natural units are float64 on the host, where offsets may be large.
    assert there.dtype == np.float32
    assert back.dtype == (np.float32 if kind == "none" else np.float64)
    np.testing.assert_allclose(back, natural, rtol=1e-4, atol=1e-4)
    again = preprocess.apply(fitted, back)
    np.testing.assert_allclose(again, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_jax_under_jit_agrees_with_numpy(kind):
    natural = images(dtype=np.float32)
    fitted = preprocess.fit(natural, kind=kind)
    for function in (preprocess.apply, preprocess.invert):
        on_host = function(fitted, natural)
        on_device = jax.jit(lambda x, f=function: f(fitted, x))(jnp.asarray(natural))
        assert isinstance(on_host, np.ndarray) and on_device.dtype == jnp.float32
        np.testing.assert_allclose(on_device, on_host, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_jax_in_float64(kind):
    with jax.enable_x64(True):
        natural = jnp.asarray(images())
        fitted = preprocess.fit(natural, kind=kind)
        back = preprocess.invert(fitted, preprocess.apply(fitted, natural))
        assert back.dtype == jnp.float64
        np.testing.assert_allclose(back, natural, rtol=1e-11, atol=1e-11)


@given(
    st.integers(2, 30),
    st.integers(1, 5),
    st.floats(1e-3, 1e3),
    st.floats(-1e3, 1e3),
    st.sampled_from(KINDS),
    st.integers(0, 1000),
)
def test_round_trip_over_scales_and_offsets(count, size, scale, offset, kind, seed):
    generator = np.random.default_rng(seed)
    natural = offset + scale * generator.normal(size=(count, size))
    fitted = preprocess.fit(natural, kind=kind)
    back = preprocess.invert(fitted, preprocess.apply(fitted, natural))
    np.testing.assert_allclose(back, natural, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("shape", [(4, 3, 2), (5,)])
def test_standardised_channels_have_mean_0_and_std_1(shape):
    natural = images(shape=shape)
    fitted = preprocess.fit(natural, kind="standardize")
    there = preprocess.apply(fitted, natural).reshape(-1, shape[-1])
    assert fitted.mean.shape == fitted.std.shape == shape[-1:]
    np.testing.assert_allclose(there.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(there.std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e-40])
def test_a_constant_channel_is_centred_and_not_scaled(value):
    natural = images()
    natural[..., 1] = value
    fitted, report = preprocess.fit_and_report(natural)
    assert report["constant_channels"] == [1] and fitted.std[1] == 1.0
    there = preprocess.apply(fitted, natural.astype(np.float32))
    np.testing.assert_allclose(there[..., 1], 0, atol=1e-6)
    back = preprocess.invert(fitted, there)
    np.testing.assert_allclose(back[..., 1], value, rtol=1e-6, atol=1e-30)


def test_a_channel_of_std_1_is_not_called_constant():
    natural = np.array([[-1.0], [1.0]])
    assert preprocess.fit_and_report(natural)[1]["constant_channels"] == []


def inverse_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def regularised(second, ridge):
    return second + ridge * np.trace(second) / len(second) * np.eye(len(second))


@pytest.mark.parametrize("ridge", [0.1, 1e-3, 3.0])
def test_zca_is_its_definition(ridge):
    natural = images(count=60)
    channels = natural.reshape(-1, 2)
    centred = natural - natural.mean(axis=0)
    flat = (centred / channels.std(axis=0)).reshape(60, -1)
    expected = flat @ inverse_root(regularised(flat.T @ flat / 60, ridge))
    fitted = preprocess.fit(natural, kind="zca", zca_ridge=ridge)
    found = preprocess.apply(fitted, natural).reshape(60, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ridge", [0.1, 1e-3, 3.0])
@pytest.mark.parametrize("count", [60, 9])
def test_zca_uncentred_is_its_definition(ridge, count):
    natural = images(count=count)
    flat = natural.reshape(count, -1)
    expected = flat @ inverse_root(regularised(flat.T @ flat / count, ridge))
    fitted = preprocess.fit(
        iter([natural[:4], natural[4:]]), kind="zca_uncentred", zca_ridge=ridge
    )
    found = preprocess.apply(fitted, natural).reshape(count, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    assert not fitted.mean.any() and (fitted.std == 1).all()


def test_the_report_says_what_was_done():
    report = preprocess.fit_and_report(images(), kind="zca_uncentred")[1]
    assert report == {"kind": "zca_uncentred", "count": 50, "zca_ridge": 0.1}


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(1, 49), max_size=4, unique=True))
def test_blocks_of_any_size_give_the_same_fit(kind, cuts):
    natural = images()
    whole = preprocess.fit(natural, kind=kind)
    pieces = preprocess.fit(iter(np.split(natural, sorted(cuts))), kind=kind)
    for one, other in zip(whole[1:], pieces[1:], strict=True):
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["standardize", "zca", "zca_uncentred"])
def test_memory_does_not_depend_on_the_number_of_inputs(kind):
    def blocks(count):
        for seed in range(count):
            yield np.random.default_rng(seed).random((100, 8, 8, 1), np.float32)

    def peak(count):
        return peak_of(lambda: preprocess.fit(blocks(count), kind=kind))[1]

    peak(2)
    assert peak(60) < 1.2 * peak(3)


def test_gradients_flow_through_both_directions():
    fitted = preprocess.fit(images(dtype=np.float32), kind="zca")
    x = jnp.asarray(images(count=2, dtype=np.float32))

    def there_and_back(x):
        return preprocess.invert(fitted, preprocess.apply(fitted, x)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(there_and_back))(x), 1, atol=1e-3)


def test_errors_say_what_is_allowed():
    large, overflowing = np.zeros((1, 128, 128, 3)), np.array([[0, -1e200], [1, 1e200]])
    for inputs, kind, ridge, message in (
        (images(), "pca", 0.1, "'pca'; known: none, standardize, zca"),
        (images(), "zca", 0.0, "zca_ridge is 0.0"),
        (iter([]), "standardize", 0.1, "no inputs"),
        (np.ones((5, 3)), "zca", 0.1, "all are the same"),
        (images(), "zca_uncentred", np.nan, "zca_ridge is nan"),
        (np.zeros((5, 3)), "zca_uncentred", 0.1, "zca_uncentred .*all are zero"),
        (large, "zca", 0.1, r"\(128, 128, 3\).*limited to 12288"),
        (overflowing, "standardize", 0.1, "channel 1 .*variance overflows"),
    ):
        with pytest.raises(DataError, match=message):
            preprocess.fit(inputs, kind=kind, zca_ridge=ridge)


def test_integers_are_preprocessed_as_the_numbers_that_they_are():
    values = np.arange(12).reshape(6, 2) * 7
    fitted = preprocess.fit(values.astype(np.float64))
    expected = preprocess.apply(fitted, values.astype(np.float64))
    found = preprocess.apply(fitted, values)
    np.testing.assert_array_equal(found, expected)
    of_jax = preprocess.apply(fitted, jnp.asarray(values, jnp.int32))
    assert of_jax.dtype == jnp.float32
    np.testing.assert_allclose(of_jax, expected, rtol=1e-5, atol=1e-6)
