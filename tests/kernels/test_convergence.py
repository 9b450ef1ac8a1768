"""Spectra against NumPy, rates against runs whose rate is known."""

import doctest
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.kernels import _lanczos, _log_linear, convergence, ridge, unrolled


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
        return convergence.extreme_eigenvalues(
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
        lambda start, key: convergence.lanczos(
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
        convergence.lanczos(lambda v: v, jnp.ones(4), key=jax.random.key(0), steps=5)
    with pytest.raises(ValueError, match="size is 0"):
        convergence.extreme_eigenvalues(lambda v: v, 0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="radius is -1"):
        convergence.curvature_near(
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
    hessian = jax.jit(jax.hessian(lambda v: loss(unravel(v))))(flat)
    values = np.linalg.eigvalsh(hessian)
    found = jax.jit(
        lambda p: convergence.hessian_extremes(loss, p, key=jax.random.key(0), steps=8)
    )(point)
    np.testing.assert_allclose(found.smallest, values[0], atol=1e-10)
    np.testing.assert_allclose(found.largest, values[-1], atol=1e-10)
    vector = unravel(jnp.cos(jnp.arange(8.0)))
    product = jax.jit(lambda p, v: convergence.hessian_vector_product(loss, p, v))(
        point, vector
    )
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(product)[0],
        hessian @ jnp.cos(jnp.arange(8.0)),
        atol=1e-10,
    )


def test_rotations_of_the_set_leave_no_strong_convexity(float64):
    """Differentiating L(Uz) = L(z): H (A z) = A grad L, which vanishes at a minimum."""
    loss, (x, y) = outer_loss()
    skew = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    along = skew @ x, skew @ y

    @jax.jit
    def both(point):
        product = convergence.hessian_vector_product(loss, point, along)
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
        lambda p: convergence.curvature_near(
            loss, p, radius=0.5, points=6, key=jax.random.key(0), steps=3
        )
    )(centre)
    assert found.distances[0] == 0.0 and found.distances.max() <= 0.5
    np.testing.assert_allclose(found.extremes.largest[0], 9.0)
    np.testing.assert_allclose(found.extremes.smallest[0], 1.0)
    assert 9.0 <= found.lipschitz <= 3.5**2 + 1e-9
    assert 0.5**2 - 1e-9 <= found.smallest <= 1.0


# Rates.


@functools.cache
def quadratic_run(alpha, steps=900):
    """Gradient descent on a quadratic with curvatures 0.5, 2 and 4."""
    curvatures = np.array([0.5, 2.0, 4.0])
    z, losses, norms = np.array([1.0, -2.0, 0.5]), [], []
    for _ in range(steps):
        losses.append(0.5 * np.sum(curvatures * z**2))
        norms.append(np.linalg.norm(curvatures * z))
        z = z - alpha * curvatures * z
    return np.array(losses), np.array(norms)


def test_theorem_on_a_quadratic():
    for alpha in (0.01, 0.1, 0.25):
        losses, norms = quadratic_run(alpha)
        constants = convergence.polyak_lojasiewicz(losses, norms, optimum=0.0)
        assert 0.5 - 1e-12 <= constants.min() and constants.max() <= 4.0
        bound = convergence.predicted_factor(
            step_size=alpha, constant=constants.min(), lipschitz=4.0
        )
        assert (losses[1:] <= bound * losses[:-1] * (1 + 1e-12)).all()
        assert bound <= 1 - alpha * constants.min()


def test_paper_constant_is_twice_too_large():
    alpha = 0.01
    losses, norms = quadratic_run(alpha)
    fit = convergence.log_linear_fit(losses, window=(500, 900))
    np.testing.assert_allclose(fit.slope, 2 * np.log(1 - alpha * 0.5), rtol=1e-3)
    constant = convergence.polyak_lojasiewicz(losses, norms, optimum=0.0)[500:].min()
    rates = convergence.compare_rates(
        fit, step_size=alpha, constant=constant, lipschitz=4.0
    )
    assert rates.holds
    assert rates.paper_constant == pytest.approx(2 * 0.5, rel=0.01)
    assert rates.implied_constant == pytest.approx(0.5, rel=0.03)
    assert rates.implied_constant >= constant
    assert rates.measured_factor <= rates.predicted_factor
    assert rates.measured_slope == fit.slope < 0
    # At alpha = 1/L the theorem's own factor.
    factor = convergence.predicted_factor(step_size=0.25, constant=1.0, lipschitz=4.0)
    assert factor == 1 - 1 / 4


def test_rates_refuse_what_the_theorem_does_not_cover():
    with pytest.raises(ValueError, match=r"2 / L = 0\.5"):
        convergence.predicted_factor(step_size=0.5, constant=1.0, lipschitz=4.0)
    with pytest.raises(ValueError, match="constant is 5"):
        convergence.predicted_factor(step_size=0.1, constant=5.0, lipschitz=4.0)
    with pytest.raises(ValueError, match="step 1 is 0.5, below the optimum 0.6"):
        convergence.polyak_lojasiewicz(
            np.array([1.0, 0.5]), np.array([1.0, 1.0]), optimum=0.6
        )
    unchecked = inspect.unwrap(convergence.polyak_lojasiewicz)
    with pytest.raises(ValueError, match="2 losses, but 1"):
        unchecked(np.ones(2), np.ones(1), optimum=0.0)


# Lines.


def curve(noise=0.0, seed=0):
    """Flat for 40 steps, falling by 0.05 a step for 100, flat for 60."""
    logarithm = -0.05 * np.clip(np.arange(200.0) - 40, 0, 100)
    return np.exp(logarithm + noise * np.random.default_rng(seed).normal(size=200))


def test_fit_agrees_with_numpy():
    losses = curve(0.3)[40:140]
    fit = convergence.log_linear_fit(losses, window=(10, 90))
    x, y = np.arange(10.0, 90.0), np.log(losses[10:90])
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    np.testing.assert_allclose([fit.slope, fit.intercept], [slope, intercept])
    np.testing.assert_allclose(fit.standard_error, np.sqrt(covariance[0, 0]))
    np.testing.assert_allclose(fit.r_squared, np.corrcoef(x, y)[0, 1] ** 2)
    assert (fit.start, fit.stop) == (10, 90)
    # Independent noise hardly changes the error, a smooth bend multiplies it.
    assert fit.corrected_standard_error < 1.3 * fit.standard_error
    bent = convergence.log_linear_fit(curve()[:140])
    assert bent.corrected_standard_error > 3 * bent.standard_error


def test_fit_above_an_optimum():
    losses = 2.0 + 3.0 * np.exp(-0.1 * np.arange(50))
    fit = convergence.log_linear_fit(losses, optimum=2.0)
    np.testing.assert_allclose([fit.slope, fit.r_squared], [-0.1, 1.0])
    assert fit.standard_error < 1e-12
    assert convergence.log_linear_fit(np.ones(5)).r_squared == 0.0


def test_longest_linear_window_finds_the_line():
    assert convergence.longest_linear_window(curve(), r_squared=0.99999) == (40, 141)
    start, stop = convergence.longest_linear_window(curve(0.02))
    assert start < 40 and stop > 140
    fit = convergence.log_linear_fit(curve(0.02), window=(start, stop))
    assert fit.r_squared >= 0.99


@given(seed=st.integers(0, 1000), level=st.sampled_from([0.5, 0.9, 0.99]))
def test_longest_linear_window_is_the_longest(seed, level):
    draw = np.random.default_rng(seed)
    losses = np.exp(np.cumsum(draw.normal(-0.3, 1.0, size=20)))

    def share(start, stop):
        fit = convergence.log_linear_fit(losses, window=(start, stop))
        return fit.r_squared if fit.slope < 0 else 0.0

    good = [
        (b - a, share(a, b), a)
        for a in range(20)
        for b in range(a + 4, 21)
        if share(a, b) >= level
    ]
    if not good:
        with pytest.raises(ValueError, match="no window of 4 steps"):
            convergence.longest_linear_window(losses, r_squared=level, shortest=4)
        return
    length, _, start = max(good)
    found = convergence.longest_linear_window(losses, r_squared=level, shortest=4)
    assert found == (start, start + length)


def test_decrease_window():
    assert convergence.decrease_window(curve()) == (50, 131)
    noisy = convergence.decrease_window(curve(0.02))
    assert abs(noisy[0] - 50) < 5 and abs(noisy[1] - 131) < 5


def test_bad_curves_are_named():
    with pytest.raises(ValueError, match="the loss at step 1 is 0, but"):
        convergence.log_linear_fit(np.array([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"the window is \(2, 4\)"):
        convergence.log_linear_fit(np.ones(5), window=(2, 4))
    with pytest.raises(ValueError, match="shortest window is 2 steps"):
        convergence.longest_linear_window(np.ones(20), shortest=2)
    with pytest.raises(ValueError, match="never falls"):
        convergence.decrease_window(np.arange(1.0, 9.0))
    with pytest.raises(ValueError, match="levels are 0.1 and 0.9"):
        convergence.decrease_window(curve(), upper=0.1, lower=0.9)
    with pytest.raises(ValueError, match="within 1 steps"):
        convergence.decrease_window(np.array([1.0, 0.1, 0.1]))


def test_examples_in_the_docstrings():
    for module in (convergence, _lanczos, _log_linear):
        failed, attempted = doctest.testmod(module)
        assert attempted > 0 and failed == 0
