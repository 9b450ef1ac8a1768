r"""The linear system of a Newton step in sample space, :math:`(I + W K/\lambda) x = b`.

W is the second derivative of the losses, K the Gram matrix. Written with
:math:`B = I + W^{1/2} K W^{1/2}/\lambda`, which is well conditioned where the
regulariser is weak only in directions that matter, and defined for a singular K and for
zeros in W:

.. math::
    (I + W K/\lambda)^{-1} = I - W^{1/2} B^{-1} W^{1/2} K/\lambda .
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "Solver",
    "curvature_roots",
    "cholesky_with_jitter",
    "one_thread_if_small",
    "separate_solver",
    "simplex_solver",
]

_REFINEMENTS = 5
# Samples times outputs up to which all outputs are solved in one system.
_LARGEST_JOINT_SYSTEM = 2000
# What may be added to a diagonal, relative to its mean.
_LARGEST_JITTER = 1e-2
_ROWS_IN_ONE_THREAD = 500

Solver = Callable[[np.ndarray], np.ndarray]


@functools.cache
def _threads() -> Any:
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own, to be found below
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread_if_small(solver: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a solver in one BLAS thread while its Gram matrix has up to 500 rows.

    Factors of that size take longer in several threads, and many times longer where
    other processes hold the cores: threads then wait for those that are not running.

    Args:
      solver: a function whose first argument is the Gram matrix.
    """

    @functools.wraps(solver)
    def limited(gram: np.ndarray, *arguments: Any, **settings: Any) -> Any:
        if len(gram) > _ROWS_IN_ONE_THREAD:
            return solver(gram, *arguments, **settings)
        with _threads().limit(limits=1, user_api="blas"):
            return solver(gram, *arguments, **settings)

    return limited


def cholesky_with_jitter(matrix: np.ndarray, step: float) -> np.ndarray:
    """Lower Cholesky factor, with as much added to the diagonal as rounding calls for.

    What is added starts at `step` and grows by decades, up to about a hundredth of the
    mean diagonal: rounding of the entries, even in float32, calls for less.

    Args:
      matrix: `(n, n)` float64, symmetric; its diagonal is raised in place.
      step: the first addition, > 0.

    Raises:
      ValueError: a matrix that is not finite, or not positive semi-definite.
    """
    from scipy.linalg import LinAlgError, cholesky

    if not np.isfinite(matrix).all():
        raise ValueError(
            "gram / ridge overflows float64: the ridge is too small for kernel values "
            "of this size"
        )
    largest = _LARGEST_JITTER * float(np.mean(np.diag(matrix)))
    while True:
        try:
            return cholesky(matrix, lower=True, check_finite=False)
        except LinAlgError:
            if not 0 < step <= largest:
                raise ValueError(
                    "gram is not positive semi-definite, and by more than rounding: "
                    f"with {_LARGEST_JITTER} of the mean diagonal added to it "
                    "it still has no Cholesky factor"
                ) from None
        matrix.flat[:: len(matrix) + 1] += step
        step *= 10.0


def _factor(matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """Cholesky factor, as `cho_solve` takes it, of I + S with S semi-definite."""
    return cholesky_with_jitter(matrix, 1e-15 * float(np.mean(np.diag(matrix)))), True


def _refined(
    solve: Solver, apply_curvature: Solver, gram: np.ndarray, ridge: float
) -> Solver:
    """Adds iterative refinement, while it helps, to a solver of (I + W K/lambda) x = b.

    The solver's own solution is a difference of nearly equal terms. `apply_curvature`
    multiplies by W.
    """

    def remainder(right: np.ndarray, x: np.ndarray) -> np.ndarray:
        return right - x - apply_curvature(gram @ x / ridge)

    def refined(right: np.ndarray) -> np.ndarray:
        x = solve(right)
        left = remainder(right, x)
        for _ in range(_REFINEMENTS):
            better = x + solve(left)
            after = remainder(right, better)
            if not np.linalg.norm(after) < 0.5 * np.linalg.norm(left):
                break
            x, left = better, after
        return x

    return refined


def separate_solver(gram: np.ndarray, curvature: np.ndarray, ridge: float) -> Solver:
    """Solver for a diagonal W: every output is a problem of its own.

    Args:
      gram: `(n, n)`.
      curvature: the diagonal of W for each output, `(n, c)`, >= 0.
      ridge: lambda > 0.

    Returns:
      A function from `(n, c)` to `(n, c)`.
    """
    from scipy.linalg import cho_solve

    factors = []
    for weights in curvature.T:
        active = np.flatnonzero(weights > 0)
        root = np.sqrt(weights[active])
        inner = gram if active.size == len(gram) else gram[np.ix_(active, active)]
        inner = root[:, None] * inner * (root / ridge)
        inner.flat[:: active.size + 1] += 1.0
        factors.append((active, root, _factor(inner) if active.size else None))

    def solve(right: np.ndarray) -> np.ndarray:
        x = right.copy()
        pull = gram @ right / ridge
        for column, (active, root, factor) in enumerate(factors):
            if factor is not None:
                solved = cho_solve(factor, root * pull[active, column])
                x[active, column] -= root * solved
        return x

    return _refined(solve, lambda v: curvature * v, gram, ridge)


def curvature_roots(curvature: np.ndarray, *, coupled: bool) -> np.ndarray:
    """Square roots R, `R'R = W`, of the second derivative of each sample's loss.

    Args:
      curvature: w, `(n, c)`, >= 0.
      coupled: W is `diag(w) - w w' / sum(w)`; else `diag(w)`.

    Returns:
      `(n, c, c)`.
    """
    root = np.sqrt(curvature)
    diagonal = root[:, :, None] * np.eye(curvature.shape[1])
    if not coupled:
        return diagonal
    # W = D (I - q q') D with D = diag(sqrt(w)) and q = sqrt(w) / |sqrt(w)|.
    unit = root / np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-150)
    return diagonal - unit[:, :, None] * (unit * root)[:, None, :]


def simplex_solver(gram: np.ndarray, curvature: np.ndarray, ridge: float) -> Solver:
    """Solver for W = `diag(w) - w w' / sum(w)` over the outputs of each sample.

    Args:
      gram: `(n, n)`.
      curvature: w, `(n, c)`, >= 0.
      ridge: lambda > 0.

    Returns:
      A function from `(n, c)` to `(n, c)`.
    """
    total = np.maximum(curvature.sum(axis=1, keepdims=True), np.finfo(float).tiny)

    def apply_curvature(v: np.ndarray) -> np.ndarray:
        mean = np.sum(curvature * v, axis=1, keepdims=True) / total
        return curvature * (v - mean)

    joint = curvature.size <= _LARGEST_JOINT_SYSTEM
    solve = (_joint_solver if joint else _block_solver)(gram, curvature, ridge)
    return _refined(solve, apply_curvature, gram, ridge)


def _joint_solver(gram: np.ndarray, curvature: np.ndarray, ridge: float) -> Solver:
    """One factor over all outputs: O((n c)^3), accurate for a singular K."""
    from scipy.linalg import cho_solve

    roots = curvature_roots(curvature, coupled=True)
    size = curvature.size
    right = np.einsum("jcb,ij->ibjc", roots, gram / ridge)
    inner = np.matmul(roots, right.reshape(len(gram), -1, size)).reshape(size, size)
    inner.flat[:: size + 1] += 1.0
    factor = _factor(inner)

    def solve(v: np.ndarray) -> np.ndarray:
        pushed = np.einsum("iab,ib->ia", roots, gram @ v / ridge)
        solved = cho_solve(factor, pushed.reshape(size)).reshape(v.shape)
        return v - np.einsum("iab,ia->ib", roots, solved)

    return solve


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a matrix I + S with S semi-definite."""
    from scipy.linalg import get_lapack_funcs

    (inverse,) = get_lapack_funcs(("potri",), (matrix,))
    below = np.tril(inverse(_factor(matrix)[0], lower=True)[0])
    return below + np.tril(below, -1).T


def _block_solver(gram: np.ndarray, curvature: np.ndarray, ridge: float) -> Solver:
    """One factor for each output and one to couple them: O(n^3 c)."""
    from scipy.linalg import cho_solve

    count, classes = curvature.shape
    # (K + W^-1)^-1 = E - E R (R'ER)^-1 R'E, with E block diagonal over outputs, R a
    # column of identities and R'ER the sum of the blocks.
    blocks = np.empty((classes, count, count))
    for k in range(classes):
        root = np.sqrt(curvature[:, k])
        inner = root[:, None] * gram * (root / ridge)
        inner.flat[:: count + 1] += 1.0
        blocks[k] = root[:, None] * _inverse(inner) * root
    common = _factor(blocks.sum(axis=0))

    def apply(v: np.ndarray) -> np.ndarray:
        return np.stack([block @ v[:, k] for k, block in enumerate(blocks)], axis=1)

    def solve(v: np.ndarray) -> np.ndarray:
        pushed = apply(gram @ v / ridge)
        shared = cho_solve(common, pushed.sum(axis=1))
        return v - pushed + apply(np.tile(shared[:, None], classes))

    return solve
