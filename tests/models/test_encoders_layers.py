"""Convolutions of the encoders against XLA's own, values and derivatives."""

import functools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ddjax.models.encoders import layers


def reference(images, weights, *, stride, padding, groups):
    return lax.conv_general_dilated(
        images,
        weights if weights.ndim == 4 else weights[:, :, None],
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize("kind", ["depthwise", "convolution"])
@hypothesis.settings(max_examples=6)
@hypothesis.given(data=st.data())
def test_values_and_derivatives(kind, data):
    kernel = data.draw(st.sampled_from([1, 2, 3, 5]), label="kernel")
    stride = data.draw(st.integers(1, 3), label="stride")
    height, width = (data.draw(st.integers(kernel, 7)) for _ in range(2))
    margin = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = (data.draw(margin), data.draw(margin))
    random = np.random.default_rng([kernel, stride, height, width])
    images = random.standard_normal((2, height, width, 3))
    channels = (3,) if kind == "depthwise" else (3, 4)
    weights = random.standard_normal((kernel, kernel, *channels))
    apply, groups = getattr(layers, kind), 3 if kind == "depthwise" else 1
    geometry = {"stride": stride, "padding": padding}

    # Each example is compiled once and run once: LLVM need not optimise it.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(images, weights):
        found = []
        for convolve in (
            functools.partial(apply, **geometry),
            functools.partial(reference, groups=groups, **geometry),
        ):
            values, pull = jax.vjp(convolve, images, weights)
            cotangents = jnp.cos(jnp.arange(values.size, dtype=values.dtype))
            found.append((values, *pull(cotangents.reshape(values.shape))))
        return found

    with jax.enable_x64(True):
        found, expected = both(jnp.asarray(images), jnp.asarray(weights))
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_second_derivative_of_a_depthwise_convolution():
    with jax.enable_x64(True):
        images = jnp.linspace(-1.0, 1.0, 2 * 5 * 4 * 3).reshape(2, 5, 4, 3)
        weights = jnp.cos(jnp.arange(3.0 * 9)).reshape(3, 3, 3)

        def twice(apply):
            def energy(x):
                slope = jax.grad(lambda x: jnp.sum(jnp.sin(apply(x))))(x)
                return jnp.sum(slope**2)

            return jax.jit(jax.grad(energy))(images)

        geometry = {"stride": 2, "padding": ((0, 1), (0, 1))}
        found = twice(lambda x: layers.depthwise(x, weights, **geometry))
        expected = twice(lambda x: reference(x, weights, groups=3, **geometry))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_relu6_is_flat_at_its_kinks():
    values = jnp.array([-1.0, 0.0, 1e-3, 5.9, 6.0, 7.0])
    np.testing.assert_array_equal(layers.relu6(values), jnp.clip(values, 0, 6))
    slopes = jax.vmap(jax.grad(layers.relu6))(values)
    np.testing.assert_array_equal(slopes, [0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (4, 3, 1, (1, 1)),
        (4, 3, 2, (0, 1)),
        (5, 3, 2, (1, 1)),
        (4, 5, 2, (1, 2)),
        (4, 1, 2, (0, 0)),
    ],
)
def test_tensorflows_padding(size, kernel, stride, expected):
    height, width = layers.same_padding((1, size, size, 3), kernel, stride)
    assert height == width == expected
