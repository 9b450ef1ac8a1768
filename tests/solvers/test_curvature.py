"""Ends of a Hessian's spectrum against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ddjax.kernels import ridge, unrolled
from ddjax.solvers import curvature


def symmetric(eigenvalues, seed=0):
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(len(eigenvalues),) * 2))[0]
    return (basis * eigenvalues) @ basis.T


@pytest.mark.parametrize(
    "eigenvalues",
    [
        np.linspace(-2.0, 5.0, 12),
        np.linspace(-5.0, 2.0, 40),
        np.repeat([1.0, 3.0], 20),
        np.ones(40),
        np.zeros(40),
        np.r_[np.zeros(40), 1e-9, 1e3],
        np.r_[-3.0, np.linspace(-1.0, 1.0, 198), 3.0],
    ],
    ids=["few", "spread", "repeated", "identity", "zero", "wide range", "large"],
)
def test_ends_of_the_spectrum(eigenvalues, x64):
    matrix = jnp.asarray(symmetric(eigenvalues))
    found = curvature.hessian_extremes(
        lambda z: 0.5 * z @ matrix @ z, jnp.ones(len(matrix)), tolerance=1e-10
    )
    scale = max(np.abs(eigenvalues).max(), 1.0)
    wanted = eigenvalues.min(), eigenvalues.max()
    np.testing.assert_allclose(found, wanted, atol=1e-9 * scale)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="radius is -1"):
        curvature.curvature_near(jnp.sum, jnp.ones(2), radius=-1.0)


def outer_loss(steps=6):
    """Of a small distilled set, over its inputs and targets, from statistics."""
    draw = np.random.default_rng(0)
    rows, answers = draw.normal(size=(20, 3)), draw.normal(size=(20,))
    statistics = ridge.sufficient_statistics(jnp.asarray(rows), jnp.asarray(answers))
    start = jnp.asarray(draw.normal(size=3))

    def loss(distilled):
        x, y = distilled
        theta = unrolled.iterate(x, y, start, step_size=0.3, ridge=0.01, steps=steps)
        fit = ridge.squared_loss_from_statistics(theta, statistics) / statistics.count
        return fit + 0.005 * (jnp.sum(jnp.square(x)) + jnp.sum(jnp.square(y)))

    return loss, (jnp.asarray(draw.normal(size=(2, 3))), jnp.asarray([1.0, -1.0]))


def test_hessian_extremes_over_a_tree(x64):
    def loss(point):
        x, y = point
        return jnp.sum(jnp.sin(x) ** 2) + jnp.sum(y) * jnp.sum(x[0]) + jnp.sum(y**4)

    point = jnp.linspace(-1.0, 2.0, 6).reshape(2, 3), jnp.array([1.0, -1.0])
    flat, unravel = ravel_pytree(point)
    hessian = jax.jit(jax.hessian(lambda v: loss(unravel(v))))(flat)
    values = np.linalg.eigvalsh(hessian)
    found = curvature.hessian_extremes(loss, point)
    np.testing.assert_allclose(found, (values[0], values[-1]), atol=1e-10)


def test_rotations_of_the_set_leave_no_strong_convexity(x64):
    """Differentiating L(Uz) = L(z): H (A z) = A grad L, which vanishes at a minimum."""
    loss, (x, y) = outer_loss()
    skew = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    along = skew @ x, skew @ y

    @jax.jit
    def both(point):
        product = curvature.hessian_vector_product(loss, point, along)
        return product, jax.grad(loss)(point)

    (in_x, in_y), (gradient_x, gradient_y) = both((x, y))
    np.testing.assert_allclose(in_x, skew @ gradient_x, atol=1e-12)
    np.testing.assert_allclose(in_y, skew @ gradient_y, atol=1e-12)
    np.testing.assert_allclose(
        jnp.sum(gradient_x * along[0]) + jnp.sum(gradient_y * along[1]), 0.0, atol=1e-12
    )


def test_curvature_near_a_point(x64):
    def loss(z):
        return jnp.sum(z**4) / 12  # Hessian diag(z²)

    centre = jnp.array([3.0, 1.0, 2.0])
    found = curvature.curvature_near(loss, centre, radius=0.5, points=6)
    assert found.distances[0] == 0.0 and 0 < max(found.distances) <= 0.5
    np.testing.assert_allclose(found.extremes[0], (1.0, 9.0))
    assert 9.0 <= found.lipschitz <= 3.5**2 + 1e-9
    assert 0.5**2 - 1e-9 <= found.smallest <= 1.0
