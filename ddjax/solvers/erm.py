r"""Regularised empirical risk minimisation, stopped and certified by the duality gap.

.. math::
    \min_\theta \; P(\theta) = \sum_i \ell(y_i, \phi_i^\top\theta)
    + \tfrac{\lambda}{2}\|\theta\|^2

for every loss of `ddjax.kernels.losses`. Losses are summed, not averaged; the
`LogisticRegression` and `LinearSVC` of scikit-learn, without intercept, solve the same
problem with `C = 1/ridge`.

A solution carries feasible dual variables and the gap between the two, evaluated in
float64; by strong convexity the weights lie within
:math:`\sqrt{2\,\mathrm{gap}/\lambda}` of the optimum. Which algorithm runs depends on
the sizes only:

- up to 3000 samples (1200 for the multiclass losses), in sample space in float64:
  Newton for smooth losses, an interior-point method for losses with kinks;
- more samples: L-BFGS with a subsampled Hessian as preconditioner, with float32
  products when the features are float32; for losses with kinks a growing working set
  of support vectors first.

Numbers: certified relative gaps of 1e-8 are reached in sample space for
:math:`\|\phi\|^2/\lambda` up to about 1e6 (unit features with a ridge of 1e-6 per
sample stand at 1e6 and below), with well-separated samples far beyond; where rows
repeat or the Gram matrix is singular, rounding in :math:`K/\lambda` can keep the
gap from closing. With float32 products the gap cannot be brought far below 1e-9 of the
primal objective.

A solution says whether it is one: `converged`, with the gap reached, the tolerance that
was asked for and the iterations taken. With `require_convergence=True` one that is not
raises `NotConverged`.

The solvers run on the host (SciPy); they are not jittable and not differentiable.

>>> import numpy as np
>>> features, labels = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0])
>>> found = solve(features, labels, loss="hinge", ridge=0.5)
>>> print(found.weights.round(4), found.converged, found.gap < 1e-6)
[ 0.5 -1. ] True True
"""

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.kernels.losses import Loss, as_loss, check_targets
from ddjax.solvers._features import Features
from ddjax.solvers._interior import interior_point
from ddjax.solvers._linear import cholesky_with_jitter
from ddjax.solvers._losses import evaluate, slack
from ddjax.solvers._newton import Found, newton, small_enough
from ddjax.solvers._quasi_newton import quasi_newton
from ddjax.solvers._working_set import working_set

__all__ = ["KernelSolution", "NotConverged", "Solution", "solve", "solve_kernel"]

# For the solvers in sample space, whose cost grows with the cube of the samples.
_MOST_SAMPLES = 3000
_MOST_SAMPLES_MULTICLASS = 1200
# The largest working set; one of a multiclass loss is limited as above.
_MOST_SUPPORT_VECTORS = 4000
_TINY = float(np.finfo(np.float64).tiny)

_Real = Array | ndarray


class Solution(NamedTuple):
    r"""Weights with their certificate.

    Attributes:
      weights: :math:`\theta`, `(p,)` or `(p, c)`, float64 on the host.
      duals: feasible dual variables, like the targets, float64.
      gap: primal minus dual objective of the two, >= 0, evaluated in float64.
      primal: primal objective.
      iterations: Newton, interior-point or quasi-Newton steps.
      tolerance: that was asked for, on the gap relative to the primal objective.
      converged: whether the gap is within tolerance.
    """

    weights: Float[ndarray, "p *c"]
    duals: Float[ndarray, "n *c"]
    gap: float
    primal: float
    iterations: int
    tolerance: float
    converged: bool


class KernelSolution(NamedTuple):
    r"""A solution in the span of the samples, for kernels.

    Attributes:
      coefficients: b in :math:`f(x) = \sum_i k(x, x_i) b_i`, `(n,)` or `(n, c)`,
        float64. At the exact optimum they are `duals / ridge`.
      duals: feasible dual variables, like the targets.
      squared_norm: :math:`\|\theta\|^2 = b^\top K b`.
      gap: primal minus dual objective of the two, >= 0, evaluated in float64.
      primal: primal objective.
      iterations: as in `Solution`.
      tolerance: as in `Solution`.
      converged: whether the gap is within tolerance.
    """

    coefficients: Float[ndarray, "n *c"]
    duals: Float[ndarray, "n *c"]
    squared_norm: float
    gap: float
    primal: float
    iterations: int
    tolerance: float
    converged: bool


_Either = TypeVar("_Either", Solution, KernelSolution)


class NotConverged(RuntimeError):
    """A solver stopped before the gap was within tolerance.

    Attributes:
      gap: duality gap reached.
      primal: primal objective there.
      tolerance: that was asked for, on the gap relative to the primal objective.
      iterations: that were taken.
    """

    def __init__(self, found: Solution | KernelSolution, *, max_iterations: int):
        """Describes where a solution stopped and what may help.

        Args:
          found: the solution that did not converge.
          max_iterations: that were allowed.
        """
        self.gap, self.primal = found.gap, found.primal
        self.tolerance, self.iterations = found.tolerance, found.iterations
        if found.iterations >= max_iterations:
            remedy = f"max_iterations is {max_iterations}: allow more"
        else:
            remedy = (
                "rounding keeps the gap from closing: a larger ridge or tolerance, or "
                "features in float64, may help"
            )
        super().__init__(
            f"not converged: the duality gap is {found.gap:.3g}, "
            f"{found.gap / max(abs(found.primal), _TINY):.3g} of the primal objective, "
            f"after {found.iterations} iterations; the tolerance is "
            f"{found.tolerance:.3g}. {remedy}"
        )


def _check(
    targets: _Real, count: int, loss: Loss, ridge: float, tolerance: float
) -> ndarray:
    """Targets as a finite float64 matrix; refuses bad settings."""
    if not (math.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge must be finite and > 0, got {ridge}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be > 0, got {tolerance}")
    if count == 0:
        raise ValueError("there are no samples")
    shape = np.shape(targets)
    if len(shape) not in (1, 2) or shape[0] != count:
        raise ValueError(
            f"targets have shape {shape}; {count} samples call for ({count},) or "
            f"({count}, c)"
        )
    check_targets(loss, targets)
    values = np.asarray(targets).astype(np.float64)
    return values if values.ndim == 2 else values[:, None]


def _settings(
    loss: Loss, ridge: float, tolerance: float, max_iterations: int
) -> dict[str, Any]:
    """What every solver is told."""
    return {
        "loss": loss,
        "ridge": float(ridge),
        "tolerance": float(tolerance),
        "max_iterations": max_iterations,
    }


def _dense(gram: ndarray, targets: ndarray, settings: dict[str, Any]) -> Found:
    solver = newton if settings["loss"].smooth else interior_point
    return solver(gram, targets, **settings)


def _in_sample_space(count: int, loss: Loss) -> bool:
    limit = _MOST_SAMPLES_MULTICLASS if loss.kind == "multiclass" else _MOST_SAMPLES
    return count <= limit


def _certified(
    features: Features,
    targets: ndarray,
    found: Found,
    loss: Loss,
    ridge: float,
) -> Found:
    """The same point with its gap and primal objective evaluated in float64."""
    weights, duals = found.coefficients, found.duals
    predictions = features.exact_forward(weights)
    local = evaluate(targets, predictions, loss=loss)
    if loss.smooth:
        duals, total = local.duals, 0.0
    else:
        total = float(slack(targets, predictions, duals, loss=loss).sum())
    residual = ridge * weights - features.exact_adjoint(duals)
    gap = total + float(np.vdot(residual, residual)) / (2.0 * ridge)
    primal = local.loss + 0.5 * ridge * float(np.vdot(weights, weights))
    return Found(weights, duals, gap, primal, found.iterations)


def _support_vectors(
    features: Features, targets: ndarray, settings: dict[str, Any]
) -> Found | None:
    """Working sets, output by output where the outputs are separate."""
    if settings["loss"].kind == "multiclass":
        parts, limit = [targets], _MOST_SAMPLES_MULTICLASS
    else:
        parts = [targets[:, [k]] for k in range(targets.shape[1])]
        limit = _MOST_SUPPORT_VECTORS
    found = []
    for part in parts:
        solved = working_set(features, part, limit=limit, **settings)
        if solved is None:
            return None
        found.append(solved)
    return Found(
        np.concatenate([f.coefficients for f in found], axis=1),
        np.concatenate([f.duals for f in found], axis=1),
        sum(f.gap for f in found),
        sum(f.primal for f in found),
        sum(f.iterations for f in found),
    )


def solve(
    features: Float[_Real, "n p"],
    targets: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    ridge: float,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    require_convergence: bool = False,
) -> Solution:
    """Solves the regularised problem from features.

    Args:
      features: rows phi_i; float32 or float64, on the host or on an accelerator. Large
        matrices are not copied as a whole.
      targets: as the loss wants them, `(n,)` or `(n, c)`: -1 and 1 (or learned real
        labels) for margin losses, class probabilities for multiclass ones.
      loss: the loss, or its name in `ddjax.kernels.losses.LOSSES`.
      ridge: lambda > 0, absolute. The DGKIP paper uses 1e-6 n.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of the solver's own steps.
      require_convergence: whether to raise `NotConverged` rather than to return a
        solution that has not.

    Returns:
      The solution; `converged` is False, with the gap reached, when the tolerance was
      not.

    Raises:
      ValueError: an unknown loss, targets that are not the loss's (see
        `ddjax.kernels.losses.check_targets`), shapes that do not fit, values that are
        not finite, a `ridge` or `tolerance` that is not positive, or a ridge so small
        that features / ridge overflows.
      NotConverged: the gap is not within tolerance, and `require_convergence`.
    """
    loss = as_loss(loss)
    matrix = Features(features)
    wanted = _check(targets, matrix.count, loss, ridge, tolerance)
    if not matrix.finite():
        raise ValueError("features hold values that are not finite")
    settings = _settings(loss, ridge, tolerance, max_iterations)
    if _in_sample_space(matrix.count, loss):
        found = _dense(matrix.gram(), wanted, settings)
        weights = matrix.exact_adjoint(found.coefficients) / ridge
        found = found._replace(coefficients=weights)
    else:
        found = _large(matrix, wanted, settings)
    solution = _solution(found, np.ndim(targets), tolerance)
    return _required(solution, max_iterations) if require_convergence else solution


def _large(features: Features, targets: ndarray, settings: dict[str, Any]) -> Found:
    """Many samples: working sets where they apply, else preconditioned L-BFGS."""
    loss, ridge = settings["loss"], settings["ridge"]
    if not loss.smooth:
        found = _support_vectors(features, targets, settings)
        if found is not None:
            return _certified(features, targets, found, loss, ridge)
    found = quasi_newton(features, targets, **settings)
    return _certified(features, targets, found, loss, ridge)


def _solution(found: Found, dimensions: int, tolerance: float) -> Solution:
    squeeze = (lambda v: v[:, 0]) if dimensions == 1 else (lambda v: v)
    return Solution(
        weights=squeeze(found.coefficients),
        duals=squeeze(found.duals),
        gap=found.gap,
        primal=found.primal,
        iterations=found.iterations,
        tolerance=tolerance,
        converged=small_enough(found, tolerance),
    )


def _required(solution: _Either, max_iterations: int) -> _Either:
    """The solution, if it has converged."""
    if not solution.converged:
        raise NotConverged(solution, max_iterations=max_iterations)
    return solution


def solve_kernel(
    gram: Float[_Real, "n n"],
    targets: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    ridge: float,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    require_convergence: bool = False,
) -> KernelSolution:
    """Solves the regularised problem from a kernel matrix.

    Args:
      gram: `k(x_i, x_j)`, positive semi-definite; symmetrised here.
      targets: as in `solve`.
      loss: as in `solve`.
      ridge: lambda > 0, absolute.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of the solver's own steps.
      require_convergence: as in `solve`.

    Returns:
      The solution in the span of the samples. Predictions at other points are
      `k(x, x_i) @ coefficients`.

    Raises:
      ValueError: as for `solve`; `gram` is not square, or found not to be positive
        semi-definite.
      NotConverged: as for `solve`.
    """
    loss = as_loss(loss)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be (n, n), got shape {gram.shape}")
    wanted = _check(targets, gram.shape[0], loss, ridge, tolerance)
    matrix = np.asarray(gram).astype(np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("gram holds values that are not finite")
    least = float(np.diag(matrix).min())
    if least < 0:
        raise ValueError(
            f"gram is not positive semi-definite: it has {least:.3g} on its diagonal"
        )
    matrix += matrix.T
    matrix *= 0.5
    settings = _settings(loss, ridge, tolerance, max_iterations)
    if _in_sample_space(len(matrix), loss):
        found = _dense(matrix, wanted, settings)
    else:
        found = _large_kernel(matrix, wanted, settings)
    squeeze = (lambda v: v[:, 0]) if np.ndim(targets) == 1 else (lambda v: v)
    coefficients = found.coefficients / ridge
    solution = KernelSolution(
        coefficients=squeeze(coefficients),
        duals=squeeze(found.duals),
        squared_norm=float(np.vdot(coefficients, matrix @ coefficients)),
        gap=found.gap,
        primal=found.primal,
        iterations=found.iterations,
        tolerance=tolerance,
        converged=small_enough(found, tolerance),
    )
    return _required(solution, max_iterations) if require_convergence else solution


def _large_kernel(gram: ndarray, targets: ndarray, settings: dict[str, Any]) -> Found:
    """Many samples: the rows of a Cholesky factor serve as features.

    The factor is that of a slightly larger matrix; the gap is evaluated on the kernel
    itself.
    """
    from scipy.linalg import solve_triangular

    loss, ridge = settings["loss"], settings["ridge"]
    # What is added moves a prediction by (addition / ridge) times its dual variable:
    # eps times the ridge is never seen, and gives a kernel of zeros a factor as well.
    eps = float(np.finfo(np.float64).eps)
    jitter = eps * max(float(np.mean(np.diag(gram))), ridge)
    lifted = gram.copy()
    lifted.flat[:: len(gram) + 1] += jitter
    factor = cholesky_with_jitter(lifted, jitter)
    found = _large(Features(factor), targets, settings)
    beta = ridge * solve_triangular(factor, found.coefficients, lower=True, trans=1)
    predictions = gram @ beta / ridge
    local = evaluate(targets, predictions, loss=loss)
    duals = local.duals if loss.smooth else found.duals
    residual = beta - duals
    gap = float(np.sum(residual * (gram @ residual))) / (2.0 * ridge)
    gap = max(gap, 0.0) + float(slack(targets, predictions, duals, loss=loss).sum())
    primal = local.loss + 0.5 * float(np.vdot(beta, predictions))
    return Found(beta, duals, gap, primal, found.iterations)
