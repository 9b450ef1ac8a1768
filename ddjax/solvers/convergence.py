r"""How fast gradient descent on an outer loss must converge, and how fast it did.

For a loss L(z) with an L-Lipschitz gradient near a local minimum of value
:math:`\mathcal{L}^*` that satisfies the Polyak-Lojasiewicz inequality there with the
constant mu, steps of size :math:`\alpha \le 1/L` give

.. math::
    \tfrac12 \lVert \nabla\mathcal{L} \rVert^2 \ge
      \mu\,(\mathcal{L} - \mathcal{L}^*)
    \quad\Longrightarrow\quad
    \mathcal{L}_{s+1} - \mathcal{L}^* \le
      \big(1 - \alpha\mu(2 - \alpha L)\big) (\mathcal{L}_s - \mathcal{L}^*)
      \le (1 - \alpha\mu)(\mathcal{L}_s - \mathcal{L}^*) .

L comes from the Hessian's spectrum (`ddjax.solvers.curvature`). The tools here find the
other numbers: mu along a run (`polyak_lojasiewicz`), the predicted factor
(`predicted_factor`), and the measured one from a line through the logarithm of the loss
(`log_linear_fit`; `compare_rates` sets them side by side). In float64 on the host, from
the curves of a run.

Source: "Toward Dataset Distillation for Regression Problems", Lemmas 2.4, 2.7 and 2.8,
Theorem 2.9, after Karimi et al. (2016). What the paper says, and what holds:

- Theorem 2.9 states the factor :math:`1 - (\lambda_O - M)/L` for every
  :math:`\alpha \le 1/L`. It belongs to :math:`\alpha = 1/L`; a smaller step has the
  factor above. And M is not "the minimum eigenvalue of the Hessian of L": -M is a lower
  bound on the Hessian of L without its regulariser, and :math:`\mu = \lambda_O - M`.
- The paper reads off :math:`\mu_T = (1 - e^{slope})/\alpha`. The bound
  :math:`1 - \alpha\mu` is loose: near a minimum with curvature mu the loss falls by
  :math:`(1 - \alpha\mu)^2` per step, as :math:`1 - \alpha\mu(2 - \alpha L)` says for
  small alpha. What a slope implies is :math:`\mu \le (1 - e^{slope}) /
  (\alpha(2 - \alpha L))`, about half of the paper's number.
- The updates follow the gradient of the sum over Q draws of initial weights. L and mu
  are then those of the sum (Q times those of the mean), and so is the limit on alpha.
- The condition M < lambda_O of Lemma 2.7 cannot hold at a minimum over inputs and
  targets together. For orthogonal U the sets (U X, U Y) train to the same weights and
  have the same norms, so that the Hessian at a minimum has the null vectors (A X, A Y),
  A skew: the loss is nowhere strongly convex as soon as m >= 2 and the set is not zero.
  Over X alone the same holds for the U that leave Y in place. The inequality of
  Lemma 2.8 can hold all the same, and mu is then measured, not computed as
  lambda_O - M.
- With the initial weights kept, the loss is a polynomial of degree 4T in X (theta_T has
  2T); 4T - 2 is the degree without them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ddjax.solvers._log_linear import (
    LogLinearFit,
    decrease_window,
    log_linear_fit,
    longest_linear_window,
)

__all__ = [
    "LogLinearFit",
    "RateComparison",
    "compare_rates",
    "decrease_window",
    "log_linear_fit",
    "longest_linear_window",
    "polyak_lojasiewicz",
    "predicted_factor",
]

Curve = Float[Array, " s"] | Float[np.ndarray, " s"]


class RateComparison(NamedTuple):
    """Prediction and measurement side by side.

    Attributes:
      predicted_factor: 1 - alpha mu (2 - alpha L), by which the loss above its optimum
        has to shrink in a step at least.
      measured_factor: e^slope.
      predicted_slope: logarithm of the former (minus infinity for 0).
      measured_slope: of the fit.
      implied_constant: the mu for which the measured factor would be the predicted one;
        mu cannot be larger.
      paper_constant: (1 - e^slope) / alpha, the paper's mu_T.
      holds: whether the loss fell at least as fast as predicted, to within two
        corrected standard errors of the slope.
    """

    predicted_factor: float
    measured_factor: float
    predicted_slope: float
    measured_slope: float
    implied_constant: float
    paper_constant: float
    holds: bool


def polyak_lojasiewicz(
    losses: Curve, gradient_norms: Curve, *, optimum: float
) -> Float[np.ndarray, " s"]:
    r"""The constant of Lemma 2.8 at each step of a run.

    .. math::
        \mu_s = \frac{\lVert \nabla\mathcal{L}_s \rVert^2}
                     {2\,(\mathcal{L}_s - \mathcal{L}^*)} .

    The constant of a stretch of the run is the least of them; it is an upper bound on
    that of the region around it. In float64 on the host.

    >>> losses, norms = np.array([2.0, 0.5]), np.array([4.0, 2.0])
    >>> print(polyak_lojasiewicz(losses, norms, optimum=0.0))
    [4. 4.]

    Args:
      losses: L_s.
      gradient_norms: Euclidean norms of the gradients at the same points.
      optimum: value of the local minimum (that of a longer run, say).

    Returns:
      One constant per step; infinite where the loss is the optimum.

    Raises:
      ValueError: a loss below the optimum, or curves of different lengths.
    """
    gaps = np.asarray(losses, np.float64) - optimum
    norms = np.asarray(gradient_norms, np.float64)
    if gaps.shape != norms.shape:
        raise ValueError(f"{len(gaps)} losses, but {len(norms)} gradient norms")
    if not (gaps >= 0).all():
        worst = int(np.argmin(gaps))
        raise ValueError(
            f"the loss at step {worst} is {gaps[worst] + optimum:.9g}, below the "
            f"optimum {optimum:.9g}"
        )
    safe = np.where(gaps > 0, gaps, 1.0)
    return np.where(gaps > 0, np.square(norms) / (2.0 * safe), np.inf)


def predicted_factor(*, step_size: float, constant: float, lipschitz: float) -> float:
    r"""By what the loss above its optimum shrinks in a step of gradient descent.

    .. math:: 1 - \alpha\mu(2 - \alpha L), \qquad 0 < \alpha < 2 / L,

    at most; it is :math:`1 - \mu/L` at :math:`\alpha = 1/L` and lies below the paper's
    :math:`1 - \alpha\mu` for smaller steps.

    >>> f"{predicted_factor(step_size=0.5, constant=1.0, lipschitz=2.0):.2f}"
    '0.50'

    Args:
      step_size: alpha.
      constant: mu, 0 <= mu <= L.
      lipschitz: L.

    Raises:
      ValueError: a step size from 2 / L on, for which nothing is predicted, or a
        constant outside [0, L].
    """
    if not 0 < step_size * lipschitz < 2:
        raise ValueError(
            f"the step size is {step_size:.6g}, but the theorem needs one between 0 "
            f"and 2 / L = {2 / lipschitz:.6g}"
        )
    if not 0 <= constant <= lipschitz * (1 + 1e-6):
        raise ValueError(
            f"the constant is {constant:.6g}, but lies between 0 and "
            f"L = {lipschitz:.6g}"
        )
    return 1.0 - step_size * constant * (2.0 - step_size * lipschitz)


def compare_rates(
    fit: LogLinearFit, *, step_size: float, constant: float, lipschitz: float
) -> RateComparison:
    """Theorem 2.9 beside a run.

    Args:
      fit: line through the logarithm of the loss above its optimum, per outer step.
      step_size: alpha of the run.
      constant: mu, such as the least of `polyak_lojasiewicz` over the fit's window.
      lipschitz: L, such as that of `ddjax.solvers.curvature.curvature_near`.

    Raises:
      ValueError: as in `predicted_factor`.
    """
    predicted = predicted_factor(
        step_size=step_size, constant=constant, lipschitz=lipschitz
    )
    fallen = -float(np.expm1(fit.slope))
    slope = float(np.log(predicted)) if predicted > 0 else -np.inf
    return RateComparison(
        predicted_factor=predicted,
        measured_factor=float(np.exp(fit.slope)),
        predicted_slope=slope,
        measured_slope=fit.slope,
        implied_constant=fallen / (step_size * (2.0 - step_size * lipschitz)),
        paper_constant=fallen / step_size,
        holds=bool(fit.slope <= slope + 2.0 * fit.corrected_standard_error),
    )
