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

The tools here find every number in it: the ends of the Hessian's spectrum by Lanczos'
iteration (`hessian_extremes`, `curvature_near`), mu along a run
(`polyak_lojasiewicz`), the predicted factor (`predicted_factor`), and the measured one
from a line through the logarithm of the loss (`log_linear_fit`; `compare_rates` sets
them side by side).

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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.kernels._lanczos import (
    ExtremeEigenvalues,
    Tridiagonal,
    extreme_eigenvalues,
    lanczos,
)
from ddjax.kernels._log_linear import (
    LogLinearFit,
    decrease_window,
    log_linear_fit,
    longest_linear_window,
)

__all__ = [
    "ExtremeEigenvalues",
    "LocalCurvature",
    "LogLinearFit",
    "RateComparison",
    "Tridiagonal",
    "compare_rates",
    "curvature_near",
    "decrease_window",
    "extreme_eigenvalues",
    "hessian_extremes",
    "hessian_vector_product",
    "lanczos",
    "log_linear_fit",
    "longest_linear_window",
    "polyak_lojasiewicz",
    "predicted_factor",
]

Curve = Float[Array, " s"] | Float[np.ndarray, " s"]


class LocalCurvature(NamedTuple):
    """The ends of the Hessian's spectrum over points near one.

    Attributes:
      lipschitz: largest magnitude of an eigenvalue over all points: an estimate of the
        gradient's Lipschitz constant, from below, since points are sampled.
      smallest: least eigenvalue over all points.
      distances: of each point from the centre; the centre itself comes first.
      extremes: both ends at each point, with their bounds.
    """

    lipschitz: Float[Array, ""]
    smallest: Float[Array, ""]
    distances: Float[Array, " points"]
    extremes: ExtremeEigenvalues


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


# Curvature.


def hessian_vector_product(
    loss: Callable[[Any], Array], point: Any, vector: Any
) -> Any:
    """The Hessian at a point times a vector, forward over reverse.

    >>> import jax.numpy as jnp
    >>> print(hessian_vector_product(lambda z: z[0] * z[1] ** 2, jnp.array([1.0, 2.0]),
    ...                              jnp.array([0.0, 1.0])))
    [4. 2.]

    Args:
      loss: from a tree of arrays to a scalar, twice differentiable (of the forms of
        `unrolled.iterate` that is scan or doubling).
      point: the tree.
      vector: a tree like it.

    Returns:
      A tree like the point.
    """
    return jax.jvp(jax.grad(loss), (point,), (vector,))[1]


def _flat(loss: Callable[[Any], Array], point: Any) -> tuple[Callable, Array]:
    vector, unravel = ravel_pytree(point)
    return (lambda flat: loss(unravel(flat))), vector


def _extremes(
    loss: Callable[[Array], Array], point: Array, key: PRNGKeyArray, steps: int
) -> ExtremeEigenvalues:
    # Linearised once: the products then cost no second forward pass each.
    _, product = jax.linearize(jax.grad(loss), point)
    return extreme_eigenvalues(
        product, point.shape[0], key=key, steps=steps, dtype=point.dtype
    )


def hessian_extremes(
    loss: Callable[[Any], Array], point: Any, *, key: PRNGKeyArray, steps: int = 30
) -> ExtremeEigenvalues:
    """Smallest and largest eigenvalue of the Hessian at a point, by Lanczos.

    Args:
      loss: from a tree of arrays of one floating type to a scalar, twice differentiable
        (of the forms of `unrolled.iterate` that is scan or doubling).
      point: where.
      key: for the random start.
      steps: Hessian-vector products; the bounds that come back say whether they were
        enough.
    """
    flat_loss, vector = _flat(loss, point)
    return _extremes(flat_loss, vector, key, steps)


def curvature_near(
    loss: Callable[[Any], Array],
    point: Any,
    *,
    radius: float,
    points: int = 4,
    key: PRNGKeyArray,
    steps: int = 30,
) -> LocalCurvature:
    """The Hessian's extremes at a point and at random points around it.

    Estimates the L of Theorem 2.9, and shows whether the smallest eigenvalue stays
    positive, as Lemma 2.7 assumes. Directions are uniform, distances uniform up to the
    radius.

    Args:
      loss: as in `hessian_extremes`.
      point: the centre.
      radius: r, the largest distance, >= 0, Euclidean over the whole tree.
      points: how many random points besides the centre.
      key: for points and starts.
      steps: Hessian-vector products at each point.

    Raises:
      ValueError: a negative radius or number of points.
    """
    if not radius >= 0 or points < 0:
        raise ValueError(
            f"radius is {radius} and points is {points}, but both must be >= 0"
        )
    flat_loss, centre = _flat(loss, point)
    direction_key, distance_key, start_key = jax.random.split(key, 3)
    shape = (points + 1, centre.shape[0])
    directions = jax.random.normal(direction_key, shape, centre.dtype)
    directions = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    distances = radius * jax.random.uniform(distance_key, shape[:1], centre.dtype)
    distances = distances.at[0].set(0.0)
    where = centre[None, :] + distances[:, None] * directions

    def one(arguments: tuple[Array, PRNGKeyArray]) -> ExtremeEigenvalues:
        return _extremes(flat_loss, *arguments, steps)

    extremes = jax.lax.map(one, (where, jax.random.split(start_key, points + 1)))
    largest = jnp.maximum(jnp.abs(extremes.smallest), jnp.abs(extremes.largest))
    return LocalCurvature(
        lipschitz=largest.max(),
        smallest=extremes.smallest.min(),
        distances=distances,
        extremes=extremes,
    )


# Rates.


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
      lipschitz: L, such as that of `curvature_near`.

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
