"""Divided differences of the power agree with exact rational sums."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax.kernels._power_differences import power_differences

# Coinciding, almost coinciding, zero (shift 1) and negative (shift > 1) numbers.
SHIFTS = (0.0, 0.0, 1e-12, 1e-3, 1e-3 + 1e-9, 0.5, 1.0, 1.0 + 1e-10, 1.7, 1.999)


def exact(shifts, fixed, steps):
    """The sums themselves, in rational numbers."""
    mu = [1 - Fraction(e) for e in shifts]
    powers = [[m**k for k in range(steps + 1)] for m in mu]
    fixed_powers = [(1 - Fraction(fixed)) ** k for k in range(steps + 1)]

    def two(a, b):
        return sum(a[k] * b[steps - 1 - k] for k in range(steps))

    def three(a, b, c):
        return sum(
            a[i] * b[j] * c[steps - 2 - i - j]
            for i in range(steps - 1)
            for j in range(steps - 1 - i)
        )

    return (
        np.array([float(p[steps]) for p in powers]),
        np.array([[float(two(p, q)) for q in powers] for p in powers]),
        np.array([float(two(p, fixed_powers)) for p in powers]),
        np.array([[float(three(p, q, fixed_powers)) for q in powers] for p in powers]),
    )


compiled = jax.jit(power_differences)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 13])
@pytest.mark.parametrize("fixed", [0.0, 0.3])
def test_sums_in_rational_numbers(steps, fixed):
    with jax.enable_x64(True):
        found = compiled(np.array(SHIFTS), np.array(fixed), np.int32(steps))
        for mine, wanted in zip(found, exact(SHIFTS, fixed, steps), strict=True):
            scale = max(np.abs(wanted).max(), 1e-300)
            np.testing.assert_allclose(mine / scale, wanted / scale, atol=3e-15)


def test_many_steps_keep_their_digits():
    """Against the closed forms at the few points where these are accurate."""
    with jax.enable_x64(True):
        steps, e = 10**6, 1e-6
        found = compiled(np.array([0.0, e, 1.0]), np.array(0.0), np.int32(steps))
        power = np.exp(steps * np.log1p(-e))
        np.testing.assert_allclose(found.powers, [1.0, power, 0.0], rtol=1e-14)
        np.testing.assert_allclose(
            found.with_fixed, [steps, (1 - power) / e, 1.0], rtol=1e-14
        )
        half = steps * (steps - 1) / 2
        np.testing.assert_allclose(found.second[0, 0], half, rtol=1e-14)
        np.testing.assert_allclose(
            found.second[0, 1], (steps - (1 - power) / e) / e, rtol=1e-13
        )
        np.testing.assert_allclose(found.second[0, 2], steps - 1, rtol=1e-14)
        np.testing.assert_array_equal(found.second, found.second.T)


def test_more_steps_do_not_compile_again():
    before = compiled._cache_size()
    for steps in (0, 5, 10**9):
        found = compiled(
            jnp.array([0.1, 0.5], jnp.float32),
            jnp.array(0.0, jnp.float32),
            jnp.array(steps, jnp.int32),
        )
        assert all(np.isfinite(part).all() for part in found)
    assert compiled._cache_size() == before + 1
