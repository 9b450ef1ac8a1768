"""The fast convolution is the ordinary one, derivatives included."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import convolution

# A few images, a flat kernel, maps of few positions, images for whole registers and
# some over, more channels than are filled up.
SHAPES = [
    ((2, 5, 4, 3), (3, 3, 3, 2)),
    ((1, 1, 6, 2), (1, 5, 2, 3)),
    ((3, 2, 2, 3), (3, 3, 3, 2)),
    ((19, 5, 4, 1), (3, 5, 1, 2)),
    ((8, 4, 4, 17), (3, 3, 17, 5)),
]


def plain(inputs, weights):
    return jax.lax.conv_general_dilated(
        inputs, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(shapes):
    draw = np.random.default_rng(0)
    return [jnp.asarray(draw.normal(size=shape)) for shape in shapes]


def objective(convolve):
    return lambda inputs, weights: jnp.sum(jnp.tanh(convolve(inputs, weights)))


def agree(derivative, given, tolerance):
    """What `derivative` makes of the fast convolution, and of the ordinary one."""
    both = jax.jit(
        lambda *x: [derivative(f)(*x) for f in (convolution._fast_convolution, plain)]
    )
    chex.assert_trees_all_close(*both(*given), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shapes", SHAPES)
def test_values_and_gradients_are_those_of_the_ordinary_convolution(shapes):
    agree(lambda f: jax.value_and_grad(objective(f), (0, 1)), arrays(shapes), 1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
def test_second_derivatives(shapes):
    def squared_gradient(convolve):
        inner = jax.grad(objective(convolve), argnums=(0, 1))

        def of_both(inputs, weights):
            slopes = inner(inputs, weights)
            return sum(jnp.sum(jnp.square(slope)) for slope in slopes)

        return of_both

    with jax.enable_x64(True):
        agree(lambda f: jax.grad(squared_gradient(f), (0, 1)), arrays(shapes), 1e-10)


def test_vmap_over_kernels():
    inputs, weights = arrays([(2, 4, 4, 2), (3, 3, 3, 2, 2)])
    gradient = jax.jit(jax.grad(objective(convolution._fast_convolution)))
    together = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(inputs, weights)
    for one, alone in zip(together, weights, strict=True):
        np.testing.assert_allclose(one, gradient(inputs, alone), rtol=1e-4, atol=1e-5)


def test_third_derivatives_against_finite_differences():
    def third(weights):
        return jax.grad(lambda w: jnp.sum(jnp.square(jax.grad(total)(w))))(weights)

    with jax.enable_x64(True):
        images, weights, direction = arrays([(9, 4, 5, 2), *[(3, 3, 2, 3)] * 2])

        def total(weights):
            seen = convolution._fast_convolution(images, weights)
            return jnp.sum(jnp.tanh(seen))

        found = jax.jit(lambda w: jax.vjp(third, w)[1](direction)[0])(weights)
        step = 1e-5 * direction
        slope = (third(weights + step) - third(weights - step)) / 2e-5
        # The derivative of a gradient is symmetric.
        np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-7)


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="2 x 3 have no middle"):
        convolution.convolve(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 3, 1, 1)))
