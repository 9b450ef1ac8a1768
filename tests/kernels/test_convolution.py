"""The fast convolution is the ordinary one, derivatives included."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels import convolution

SHAPES = [
    ((2, 5, 4, 3), (3, 3, 3, 2)),
    ((1, 1, 6, 2), (1, 5, 2, 3)),
    ((3, 2, 2, 3), (3, 3, 3, 2)),
]


def plain(inputs, weights):
    return jax.lax.conv_general_dilated(
        inputs, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


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


def test_second_derivatives():
    def squared_gradient(convolve):
        inner = jax.grad(objective(convolve), argnums=1)
        return lambda inputs, weights: jnp.sum(jnp.square(inner(inputs, weights)))

    agree(lambda f: jax.grad(squared_gradient(f), (0, 1)), arrays(SHAPES[0]), 1e-4)


def test_vmap_over_kernels():
    inputs, weights = arrays([(2, 4, 4, 2), (3, 3, 3, 2, 2)])
    gradient = jax.jit(jax.grad(objective(convolution._fast_convolution)))
    together = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(inputs, weights)
    for one, alone in zip(together, weights, strict=True):
        np.testing.assert_allclose(one, gradient(inputs, alone), rtol=1e-4, atol=1e-5)


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="2 x 3 have no middle"):
        convolution.convolve(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 3, 1, 1)))
