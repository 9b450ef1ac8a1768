r"""Preconditioned L-BFGS in feature space: the solver for many samples.

Every iteration costs one product with the features and one with their transpose: the
line search moves the predictions, which are linear in the weights. The preconditioner
is a subsampled Hessian: of :math:`\Phi^\top W\Phi + \lambda I`, rows are drawn with
probability :math:`\propto W_i\|\phi_i\|^2` (all of them when few have
:math:`W_i > 0`), and the eigenvectors of the small Gram matrix give

.. math::
    H^{-1} \approx \tfrac{1}{\mu} I + U\,\mathrm{diag}\Big(\frac{1}{s + \mu}
    - \frac{1}{\mu}\Big) U^\top .

It is rebuilt now and then at the current weights. Losses with kinks are smoothed over a
width that shrinks from stage to stage, the gap being that of the loss itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddjax.kernels.losses import Loss
from ddjax.solvers._features import Features
from ddjax.solvers._linear import curvature_roots
from ddjax.solvers._losses import Local, evaluate, slope_along
from ddjax.solvers._newton import Found, line_search, small_enough

__all__ = ["quasi_newton"]

# Of the preconditioner: rows drawn, and rows times outputs.
_SAMPLED_ROWS = 600
_LARGEST_RANK = 1500
# Pairs of differences that L-BFGS keeps.
_MEMORY = 12
# A stage has one preconditioner and one width of smoothing.
_STAGE_STEPS = 20
_WIDTH_FACTOR = 0.2
_STAGES_PER_WIDTH = 3
# Stages in a row without a smaller gap, before a loss with kinks is given up.
_IDLE_STAGES = 8
_SMALLEST_WIDTH = 1e-9

_Map = Callable[[np.ndarray], np.ndarray]


class _Point(NamedTuple):
    """Weights and what follows from them."""

    weights: np.ndarray
    predictions: np.ndarray
    local: Local
    gradient: np.ndarray


def _preconditioner(
    features: Features,
    curvature: np.ndarray,
    norms: np.ndarray,
    ridge: float,
    *,
    coupled: bool,
    draw: int,
) -> _Map:
    """Approximate inverse Hessian from a sample of rows."""
    from scipy.linalg import eigh

    energy = curvature.sum(axis=1) * norms
    active = np.flatnonzero(energy > 1e-12 * ridge)
    if active.size == 0:
        return lambda v: v / ridge
    columns = curvature.shape[1]
    limit = max(8, min(_SAMPLED_ROWS, _LARGEST_RANK // columns))
    chosen, scale = active, np.ones(active.size)
    if active.size > limit:
        chance = energy[active] / energy[active].sum()
        rng = np.random.default_rng(draw)
        picks = rng.choice(active.size, size=limit, replace=False, p=chance)
        chosen, scale = active[picks], 1.0 / np.sqrt(limit * chance[picks])
    rows = features.rows(chosen)
    roots = curvature_roots(curvature[chosen], coupled=coupled) * scale[:, None, None]
    gram = (rows @ rows.T).astype(np.float64)
    blocks = np.einsum("iab,jcb,ij->iajc", roots, roots, gram, optimize=True)
    size = chosen.size * columns
    values, vectors = eigh(blocks.reshape(size, size))
    keep = values > 1e-7 * values[-1]
    values, vectors = values[keep], vectors[:, keep]
    floor = ridge + (values[0] if active.size > limit else 0.0)
    factor = (1.0 / (values + floor) - 1.0 / floor) / values

    def apply(v: np.ndarray) -> np.ndarray:
        inner = (rows @ v.astype(features.dtype)).astype(np.float64)
        inner = np.einsum("iab,ib->ia", roots, inner).reshape(size)
        inner = (vectors @ (factor * (inner @ vectors))).reshape(-1, columns)
        inner = np.einsum("iab,ia->ib", roots, inner)
        return v / floor + rows.T @ inner.astype(features.dtype)

    return apply


def _direction(gradient: np.ndarray, pairs: list, precondition: _Map) -> np.ndarray:
    """Two-loop recursion of L-BFGS."""
    q, coefficients = gradient.copy(), []
    for s, y, rho in reversed(pairs):
        coefficients.append(rho * float(np.vdot(s, q)))
        q -= coefficients[-1] * y
    q = precondition(q)
    if pairs:
        s, y, rho = pairs[-1]
        q /= rho * float(np.vdot(y, precondition(y)))
    for (s, y, rho), coefficient in zip(pairs, reversed(coefficients), strict=True):
        q += (coefficient - rho * float(np.vdot(y, q))) * s
    return -q


def _at(
    features: Features,
    targets: np.ndarray,
    weights: np.ndarray,
    predictions: np.ndarray,
    loss: Loss,
    ridge: float,
    width: float,
) -> _Point:
    local = evaluate(targets, predictions, loss=loss, width=width)
    gradient = ridge * weights - features.adjoint(local.duals)
    return _Point(weights, predictions, local, gradient)


def _advance(
    features: Features,
    targets: np.ndarray,
    point: _Point,
    direction: np.ndarray,
    loss: Loss,
    ridge: float,
    width: float,
) -> _Point:
    """Moves along a direction to where the slope has fallen enough."""
    change = features.forward(direction)
    linear = ridge * float(np.vdot(point.weights, direction))
    quadratic = ridge * float(np.vdot(direction, direction))

    def slope(size: np.ndarray) -> np.ndarray:
        columns = np.broadcast_to(size, (1, targets.shape[1]))
        moved = slope_along(
            targets, point.predictions, change, columns, loss=loss, width=width
        )
        return np.array([moved.sum() + linear + size[0, 0] * quadratic])

    step = float(line_search(slope, 1)[0, 0])
    weights = point.weights + step * direction
    predictions = point.predictions + step * change
    return _at(features, targets, weights, predictions, loss, ridge, width)


def _measure(point: _Point, ridge: float, iterations: int) -> Found:
    """The gap and the primal objective at a point."""
    gap = float(np.vdot(point.gradient, point.gradient)) / (2.0 * ridge)
    primal = point.local.loss + 0.5 * ridge * float(
        np.vdot(point.weights, point.weights)
    )
    return Found(
        point.weights, point.local.duals, gap + point.local.slack, primal, iterations
    )


def quasi_newton(
    features: Features,
    targets: np.ndarray,
    *,
    loss: Loss,
    ridge: float,
    tolerance: float,
    max_iterations: int,
) -> Found:
    """Minimises the regularised risk over feature-space weights.

    Args:
      features: the feature matrix.
      targets: `(n, c)` float64.
      loss: the loss.
      ridge: lambda > 0.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of quasi-Newton steps in all.

    Returns:
      The point with the smallest gap, as the precision of the features shows it;
      coefficients are the weights `(p, c)`.
    """
    weights = np.zeros((features.size, targets.shape[1]))
    norms = features.squared_norms()
    width, best, stages, idle, tried = 1.0, None, 0, 0, 0
    while True:
        predictions = features.forward(weights)
        point = _at(features, targets, weights, predictions, loss, ridge, width)
        precondition = _preconditioner(
            features,
            point.local.curvature,
            norms,
            ridge,
            coupled=loss.kind == "multiclass",
            draw=stages,
        )
        before = best
        point, best, settled = _stage(
            features,
            targets,
            point,
            best,
            precondition,
            loss=loss,
            ridge=ridge,
            width=width,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        done = small_enough(best, 0.5 * tolerance)
        improved = before is None or best.gap < 0.9 * before.gap
        idle = 0 if improved else idle + 1
        # At a given width the gap of a loss with kinks may rest before it falls.
        if done or best.iterations >= max_iterations:
            return best
        if idle > (0 if loss.smooth else _IDLE_STAGES):
            return best
        stages, tried, weights = stages + 1, tried + 1, point.weights
        if not loss.smooth and (settled or tried >= _STAGES_PER_WIDTH):
            width, tried = max(width * _WIDTH_FACTOR, _SMALLEST_WIDTH), 0


def _stage(
    features: Features,
    targets: np.ndarray,
    point: _Point,
    best: Found | None,
    precondition: _Map,
    *,
    loss: Loss,
    ridge: float,
    width: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[_Point, Found, bool]:
    """Iterations under one preconditioner and one width.

    Returns:
      The last point, the point with the smallest gap (its `iterations` counting all so
      far), and whether the smoothing has become the larger part of the gap.
    """
    steps, pairs, settled = 0 if best is None else best.iterations, [], False
    for _ in range(_STAGE_STEPS):
        found = _measure(point, ridge, steps)
        best = found if best is None or found.gap < best.gap else best
        best = best._replace(iterations=steps)
        done = small_enough(best, 0.5 * tolerance)
        settled = not loss.smooth and found.gap <= 2.0 * point.local.slack
        if done or settled or steps >= max_iterations:
            break
        direction = _direction(point.gradient, pairs, precondition)
        new = _advance(features, targets, point, direction, loss, ridge, width)
        s, y = new.weights - point.weights, new.gradient - point.gradient
        inner = float(np.vdot(s, y))
        if inner > 0:
            pairs = [*pairs, (s, y, 1.0 / inner)][-_MEMORY:]
        point, steps = new, steps + 1
    assert best is not None
    return point, best, settled
