r"""Divided differences of the power :math:`x^T`, free of division and cancellation.

For numbers :math:`\mu = 1 - e` that are given by their distance e from one,

.. math::
    P[a, b] = \frac{a^T - b^T}{a - b} = \sum_{k<T} a^k b^{T-1-k},
    \qquad
    P[a, b, c] = \frac{P[a, c] - P[b, c]}{a - b},

with the limits where arguments coincide. The quotients lose every digit when arguments
are close, and the sums have T terms. Both are built up here over the binary digits of
T, with Leibniz' rule for the product of two powers,

.. math::
    P_{2t}[a, b] &= P_t[a, b]\,(a^t + b^t), \\
    P_{2t}[a, b, c] &= a^t P_t[a, b, c] + P_t[a, b] P_t[b, c] + P_t[a, b, c]\, c^t,

so that between 0 and 1 nothing but positive numbers is ever added.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["PowerDifferences", "power_differences"]


class PowerDifferences(NamedTuple):
    """The power and its divided differences at mu_i = 1 - shifts_i and f = 1 - fixed.

    Attributes:
      powers: mu_i^T.
      first: P[mu_i, mu_j].
      with_fixed: P[mu_i, f].
      second: P[mu_i, mu_j, f].
    """

    powers: Float[Array, " k"]
    first: Float[Array, "k k"]
    with_fixed: Float[Array, " k"]
    second: Float[Array, "k k"]


class _Partial(NamedTuple):
    """At the power t so far: 1 - mu^t (exact where mu is near one), and differences."""

    complement: Array
    fixed_complement: Array
    first: Array
    with_fixed: Array
    second: Array


def _pairwise_mean(values: Array) -> Array:
    """(v_i + v_j) / 2."""
    return 0.5 * (values[:, None] + values[None, :])


def _double(partial: _Partial) -> _Partial:
    """From t to 2 t, symmetrised in i and j."""
    power, fixed = 1.0 - partial.complement, 1.0 - partial.fixed_complement
    return _Partial(
        complement=partial.complement * (2.0 - partial.complement),
        fixed_complement=partial.fixed_complement * (2.0 - partial.fixed_complement),
        first=2.0 * partial.first * _pairwise_mean(power),
        with_fixed=partial.with_fixed * (power + fixed),
        second=partial.second * (_pairwise_mean(power) + fixed)
        + partial.first * _pairwise_mean(partial.with_fixed),
    )


def _increase(partial: _Partial, shifts: Array, fixed: Array) -> _Partial:
    """From t to t + 1."""
    power = 1.0 - partial.complement
    return _Partial(
        complement=partial.complement + shifts * power,
        fixed_complement=partial.fixed_complement
        + fixed * (1.0 - partial.fixed_complement),
        first=_pairwise_mean(power) + partial.first * (1.0 - _pairwise_mean(shifts)),
        with_fixed=power + partial.with_fixed * (1.0 - fixed),
        second=partial.first + partial.second * (1.0 - fixed),
    )


def power_differences(
    shifts: Float[Array, " k"], fixed: Float[Array, ""], steps: Int[Array, ""]
) -> PowerDifferences:
    """All differences at once, in O(k² log T); not differentiable in reverse.

    Args:
      shifts: e_i in [0, 2]: the numbers are mu_i = 1 - e_i.
      fixed: the shift of the argument f that all second differences share.
      steps: T >= 0; its binary digits are walked through at run time.
    """
    k, dtype = shifts.shape[0], shifts.dtype
    bits = jnp.iinfo(steps.dtype).bits - jax.lax.clz(steps).astype(jnp.int32)

    def one_bit(i: Array, partial: _Partial) -> _Partial:
        doubled = _double(partial)
        odd = jax.lax.shift_right_logical(steps, (bits - 1 - i).astype(steps.dtype)) & 1
        return jax.tree.map(
            lambda up, same: jnp.where(odd == 1, up, same),
            _increase(doubled, shifts, fixed),
            doubled,
        )

    start = _Partial(
        complement=jnp.zeros((k,), dtype),
        fixed_complement=jnp.zeros((), dtype),
        first=jnp.zeros((k, k), dtype),
        with_fixed=jnp.zeros((k,), dtype),
        second=jnp.zeros((k, k), dtype),
    )
    end = jax.lax.fori_loop(0, bits, one_bit, start)
    return PowerDifferences(1.0 - end.complement, end.first, end.with_fixed, end.second)
