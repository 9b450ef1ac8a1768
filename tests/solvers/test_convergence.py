"""Rates against runs whose rate is known, lines against NumPy."""

import functools
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.solvers import convergence

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
