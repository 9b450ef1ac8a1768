"""Random features: their limit, their derivatives, and evaluation in blocks."""

import functools
import inspect
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from ddjax.kernels import blocks, infinite_width, random_features
from ddjax.kernels.random_features import convolutional, fully_connected

FULLY = fully_connected(depth=2, width=16)
CONV = convolutional(depth=2, width=4)


def images(n=3, shape=(6, 5, 2), seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def networks(architecture, *, shape=(6, 5, 2), number=3, seed=0, dtype=jnp.float32):
    return random_features.init_networks(
        jax.random.key(seed),
        architecture,
        input_shape=shape,
        networks=number,
        dtype=dtype,
    )


def convolved(params, rows):
    return random_features.features(params, rows, architecture=CONV)


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# The analytic limit, in NumPy, written independently of the library.


def expected_relu_product(cov12, var1, var2):
    """E[relu(u) relu(v)] of centred Gaussians: the arc-cosine kernel of degree 1."""
    scale = np.sqrt(var1 * var2)
    cosine = np.clip(cov12 / np.where(scale > 0, scale, 1), -1, 1)
    angle = np.arccos(cosine)
    return scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


def fully_connected_limit(inputs, architecture):
    """Covariances of flat inputs after the last ReLU."""
    w, b = architecture.w_std**2, architecture.b_std**2
    covariance = inputs @ inputs.T / inputs.shape[1]
    for _ in range(architecture.depth):
        covariance = w * covariance + b
        variance = np.diag(covariance)
        covariance = expected_relu_product(
            covariance, variance[:, None], variance[None, :]
        )
    return covariance


def convolutional_limit(inputs, architecture):
    """The same for images, through the covariance of all pairs of positions."""
    w, b = architecture.w_std**2, architecture.b_std**2
    n = len(inputs)
    covariance = np.einsum("ahwc,bijc->ahwbij", inputs, inputs) / inputs.shape[-1]
    for _ in range(architecture.depth):
        rows, columns = covariance.shape[1:3]
        padded = np.pad(covariance, [(0, 0), (1, 1), (1, 1)] * 2)
        covariance = b + w / 9 * sum(
            padded[:, i : i + rows, j : j + columns][..., i : i + rows, j : j + columns]
            for i in range(3)
            for j in range(3)
        )
        flat = covariance.reshape(n * rows * columns, -1)
        variance = np.diag(flat)
        flat = expected_relu_product(flat, variance[:, None], variance[None, :])
        covariance = flat.reshape(covariance.shape)
        if architecture.pooling == "average":
            r, c = rows // 2, columns // 2
            covariance = covariance[:, : 2 * r, : 2 * c, :, : 2 * r, : 2 * c]
            covariance = covariance.reshape(n, r, 2, c, 2, n, r, 2, c, 2)
            covariance = covariance.mean((2, 4, 7, 9))
    if architecture.readout == "flatten":
        return np.einsum("ahwbhw->ab", covariance) / math.prod(covariance.shape[1:3])
    return covariance.mean((1, 2, 4, 5))


def rms_errors(architecture, x, limit, *, numbers, seeds):
    """Root mean square errors, over draws, relative to the size of the kernel."""

    @jax.jit
    def grams(keys):
        def one(key):
            params = random_features.init_networks(
                key, architecture, input_shape=x.shape[1:], networks=max(numbers)
            )
            for number in numbers:
                some = jax.tree.map(lambda leaf, n=number: leaf[:n], params)
                rows = random_features.features(some, x, architecture=architecture)
                yield rows @ rows.T

        return jax.lax.map(lambda key: list(one(key)), keys)

    exact = limit(np.float64(x), architecture)
    found = grams(jax.random.split(jax.random.key(0), seeds))
    squares = [np.mean((np.float64(gram) - exact) ** 2) for gram in found]
    return [math.sqrt(square / np.mean(exact**2)) for square in squares]


def rate(architectures, x, limit, numbers):
    """Slope of the log of the error against the log of networks · width."""
    sizes = [number * net.width for net in architectures for number in numbers]
    errors = [
        error
        for net in architectures
        for error in rms_errors(net, x, limit, numbers=numbers, seeds=64)
    ]
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def assert_features_tend_to_the_kernel(network, x, limit):
    kernel = infinite_width.kernel_fn(network, include_readout=False)
    found = kernel(jnp.asarray(x), jnp.asarray(x))
    close(found, limit(np.float64(x), network), 1e-5)
    (error,) = rms_errors(network, x, limit, numbers=(32,), seeds=2)
    assert error < 0.06


def test_fully_connected_features_tend_to_the_arc_cosine_kernel():
    x = images(4).reshape(4, -1)
    x[1] = -x[0]
    network = fully_connected(width=256, depth=2, w_std=1.0, b_std=0.0)
    assert_features_tend_to_the_kernel(network, x, fully_connected_limit)


@pytest.mark.parametrize(
    "pooling, readout, depth",
    [("average", "flatten", 2), ("none", "global_average", 1)],
)
def test_convolutional_features_tend_to_their_kernel(pooling, readout, depth):
    network = convolutional(depth=depth, width=64, pooling=pooling, readout=readout)
    assert_features_tend_to_the_kernel(
        network, images(3, (7, 6, 2)), convolutional_limit
    )


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["average", "none"])
@pytest.mark.parametrize("readout", ["flatten", "global_average"])
def test_the_error_falls_like_one_over_the_square_root_of_all_units(pooling, readout):
    nets = [
        convolutional(depth=2, width=width, pooling=pooling, readout=readout)
        for width in (16, 64)
    ]
    x = images(3, (7, 6, 2))
    assert abs(rate(nets, x, convolutional_limit, numbers=(2, 8)) + 0.5) < 0.1


@pytest.mark.slow
def test_the_error_of_fully_connected_features_falls_so_too():
    nets = [fully_connected(depth=2, width=width) for width in (16, 64)]
    x = images(4).reshape(4, -1)
    assert abs(rate(nets, x, fully_connected_limit, numbers=(2, 8)) + 0.5) < 0.1


# What the features are.


@pytest.mark.parametrize("architecture", [FULLY, CONV])
def test_features_are_those_of_each_network_written_out(architecture):
    x, params = images(), networks(architecture)
    found = random_features.features(params, x, architecture=architecture)
    each = []
    for k in range(3):
        h = np.float64(x)
        for layer in params:
            w, b = np.float64(layer["w"][k]), np.float64(layer["b"][k])
            if architecture.kind == "fully_connected":
                z = h.reshape(3, -1) @ w
            else:
                padded = np.pad(h, [(0, 0), (1, 1), (1, 1), (0, 0)])
                z = sum(
                    padded[:, i : i + h.shape[1], j : j + h.shape[2]] @ w[i, j]
                    for i in range(3)
                    for j in range(3)
                )
            fan_in = math.prod(w.shape[:-1])
            h = np.maximum(z * math.sqrt(2 / fan_in) + 0.1 * b, 0)
            if architecture.pooling == "average":
                r, c = h.shape[1] // 2, h.shape[2] // 2
                h = h[:, : 2 * r, : 2 * c].reshape(3, r, 2, c, 2, -1).mean((2, 4))
        each.append(h.reshape(3, -1))
    each = np.concatenate(each, axis=1)
    close(found, each / math.sqrt(each.shape[1]), 1e-5)


@pytest.mark.parametrize(("size", "positions"), [(28, 9), (32, 16), (8, 1)])
def test_odd_sizes_are_pooled_as_7_to_3(size, positions):
    architecture = convolutional(width=5)
    found = jax.eval_shape(
        lambda key, x: random_features.features(
            random_features.init_networks(
                key, architecture, input_shape=(size, size, 1), networks=2
            ),
            x,
            architecture=architecture,
        ),
        jax.random.key(0),
        jax.ShapeDtypeStruct((4, size, size, 1), jnp.float32),
    )
    assert found.shape == (4, 10 * positions)


@pytest.mark.parametrize("chunk", [2, 9])
@pytest.mark.parametrize("architecture", [FULLY, CONV])
def test_the_chunk_does_not_matter(chunk, architecture):
    x, params = images(), networks(architecture)
    found = random_features.features(params, x, architecture=architecture, chunk=chunk)
    whole = random_features.features(params, x, architecture=architecture)
    close(found, whole, 1e-6)


def test_the_size_of_groups_of_images_does_not_matter(monkeypatch):
    x, params = images(8), networks(CONV)

    def value_and_gradient():
        def loss(x):
            rows = convolved(params, x)
            return jnp.sum(jnp.sin(rows)), rows

        # Not the compiled function of before: the number of bytes is not an argument.
        random_features._features.clear_cache()
        return jax.jit(jax.grad(loss, has_aux=True))(x)

    gradient, rows = value_and_gradient()
    monkeypatch.setattr(random_features, "_CACHED_BYTES", 3 * 6 * 5 * 4 * 4)
    in_threes = value_and_gradient()
    random_features._features.clear_cache()
    close(in_threes[1], rows, 1e-6)
    close(in_threes[0], gradient, 1e-5)


def test_networks_are_reproducible_and_independent_of_their_number():
    few, many = networks(CONV, number=2), networks(CONV)
    again, other = networks(CONV, number=2), networks(CONV, number=2, seed=1)
    for a, b, c, d in zip(
        *map(jax.tree.leaves, (few, many, again, other)), strict=True
    ):
        np.testing.assert_array_equal(a, b[:2])
        np.testing.assert_array_equal(a, c)
        assert np.abs(a - d).max() > 0.1
        assert np.abs(b[0] - b[1]).max() > 0.1


def test_parameters_are_standard_normal():
    for layer in networks(fully_connected(depth=2, width=64), shape=(64,), number=8):
        for leaf in layer.values():
            assert abs(leaf.mean()) < 5 / math.sqrt(leaf.size)
            assert abs(leaf.std() - 1) < 5 / math.sqrt(leaf.size)


@pytest.mark.parametrize("architecture, chunk", [(FULLY, 3), (CONV, 1)])
def test_gradients_to_pixels_agree_with_finite_differences(architecture, chunk):
    with jax.enable_x64(True):
        params = networks(architecture, dtype=jnp.float64)
        x = jnp.asarray(images(), jnp.float64)

        @jax.jit
        def loss(x):
            rows = random_features.features(
                params, x, architecture=architecture, chunk=chunk
            )
            assert rows.dtype == jnp.float64
            return jnp.sum(jnp.sin(3 * rows))

        gradient = jax.jit(jax.grad(loss))(x)
        direction = jnp.asarray(images(seed=1), jnp.float64)
        difference = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
        close(jnp.sum(gradient * direction), difference, 1e-6)


def test_one_trace_whatever_the_number_of_networks():
    counted = []
    for number in (2, 7):
        params = jax.eval_shape(lambda number=number: networks(CONV, number=number))
        program = str(jax.make_jaxpr(convolved)(params, images()))
        counted.append(program.count("conv_gen"))
    assert counted[0] == counted[1] > 0


def test_features_compile_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def apply(params, x):
        return random_features.features(params, x, architecture=FULLY)

    for seed in range(3):
        apply(networks(FULLY, seed=seed), images(seed=seed))


# In blocks.


@settings(deadline=None, max_examples=6)
@given(n=st.integers(1, 9), block=st.integers(1, 10))
def test_blocks_do_not_matter(n, block):
    x = images(n)
    found = blocks.map_in_blocks(lambda rows: jnp.sin(rows).sum((2, 3)), x, block=block)
    close(found, np.sin(x).sum((2, 3)), 1e-6)


def test_features_in_blocks():
    x, params = images(7), networks(CONV)
    by_argument = blocks.map_in_blocks(convolved, x, block=3, arguments=(params,))
    by_closure = blocks.map_in_blocks(
        lambda rows: convolved(params, rows), jnp.asarray(x), block=3
    )
    close(by_argument, convolved(params, x), 1e-6)
    np.testing.assert_array_equal(by_argument, by_closure)


def test_blocks_compile_once_and_see_no_more_than_a_block():
    seen = []

    def function(rows):
        seen.append(rows.shape)
        return 2 * rows

    x = images(8)
    close(blocks.map_in_blocks(function, x, block=3), 2 * x, 0)
    assert seen == [(3, 6, 5, 2)]
    jitted = jax.jit(function)
    for _ in range(2):
        close(blocks.map_in_blocks(jitted, x, block=3), 2 * x, 0)
    assert len(seen) <= 2


@pytest.mark.parametrize("block", [2, 100])
def test_gram_in_blocks(block):
    x1, x2 = images(5).reshape(5, -1), images(4, seed=1).reshape(4, -1)

    traces = []

    def kernel(a, b):
        traces.append(a.shape)
        return jnp.tanh(a @ b.T)

    close(blocks.gram_in_blocks(kernel, x1, x2, block=block), np.tanh(x1 @ x2.T), 1e-5)
    symmetric = blocks.gram_in_blocks(kernel, x1, block=block)
    assert set(traces) == {(min(block, 5), x1.shape[1])} and len(traces) <= 2
    np.testing.assert_array_equal(symmetric, symmetric.T)
    close(symmetric, np.tanh(x1 @ x1.T), 1e-5)


def test_symmetric_grams_compute_half_of_the_blocks():
    calls = []

    def kernel(a, b):
        jax.debug.callback(lambda: calls.append(1))
        return a @ b.T

    x = images(8).reshape(8, -1)
    blocks.gram_in_blocks(kernel, x, x, block=2)
    jax.effects_barrier()
    assert len(calls) == 10


def test_feature_gram_in_blocks(tmp_path):
    x1, x2, params = images(5), images(4, seed=1), networks(CONV)
    apply = functools.partial(convolved, params)
    one, two = (np.asarray(apply(x)) for x in (x1, x2))
    out = np.lib.format.open_memmap(
        tmp_path / "gram.npy", mode="w+", dtype=np.float32, shape=(5, 4)
    )
    found = blocks.feature_gram_in_blocks(apply, x1, x2, block=2, out=out)
    assert found is out
    close(np.load(tmp_path / "gram.npy"), one @ two.T, 1e-6)
    found = blocks.feature_gram_in_blocks(apply, x1, block=2)
    close(found, one @ one.T, 1e-6)


# Random Fourier features.


def test_fourier_features_tend_to_the_gaussian_kernel():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    # By scikit-learn, whose gamma is 1 / (2 length_scale²).
    exact = rbf_kernel(np.float64(x), gamma=0.5 / 1.7**2)

    def error(count, seed):
        frequencies = random_features.init_frequencies(
            jax.random.key(seed), size=4, frequencies=count
        )
        rows = random_features.fourier_features(frequencies, x, length_scale=1.7)
        return math.sqrt(np.mean((np.float64(rows @ rows.T) - exact) ** 2))

    counts = [64, 4096]
    errors = [np.mean([error(count, seed) for seed in range(6)]) for count in counts]
    assert errors[-1] < 0.015
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35


def test_more_frequencies_begin_with_the_same_ones():
    few, many = (
        random_features.init_frequencies(jax.random.key(2), size=5, frequencies=count)
        for count in (3, 7)
    )
    np.testing.assert_array_equal(few, many[:3])


def features_of(rows, architecture=FULLY, **settings):
    return random_features.features(
        networks(FULLY), rows, architecture=architecture, **settings
    )


def fourier_features_of(columns, length_scale=1.0):
    rows = jnp.ones((2, columns))
    return random_features.fourier_features(
        draw_frequencies(), rows, length_scale=length_scale
    )


def draw_frequencies(size=3, frequencies=2):
    return random_features.init_frequencies(
        jax.random.key(0), size=size, frequencies=frequencies
    )


# What a user can get wrong.


def gram_of_four(kernel, **settings):
    return blocks.gram_in_blocks(kernel, np.eye(4), block=2, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect.unwrap(fully_connected)(depth=0), "depth is 0"),
        (lambda: inspect.unwrap(fully_connected)(width=-1), "width is -1"),
        (lambda: inspect.unwrap(convolutional)(w_std=-1.0), "w_std is -1.0"),
        (lambda: inspect.unwrap(convolutional)(b_std=math.inf), "b_std is inf"),
        (
            lambda: inspect.unwrap(convolutional)(pooling="max"),
            "'max'.*average.*none",
        ),
        (
            lambda: inspect.unwrap(convolutional)(readout="mean"),
            "'mean'.*flatten.*global_average",
        ),
        (
            lambda: networks(convolutional(), shape=(4, 4, 1)),
            "4 x 4 do not survive 3 halvings",
        ),
        (lambda: networks(convolutional(), shape=(784,)), r"\(784,\)"),
        (lambda: networks(FULLY, number=0), "networks is 0"),
        (lambda: features_of(images(), chunk=0), "chunk is 0"),
        (lambda: features_of(jnp.zeros((2, 61))), r"\(61, 16\), not \(60, 16\)"),
        (
            lambda: features_of(images(), fully_connected(width=16)),
            "2 layers.*depth is 3",
        ),
        (lambda: blocks.map_in_blocks(jnp.sin, images(4), block=0), "block is 0"),
        (lambda: blocks.map_in_blocks(jnp.sin, images(4)[:0], block=2), "no row"),
        (
            lambda: blocks.map_in_blocks(jnp.sum, images(4), block=2),
            r"2 rows into an array of \(\)",
        ),
        (
            lambda: gram_of_four(lambda a, b: a @ b.T, out=np.zeros(3)),
            r"out has shape \(3,\)",
        ),
        (
            lambda: gram_of_four(lambda a, b: jnp.sum(a) + jnp.sum(b)),
            "kernel of 2 and 2 rows",
        ),
        (lambda: draw_frequencies(size=0), "size is 0, but at least 1"),
        (lambda: draw_frequencies(frequencies=0), "frequencies is 0, but at least 1"),
        (lambda: fourier_features_of(3, length_scale=0.0), "length_scale is 0.0"),
        (lambda: fourier_features_of(4), "4 entries.*for 3"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
