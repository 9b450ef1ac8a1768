r"""Newton's method in sample space, in float64: the solver for up to a few thousand.

The weights are :math:`\theta = \Phi^\top \beta/\lambda`, the predictions
:math:`f = K\beta/\lambda`, and at the optimum :math:`\beta` equals the dual variables
:math:`a = -\nabla\ell(f)`. With :math:`r = \beta - a`, the gap of a smooth loss is
:math:`r^\top K r/(2\lambda)`, in which nothing cancels, and the Newton step is

.. math::
    d = -(I + W K/\lambda)^{-1} r ,

with W the second derivative of the losses. For softmax, W couples the outputs of a
sample and the step stays exact (as in the Laplace approximation of Rasmussen and
Williams, "Gaussian Processes for Machine Learning", algorithm 3.3).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddjax.kernels.losses import Loss
from ddjax.solvers._linear import one_thread_if_small, separate_solver, simplex_solver
from ddjax.solvers._losses import evaluate, slope_along

__all__ = [
    "Found",
    "line_search",
    "newton",
    "small_enough",
]


# Steps in a row in which neither the gap nor the primal objective falls.
_IDLE_STEPS = 15


class Found(NamedTuple):
    """Where a solver stopped.

    Attributes:
      coefficients: the solver's own variable, `(n or p, c)` float64.
      duals: feasible dual variables `(n, c)`.
      gap: duality gap of the two.
      primal: primal objective.
      iterations: Newton or quasi-Newton steps.
      floor: gap that rounding of the losses alone can leave.
    """

    coefficients: np.ndarray
    duals: np.ndarray
    gap: float
    primal: float
    iterations: int
    floor: float = 0.0


def small_enough(found: Found, tolerance: float) -> bool:
    """Whether the gap is within tolerance of the primal objective, or rounding."""
    smallest = max(found.floor, float(np.finfo(np.float64).tiny))
    return bool(found.gap <= max(tolerance * abs(found.primal), smallest))


def line_search(slope: Callable[[np.ndarray], np.ndarray], columns: int) -> np.ndarray:
    """Steps at which the derivative of a convex function has fallen to a third.

    Args:
      slope: `(1, c)` steps to the `(c,)` derivatives, non-decreasing in each.
      columns: c; columns are searched side by side.

    Returns:
      `(1, c)` steps; 0 where the derivative at 0 is not negative.
    """
    start = slope(np.zeros((1, columns)))
    step = np.where(start < 0, 1.0, 0.0)
    low, high = np.zeros(columns), np.full(columns, np.inf)
    for _ in range(60):
        now = slope(step[None, :])
        busy = (start < 0) & (np.abs(now) > 0.3 * np.abs(start))
        if not busy.any():
            break
        low = np.where(busy & (now < 0), step, low)
        high = np.where(busy & (now > 0), step, high)
        middle = np.where(np.isinf(high), 2.0 * step, 0.5 * (low + high))
        step = np.where(busy, middle, step)
    return step[None, :]


@one_thread_if_small
def newton(
    gram: np.ndarray,
    targets: np.ndarray,
    *,
    loss: Loss,
    ridge: float,
    tolerance: float,
    max_iterations: int,
) -> Found:
    """Minimises the regularised risk of a smooth loss over sample-space coefficients.

    Args:
      gram: `(n, n)` float64, positive semi-definite.
      targets: `(n, c)` float64.
      loss: a smooth loss.
      ridge: lambda > 0.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of Newton steps.

    Returns:
      The point with the smallest gap; coefficients are beta, `(n, c)`.
    """
    beta = np.zeros_like(targets)
    coupled = loss.kind == "multiclass"
    solver = simplex_solver if coupled else separate_solver
    best, lowest, idle = None, math.inf, 0
    for iteration in range(max_iterations + 1):
        predictions = gram @ beta / ridge
        local = evaluate(targets, predictions, loss=loss)
        residual = beta - local.duals
        gap = float(np.sum(residual * (gram @ residual))) / (2.0 * ridge)
        primal = local.loss + 0.5 * float(np.sum(beta * predictions))
        # The gap need not fall in every step, the primal objective does until only
        # rounding is left.
        falls = primal < lowest - 1e-13 * abs(lowest) or lowest == math.inf
        idle = 0 if falls or best is None or gap < best.gap else idle + 1
        lowest = min(lowest, primal)
        if best is None or gap < best.gap:
            best = Found(beta, local.duals, max(gap, 0.0), primal, iteration)
        done = small_enough(best, tolerance) or iteration == max_iterations
        if done or idle >= _IDLE_STEPS:
            break
        step = solver(gram, local.curvature, ridge)(-residual)
        direction = gram @ step / ridge
        beta = beta + step * _step_size(
            targets, beta, predictions, step, direction, loss=loss, coupled=coupled
        )
    assert best is not None
    return best._replace(iterations=iteration)


def _step_size(
    targets: np.ndarray,
    beta: np.ndarray,
    predictions: np.ndarray,
    step: np.ndarray,
    direction: np.ndarray,
    *,
    loss: Loss,
    coupled: bool,
) -> np.ndarray:
    """Line search along a Newton step, per output where outputs are separate."""
    linear = np.sum(beta * direction, axis=0)
    quadratic = np.sum(step * direction, axis=0)

    def slope(size: np.ndarray) -> np.ndarray:
        moved = slope_along(targets, predictions, direction, size, loss=loss)
        slopes = moved + linear + size[0] * quadratic
        return np.full_like(slopes, slopes.sum()) if coupled else slopes

    return line_search(slope, targets.shape[1])
