"""Working sets: losses with kinks on many samples, solved on those that matter.

Samples whose dual variable is zero (outside the margin, inside the tube) do not enter
the solution. Solve on a subset, look at all samples, keep those that support the
solution, add those that it gets wrong, repeat. The subset problems are small and solved
by `_interior`; the gap of the full problem is the subset's plus the losses of the
samples left out, so the answer carries its own certificate.
"""

import numpy as np

from ddjax.kernels.losses import Loss
from ddjax.solvers._features import Features
from ddjax.solvers._interior import interior_point
from ddjax.solvers._losses import slack
from ddjax.solvers._newton import Found, small_enough

__all__ = ["working_set"]

_FIRST_SUBSET = 400
_MOST_SUBSETS = 40
_STEPS_PER_SUBSET = 100


def working_set(
    features: Features,
    targets: np.ndarray,
    *,
    loss: Loss,
    ridge: float,
    tolerance: float,
    max_iterations: int,
    limit: int,
) -> Found | None:
    """Minimises the regularised risk when few samples support the solution.

    Args:
      features: the feature matrix.
      targets: `(n, 1)` float64, or `(n, c)` for the multiclass hinge.
      loss: hinge, epsilon_insensitive or multiclass_hinge.
      ridge: lambda > 0.
      tolerance: on the gap relative to the primal objective.
      max_iterations: of Newton steps, over all subsets.
      limit: largest subset.

    Returns:
      The solution, coefficients being the weights `(p, c)`; None when more than
      `limit` samples support it.
    """
    count = features.count
    chosen = np.random.default_rng(0).permutation(count)[: min(_FIRST_SUBSET, limit)]
    gram = np.zeros((0, 0))
    rows = np.zeros((0, features.size), features.dtype)
    entered = np.zeros(count, int)
    entered[chosen] = 1
    best, steps = None, 0
    for _ in range(_MOST_SUBSETS):
        rows, gram = _extended(rows, gram, features.rows(chosen[len(rows) :]))
        part = interior_point(
            gram,
            targets[chosen],
            loss=loss,
            ridge=ridge,
            tolerance=0.1 * tolerance,
            max_iterations=min(_STEPS_PER_SUBSET, max_iterations - steps),
        )
        steps += part.iterations
        weights = _combined(rows, part.coefficients) / ridge
        duals = np.zeros_like(targets)
        excess = slack(targets, features.forward(weights), duals, loss=loss)
        excess[chosen] = 0.0
        outside = float(excess.sum())
        duals[chosen] = part.duals
        found = Found(weights, duals, part.gap + outside, part.primal + outside, steps)
        if best is None or found.gap < best.gap:
            best = found
        wrong = np.argsort(-excess)[: max(_FIRST_SUBSET // 2, len(chosen))]
        wrong = wrong[excess[wrong] > 0]
        done = small_enough(best, 0.5 * tolerance) or wrong.size == 0
        if done or steps >= max_iterations:
            return best._replace(iterations=steps)
        # What does not support the solution is left out again, unless it was before:
        # few samples come back, and none more than once.
        size = np.abs(part.duals).max(axis=1)
        support = (size > 1e-5 * size.max()) | (entered[chosen] > 1)
        chosen, rows = chosen[support], rows[support]
        gram = gram[np.ix_(support, support)]
        room = limit - len(chosen)
        if room < min(len(wrong), _FIRST_SUBSET // 4):
            return None
        wrong = wrong[:room]
        entered[wrong] += 1
        chosen = np.concatenate([chosen, wrong])
    return best


def _extended(
    rows: np.ndarray, gram: np.ndarray, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Adds rows to a set and to its float64 Gram matrix."""
    both = np.concatenate([rows, new])
    old = len(rows)
    larger = np.zeros((len(both), len(both)))
    larger[:old, :old] = gram
    for start in range(0, both.shape[1], 2048):
        block = both[:, start : start + 2048].astype(np.float64)
        larger[old:] += block[old:] @ block.T
    larger[:old, old:] = larger[old:, :old].T
    return both, larger


def _combined(rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """`rows.T @ coefficients` in float64."""
    parts = [
        rows[:, start : start + 2048].astype(np.float64).T @ coefficients
        for start in range(0, rows.shape[1], 2048)
    ]
    return np.concatenate(parts)
