r"""Interior-point method in sample space, in float64, for losses with kinks.

Hinge, epsilon-insensitive and multiclass hinge losses are maxima of affine functions of
the prediction, :math:`\ell(f) = \max_k b_k + \langle g_k, f\rangle`. Their dual is

.. math::
    \max_s \; \sum_i \langle b_i, s_i\rangle
    - \frac{1}{2\lambda}\Big\|\sum_i \phi_i a_i^\top\Big\|^2, \qquad
    a_i = -\sum_k s_{ik} g_{ik}, \quad s_i \in \Delta ,

a quadratic programme over one probability simplex per loss; for the hinge the usual box
:math:`0 \le \alpha \le 1`. As in `ddjax.solvers._newton` the weights are
:math:`\theta = \Phi^\top\beta/\lambda` and the gap is a sum of non-negative terms,

.. math::
    \sum_{ik} s_{ik}\,(\max_l v_{il} - v_{ik})
    + \frac{1}{2\lambda}(\beta - a)^\top K (\beta - a), \qquad
    v = b + \langle g, f\rangle .

Each step is a Newton step on :math:`s_{ik}(\nu_i - v_{ik}) = \mu` and
:math:`\beta = a`. Eliminating all but the coefficients leaves a system
:math:`(I + W K/\lambda)\,d\beta = (a - \beta) - h`. Keeping :math:`\beta` beside
`a`, equal only at the end, is what holds the digits where :math:`K/\lambda` is huge.
"""

from typing import NamedTuple

import numpy as np

from ddjax.kernels.losses import Loss
from ddjax.solvers._linear import one_thread_if_small, separate_solver, simplex_solver
from ddjax.solvers._losses import evaluate
from ddjax.solvers._newton import Found, small_enough

__all__ = ["interior_point", "kink_distances"]


_EPS = float(np.finfo(np.float64).eps)


class _Pieces(NamedTuple):
    """The affine pieces of a loss.

    Attributes:
      offsets: b, `(n, c, k)`, or `(n, 1, c)` for the multiclass hinge, whose pieces
        share one simplex over the outputs.
      slopes: g, `(n, c, k)`; None for the multiclass hinge, where it is `e_k - y`.
    """

    offsets: np.ndarray
    slopes: np.ndarray | None


def _pieces(loss: Loss, targets: np.ndarray) -> _Pieces:
    if loss.name == "multiclass_hinge":
        return _Pieces((1.0 - targets)[:, None, :], None)
    zeros, ones = np.zeros_like(targets), np.ones_like(targets)
    if loss.name == "hinge":
        return _Pieces(np.stack([zeros, ones], -1), np.stack([zeros, -targets], -1))
    if loss.name == "epsilon_insensitive":
        epsilon = dict(loss.settings)["epsilon"]
        offsets = [zeros, -epsilon - targets, -epsilon + targets]
        return _Pieces(np.stack(offsets, -1), np.stack([zeros, ones, -ones], -1))
    raise ValueError(f"no interior-point form of the loss {loss.name!r}")


def _values(pieces: _Pieces, targets: np.ndarray, predictions: np.ndarray):
    """Value of every piece at the predictions."""
    if pieces.slopes is None:
        inner = np.sum(targets * predictions, axis=1)[:, None, None]
        return pieces.offsets + predictions[:, None, :] - inner
    return pieces.offsets + pieces.slopes * predictions[:, :, None]


def _duals(pieces: _Pieces, targets: np.ndarray, simplex: np.ndarray) -> np.ndarray:
    if pieces.slopes is None:
        return targets - simplex[:, 0, :]
    return -np.sum(simplex * pieces.slopes, axis=-1)


def kink_distances(
    targets: np.ndarray, predictions: np.ndarray, *, loss: Loss
) -> np.ndarray:
    """How far the loss of each sample is from changing its piece, `(n,)`.

    Args:
      targets: `(n, c)` float64.
      predictions: `(n, c)`.
      loss: a loss with kinks.

    Returns:
      The largest piece less the second, the least of the outputs of a sample.
    """
    values = np.sort(_values(_pieces(loss, targets), targets, predictions), axis=-1)
    return np.min(values[..., -1] - values[..., -2], axis=1)


def _step(
    gram: np.ndarray,
    pieces: _Pieces,
    ridge: float,
    ratio: np.ndarray,
    centring: np.ndarray,
    lag: np.ndarray,
) -> np.ndarray:
    """Change of the coefficients, all else eliminated."""
    total = ratio.sum(axis=-1, keepdims=True)
    excess = centring - ratio * centring.sum(axis=-1, keepdims=True) / total
    if pieces.slopes is None:
        # Slopes e_k - y: the shift by y drops out, as `excess` sums to zero.
        right = lag - excess[:, 0, :]
        return simplex_solver(gram, ratio[:, 0, :], ridge)(right)
    mean = np.sum(ratio * pieces.slopes, axis=-1, keepdims=True) / total
    curvature = np.sum(ratio * np.square(pieces.slopes - mean), axis=-1)
    right = lag - np.sum(excess * pieces.slopes, axis=-1)
    return separate_solver(gram, curvature, ridge)(right)


def _summing_to_zero(simplex: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Makes each change sum to zero, the rounding error put on the largest entry."""
    largest = np.argmax(simplex, axis=-1)[..., None]
    entry = np.take_along_axis(change, largest, axis=-1)
    fixed = change.copy()
    np.put_along_axis(
        fixed, largest, entry - change.sum(axis=-1, keepdims=True), axis=-1
    )
    return fixed


def _largest_step(values: np.ndarray, change: np.ndarray) -> float:
    """Longest step, at most 1, that keeps the values positive with a margin."""
    shrink = -change / values
    return min(1.0, 0.99 / max(float(shrink.max()), 1e-300))


def _at_zero_weights(
    gram: np.ndarray, targets: np.ndarray, shift: np.ndarray, loss: Loss, ridge: float
) -> Found:
    """The point of zero weights, which an interior-point method can only approach."""
    local = evaluate(targets, shift, loss=loss, width=_EPS)
    pull = float(np.sum(local.duals * (gram @ local.duals)))
    gap = local.slack + max(pull, 0.0) / (2.0 * ridge)
    return Found(np.zeros_like(targets), local.duals, gap, local.loss, 0)


@one_thread_if_small
def interior_point(
    gram: np.ndarray,
    targets: np.ndarray,
    *,
    loss: Loss,
    ridge: float,
    tolerance: float,
    max_iterations: int,
    shift: np.ndarray | None = None,
) -> Found:
    """Minimises the regularised risk of a loss with kinks.

    Args:
      gram: `(n, n)` float64, positive semi-definite.
      targets: `(n, c)` float64.
      loss: hinge, epsilon_insensitive or multiclass_hinge.
      ridge: lambda > 0.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of Newton steps.
      shift: added to all predictions, `(n, c)`: what samples whose duals are known
        already contribute; zeros by default.

    Returns:
      The point with the smallest gap; coefficients are beta, `(n, c)`.
    """
    shift = np.zeros_like(targets) if shift is None else shift
    at_zero = _at_zero_weights(gram, targets, shift, loss, ridge)
    if small_enough(at_zero, tolerance):
        return at_zero
    pieces = _pieces(loss, targets)
    pieces = pieces._replace(offsets=_values(pieces, targets, shift))
    floor = 4.0 * _EPS * float(np.abs(pieces.offsets).max(axis=-1).sum())
    simplex = np.full(pieces.offsets.shape, 1.0 / pieces.offsets.shape[-1])
    beta = _duals(pieces, targets, simplex)
    values = _values(pieces, targets, gram @ beta / ridge)
    top = values.max(axis=-1, keepdims=True)
    level = top + max(1.0, float(np.max(top - values)))
    best, centre = None, 0.3
    for iteration in range(max_iterations + 1):
        duals = _duals(pieces, targets, simplex)
        predictions = gram @ beta / ridge
        values = _values(pieces, targets, predictions)
        top = values.max(axis=-1, keepdims=True)
        lag = duals - beta
        gap = float(np.sum(simplex * (top - values)))
        gap += max(float(np.sum(lag * (gram @ lag))), 0.0) / (2.0 * ridge)
        primal = float(np.sum(top)) + 0.5 * float(np.sum(beta * predictions))
        if best is None or gap < best.gap:
            best = Found(beta, duals, gap, primal, iteration, floor)
        elif iteration > best.iterations + 8:
            break
        if small_enough(best, tolerance) or iteration == max_iterations:
            break
        # Less room than the values are known to is rounding, not progress.
        room = np.maximum(level - values, _EPS * (1.0 + np.abs(values).max()))
        centring = centre * float(np.mean(simplex * room)) / room - simplex
        ratio = simplex / room
        step = _step(gram, pieces, ridge, ratio, centring, lag)
        move = _values(pieces, targets, gram @ step / ridge) - pieces.offsets
        total = ratio.sum(axis=-1, keepdims=True)
        lift = (centring + ratio * move).sum(axis=-1, keepdims=True) / total
        change = _summing_to_zero(simplex, centring + ratio * (move - lift))
        length = min(_largest_step(simplex, change), _largest_step(room, lift - move))
        centre = 0.05 if length > 0.9 else 0.3
        simplex = simplex + length * change
        simplex = simplex / simplex.sum(axis=-1, keepdims=True)
        level = level + length * lift
        beta = beta + length * step
    assert best is not None
    return best._replace(iterations=iteration)
