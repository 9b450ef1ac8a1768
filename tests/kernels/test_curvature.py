"""Eigenvalues and Hessians against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.kernels import curvature, ridge, unrolled


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def symmetric(eigenvalues, seed=0):
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(len(eigenvalues),) * 2))[0]
    return (basis * eigenvalues) @ basis.T


@functools.cache
def ends(size, steps):
    def of(matrix, key):
        return curvature.extreme_eigenvalues(
            lambda v: matrix @ v, size, key=key, steps=steps, dtype=matrix.dtype
        )

    return jax.jit(of)


# Lanczos.


@pytest.mark.parametrize(
    "eigenvalues",
    [
        np.linspace(-2.0, 5.0, 12),
        np.repeat([1.0, 3.0], 6),
        np.ones(12),
        np.zeros(12),
        np.r_[np.zeros(10), 1e-9, 1e3],
    ],
    ids=["spread", "repeated", "identity", "zero", "wide range"],
)
def test_all_steps_give_the_spectrum(eigenvalues, float64):
    matrix = jnp.asarray(symmetric(eigenvalues))
    found = ends(12, 12)(matrix, jax.random.key(0))
    scale = max(np.abs(eigenvalues).max(), 1.0)
    np.testing.assert_allclose(found.smallest, eigenvalues.min(), atol=1e-13 * scale)
    np.testing.assert_allclose(found.largest, eigenvalues.max(), atol=1e-13 * scale)
    assert max(found.smallest_bound, found.largest_bound) < 1e-13 * scale


def test_decomposition(float64):
    matrix = jnp.asarray(symmetric(np.linspace(-1.0, 4.0, 20)))
    found = jax.jit(
        lambda start, key: curvature.lanczos(
            lambda v: matrix @ v, start, key=key, steps=8
        )
    )(jnp.ones(20), jax.random.key(1))
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(8), atol=1e-14)
    tridiagonal = np.diag(found.diagonal)
    tridiagonal += np.diag(found.off_diagonal, 1) + np.diag(found.off_diagonal, -1)
    projected = found.basis @ matrix @ found.basis.T
    np.testing.assert_allclose(projected, tridiagonal, atol=1e-13)
    rest = matrix @ found.basis.T - found.basis.T @ tridiagonal
    np.testing.assert_allclose(rest[:, :-1], 0.0, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(rest[:, -1]), found.remainder)


@given(seed=st.integers(0, 1000))
def test_bounds_hold(seed):
    draw = np.random.default_rng(seed)
    matrix = draw.normal(size=(30, 30)).astype(np.float32)
    matrix = matrix + matrix.T
    values = np.linalg.eigvalsh(matrix.astype(np.float64))
    found = ends(30, 8)(jnp.asarray(matrix), jax.random.key(seed))
    noise = 1e-5 * np.abs(values).max()
    found = [float(part) for part in found]
    for ritz, bound in zip(found[:2], found[2:], strict=True):
        assert np.abs(values - ritz).min() <= bound + noise
        assert values[0] - noise <= ritz <= values[-1] + noise


def test_ends_of_a_large_spectrum_converge_first(float64):
    eigenvalues = np.r_[-3.0, np.linspace(-1.0, 1.0, 198), 3.0]
    found = ends(200, 30)(jnp.asarray(symmetric(eigenvalues)), jax.random.key(2))
    assert abs(found.smallest + 3) < 1e-8 and abs(found.largest - 3) < 1e-8
    assert max(found.smallest_bound, found.largest_bound) < 1e-3


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="steps is 5, but must be from 1 to 4"):
        curvature.lanczos(lambda v: v, jnp.ones(4), key=jax.random.key(0), steps=5)
    with pytest.raises(ValueError, match="size is 0"):
        curvature.extreme_eigenvalues(lambda v: v, 0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="radius is -1"):
        curvature.curvature_near(
            jnp.sum, jnp.ones(2), radius=-1.0, key=jax.random.key(0)
        )


# Hessians.


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


def test_hessian_extremes_of_an_outer_loss(float64):
    loss, point = outer_loss()
    flat, unravel = jax.flatten_util.ravel_pytree(point)
    direction = np.cos(np.arange(8.0))

    @jax.jit
    def everything(point):
        vector = unravel(jnp.asarray(direction))
        product = curvature.hessian_vector_product(loss, point, vector)
        return (
            jax.hessian(lambda v: loss(unravel(v)))(flat),
            curvature.hessian_extremes(loss, point, key=jax.random.key(0), steps=8),
            jax.flatten_util.ravel_pytree(product)[0],
        )

    hessian, found, product = everything(point)
    values = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(found.smallest, values[0], atol=1e-10)
    np.testing.assert_allclose(found.largest, values[-1], atol=1e-10)
    np.testing.assert_allclose(product, hessian @ direction, atol=1e-10)


def test_rotations_of_the_set_leave_no_strong_convexity(float64):
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


def test_curvature_near_a_point(float64):
    def loss(z):
        return jnp.sum(z**4) / 12  # Hessian diag(z²)

    centre = jnp.array([3.0, 1.0, 2.0])
    found = jax.jit(
        lambda p: curvature.curvature_near(
            loss, p, radius=0.5, points=6, key=jax.random.key(0), steps=3
        )
    )(centre)
    assert found.distances[0] == 0.0 and found.distances.max() <= 0.5
    np.testing.assert_allclose(found.extremes.largest[0], 9.0)
    np.testing.assert_allclose(found.extremes.smallest[0], 1.0)
    assert 9.0 <= found.lipschitz <= 3.5**2 + 1e-9
    assert 0.5**2 - 1e-9 <= found.smallest <= 1.0
