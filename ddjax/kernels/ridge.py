r"""Ridge regression in closed form, in sample space, feature space or for a kernel.

With rows of features F (m, p), targets Y (m, c), optional sample weights w >= 0 and an
optional unpenalised intercept b, everything here minimises

.. math::
    \sum_i w_i \lVert y_i - W^\top \phi_i - b \rVert^2 + \lambda \lVert W \rVert_F^2 .

One Cholesky factor serves the solution, its derivatives of any order, the
log-determinant, the trace of the inverse and the leave-one-out residuals.

How the strength `ridge` is read is named, because papers differ (`absolute_ridge`):

- `"absolute"`: :math:`\lambda` itself;
- `"relative"`: :math:`\lambda\,\mathrm{tr}(K)/m` (KIP, RFAD, FRePo);
- `"per_sample"`: :math:`\lambda m`, the average-loss form.

Numbers. A factorisation that fails, or whose smallest pivot is nothing but rounding, is
tried again with a jitter added to the diagonal, which grows by decades and is returned,
relative to the mean diagonal; it is 0 where none was needed. For finite input in the
documented domain results are finite. The solution x of A x = b is backward stable:
:math:`\lVert A x - b \rVert \le c\, m\, \epsilon\, (\lVert A \rVert \lVert x \rVert +
\lVert b \rVert)`, eps being 1.2e-7 in float32 and 2.2e-16 in float64, and its relative
error is about eps times the condition number of A. Where that is too much in float32,
`factor_dtype=jnp.float64` factors and solves in float64 (with x64 enabled) and leaves
the arguments and results in float32.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.kernels._rows import as_matrix, check_ridge, check_rows
from ddjax.kernels.factorization import (
    cholesky,
    factored,
    inverse_diagonal,
    log_determinant,
    trace_of_inverse,
)
from ddjax.kernels.precision import gram as gram_of
from ddjax.kernels.precision import product, transposed_product
from ddjax.kernels.statistics import (
    SufficientStatistics,
    add_statistics,
    squared_loss_from_statistics,
    streamed_statistics,
    sufficient_statistics,
    zero_statistics,
)

__all__ = [
    "CONVENTIONS",
    "KernelRidgeSolution",
    "RidgeSolution",
    "SufficientStatistics",
    "absolute_ridge",
    "add_statistics",
    "cholesky",
    "kernel_predict",
    "kernel_solve",
    "leave_one_out",
    "log_determinant",
    "predict",
    "solve",
    "solve_from_statistics",
    "squared_loss_from_statistics",
    "streamed_statistics",
    "sufficient_statistics",
    "trace_of_inverse",
    "zero_statistics",
]

Convention = Literal["absolute", "relative", "per_sample"]
Side = Literal["auto", "sample", "feature"]
Scalar = float | int | np.number | Float[Array | np.ndarray, ""]

CONVENTIONS = ("absolute", "relative", "per_sample")
_SIDES = ("auto", "sample", "feature")


class RidgeSolution(NamedTuple):
    """A linear model.

    Attributes:
      weights: (p, *c).
      intercept: (*c), zero when none was asked for.
      jitter: what had to be added to the diagonal, relative to its mean; usually 0,
        infinite where even the largest did not help (input that is not finite).
    """

    weights: Float[Array, "p *c"]
    intercept: Float[Array, "*c"]
    jitter: Float[Array, ""]


class KernelRidgeSolution(NamedTuple):
    """A kernel model, with the factor of A = R K R + ridge I, R = diag(root_weights).

    Attributes:
      coefficients: (m, *c); predictions are `K_ts @ coefficients + intercept`.
      factor: (m, m), lower triangular with A = factor factorᵀ.
      jitter: what had to be added to the diagonal, relative to its mean; usually 0,
        infinite where even the largest did not help (input that is not finite).
      intercept: (*c), zero when none was asked for.
      ridge: the absolute strength in A, jitter included.
      root_weights: (m,) square roots of the sample weights; ones without them.
      border: (m,) A⁻¹r / sqrt(rᵀA⁻¹r), r = root_weights, when there is an intercept;
        otherwise zero.
    """

    coefficients: Float[Array, "m *c"]
    factor: Float[Array, "m m"]
    jitter: Float[Array, ""]
    intercept: Float[Array, "*c"]
    ridge: Float[Array, ""]
    root_weights: Float[Array, " m"]
    border: Float[Array, " m"]


# What a user can get wrong.


def _check_ridge(ridge: Scalar, convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}, not one of {CONVENTIONS}")
    check_ridge(ridge)


def _arrays(rows: Any, targets: Any, weights: Any) -> tuple[Array, Array, Array | None]:
    weights = None if weights is None else jnp.asarray(weights)
    return jnp.asarray(rows), jnp.asarray(targets), weights


def _working_dtype(dtype: Any, factor_dtype: Any) -> Any:
    if factor_dtype is None:
        return dtype
    if jax.dtypes.canonicalize_dtype(factor_dtype) != jnp.dtype(factor_dtype):
        raise ValueError(
            f"factor_dtype is {jnp.dtype(factor_dtype)}, but x64 is off: set "
            "JAX_ENABLE_X64=1 or call within `with jax.enable_x64(True):`"
        )
    return jnp.dtype(factor_dtype)


def absolute_ridge(
    ridge: Scalar,
    *,
    convention: Convention,
    trace: Float[Array, ""],
    count: Float[Array, ""],
    detach_trace: bool = False,
) -> Float[Array, ""]:
    r"""The :math:`\lambda` of the equations for a strength in a named convention.

    >>> import jax.numpy as jnp
    >>> gram = jnp.array([[4.0, 1.0], [1.0, 2.0]])
    >>> float(absolute_ridge(0.5, convention="relative",
    ...                      trace=jnp.trace(gram), count=jnp.array(2.0)))
    1.5

    Args:
      ridge: the strength, >= 0.
      convention: `"absolute"` (unchanged), `"relative"` (times trace / count) or
        `"per_sample"` (times count).
      trace: trace of the Gram; with sample weights, its weighted trace.
      count: number of rows; with sample weights, their sum.
      detach_trace: whether `"relative"` lets no gradient through the trace.

    Raises:
      ValueError: an unknown convention, or a negative or non-finite number.
    """
    _check_ridge(ridge, convention)
    strength = jnp.asarray(ridge, trace.dtype)
    if convention == "relative":
        trace = jax.lax.stop_gradient(trace) if detach_trace else trace
        return strength * trace / jnp.where(count > 0, count, jnp.ones_like(count))
    return strength * count if convention == "per_sample" else strength


def _root(weights: Array | None, like: Array) -> Array:
    """Square roots of the weights, with derivative 0 (not infinite) at 0."""
    if weights is None:
        return jnp.ones_like(like)
    positive = weights > 0
    safe = jnp.where(positive, weights, jnp.ones_like(weights))
    return jnp.where(positive, jnp.sqrt(safe), jnp.zeros_like(safe)).astype(like.dtype)


def kernel_solve(
    gram: Float[Array | np.ndarray, "m m"],
    targets: Float[Array | np.ndarray, "m *c"],
    *,
    ridge: Scalar,
    convention: Convention = "absolute",
    detach_trace: bool = False,
    weights: Float[Array | np.ndarray, " m"] | None = None,
    intercept: bool = False,
    factor_dtype: Any = None,
) -> KernelRidgeSolution:
    r"""Kernel ridge regression.

    .. math::
        \alpha = R (R K R + \lambda I)^{-1} R (Y - 1 b^\top),
        \qquad R = \mathrm{diag}(\sqrt{w}),

    with b = 0, or with an intercept the b for which :math:`1^\top\alpha = 0`.
    Predictions are `K_ts @ coefficients + intercept` (`kernel_predict`). Differentiable
    in `gram`, `targets`, `ridge` and `weights` (at a weight of exactly 0 the derivative
    in that weight is given as 0). Works under `jit` and `vmap`.

    >>> import jax.numpy as jnp
    >>> gram = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> solution = kernel_solve(gram, jnp.array([[1.0], [0.0]]), ridge=1.0)
    >>> [f"{value:.3f}" for value in solution.coefficients[:, 0]]
    ['0.375', '-0.125']

    Args:
      gram: kernel between the samples, symmetric: the upper triangle is factored, and
        of the gradient only the symmetric part has a meaning.
      targets: (m, c) or (m,).
      ridge: strength >= 0, read by `convention`.
      convention: `"absolute"`, `"relative"` or `"per_sample"`; with weights, trace(K)/m
        becomes the weighted mean of the diagonal and m the sum of the weights, so that
        a row of weight 2 is a row given twice and a row of weight 0 is no row.
      detach_trace: whether `"relative"` lets no gradient through the trace.
      weights: sample weights >= 0.
      intercept: whether to fit an unpenalised intercept.
      factor_dtype: type in which to factor and solve; that of `gram` when None.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit, an unknown convention, a bad ridge, or float64
        asked for without x64.
    """
    gram, targets, weights = _arrays(gram, targets, weights)
    check_rows(gram, targets, weights, "gram")
    if gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram has shape {gram.shape}, but must be square")
    _check_ridge(ridge, convention)
    dtype = _working_dtype(gram.dtype, factor_dtype)
    return _kernel_solve(
        gram,
        targets,
        jnp.asarray(ridge, dtype),
        weights,
        convention=convention,
        detach_trace=detach_trace,
        intercept=intercept,
        dtype=dtype,
    )


_STATIC = ("convention", "detach_trace", "intercept", "dtype", "side")


@functools.partial(jax.jit, static_argnames=_STATIC[:-1])
def _kernel_solve(
    gram, targets, ridge, weights, *, convention, detach_trace, intercept, dtype
):
    values, gram = as_matrix(targets, dtype), gram.astype(dtype)
    root = _root(weights, gram[:, 0])
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=product(jnp.square(root), jnp.diagonal(gram)),
        count=jnp.square(root).sum(),
        detach_trace=detach_trace,
    )
    if weights is not None:
        gram = root[:, None] * gram * root[None, :]
    found = factored(gram, strength)
    scaled = root[:, None] * values
    right = jnp.concatenate([scaled, root[:, None]], axis=1) if intercept else scaled
    duals = found.solver(right)
    offset, border = jnp.zeros_like(values[0]), jnp.zeros_like(root)
    if intercept:
        duals, border = duals[:, :-1], duals[:, -1]
        total = product(root, border)
        total = jnp.where(total > 0, total, jnp.ones_like(total))
        offset = product(border, scaled) / total
        duals = duals - border[:, None] * offset[None, :]
        border = border / jnp.sqrt(total)
    coefficients = root[:, None] * duals
    return KernelRidgeSolution(
        coefficients=coefficients.reshape(targets.shape).astype(targets.dtype),
        factor=found.factor,
        jitter=found.jitter,
        intercept=offset.reshape(targets.shape[1:]).astype(targets.dtype),
        ridge=found.ridge,
        root_weights=root,
        border=border,
    )


def kernel_predict(
    cross_gram: Float[Array | np.ndarray, "n m"], solution: KernelRidgeSolution
) -> Float[Array, "n *c"]:
    """Predictions K_ts alpha + b of a kernel model.

    Args:
      cross_gram: kernel between new inputs (rows) and the solution's samples.
      solution: from `kernel_solve`.
    """
    return _affine(cross_gram, solution.coefficients, solution.intercept)


def predict(
    features: Float[Array | np.ndarray, "n p"], solution: RidgeSolution
) -> Float[Array, "n *c"]:
    """Predictions F W + b of a linear model.

    Args:
      features: of new inputs.
      solution: from `solve` or `solve_from_statistics`.
    """
    return _affine(features, solution.weights, solution.intercept)


@jax.jit
def _affine(rows, weights, intercept):
    return product(rows, weights) + intercept.reshape((1, *intercept.shape))


# What else comes from the factor.


@jax.jit
def leave_one_out(solution: KernelRidgeSolution) -> Float[Array, "m *c"]:
    r"""Residuals y_i − f_{−i}(x_i), f_{−i} fitted without the i-th sample.

    .. math::
        \frac{(A^{-1}Y)_i}{(A^{-1})_{ii}}, \qquad A = K_{ss} + \lambda I,

    at the absolute strength of the solution (with the `relative` and `per_sample`
    conventions too the strength stays that of all m samples). With an intercept, A is
    bordered by ones, so that the intercept is refitted as well. A sample that cannot be
    left out (of weight zero, or the only one beside the intercept) gets 0.

    >>> import jax.numpy as jnp
    >>> solution = kernel_solve(jnp.eye(2), jnp.array([1.0, 3.0]), ridge=1.0)
    >>> print(leave_one_out(solution))
    [1. 3.]

    Args:
      solution: from `kernel_solve`.
    """
    of_inverse = inverse_diagonal(solution.factor)
    remaining = of_inverse - jnp.square(solution.border)
    noise = 4.0 * float(jnp.finfo(remaining.dtype).eps) * of_inverse
    possible = jnp.logical_and(remaining > noise, solution.root_weights > 0)
    divisor = jnp.square(solution.root_weights) * remaining
    divisor = jnp.where(possible, divisor, jnp.ones_like(divisor))
    coefficients = solution.coefficients
    values = as_matrix(coefficients, divisor.dtype) / divisor[:, None]
    values = jnp.where(possible[:, None], values, jnp.zeros_like(values))
    return values.reshape(coefficients.shape).astype(coefficients.dtype)


# Features.


def solve(
    features: Float[Array | np.ndarray, "m p"],
    targets: Float[Array | np.ndarray, "m *c"],
    *,
    ridge: Scalar,
    convention: Convention = "absolute",
    side: Side = "auto",
    detach_trace: bool = False,
    weights: Float[Array | np.ndarray, " m"] | None = None,
    intercept: bool = False,
    factor_dtype: Any = None,
) -> RidgeSolution:
    r"""Ridge regression on features, on the smaller side.

    .. math::
        W = F^\top (F F^\top + \lambda I_m)^{-1} Y
          = (F^\top F + \lambda I_p)^{-1} F^\top Y,

    the rows of F and Y being multiplied by the square roots of the weights and, with an
    intercept, centred by their weighted means first. The two sides are equal for
    :math:`\lambda > 0`. Differentiable in all arrays (at a weight of exactly 0 the
    derivative in that weight is given as 0). Works under `jit` and `vmap`.

    >>> import jax.numpy as jnp
    >>> solution = solve(jnp.array([[1.0], [2.0]]), jnp.array([2.0, 4.0]), ridge=5.0)
    >>> print(solution.weights)
    [1.]

    Args:
      features: (m, p).
      targets: (m, c) or (m,).
      ridge: strength >= 0, read by `convention`.
      convention: `"absolute"`, `"relative"` (times the mean squared norm of the rows,
        before centring) or `"per_sample"` (times m); with weights, the weighted mean
        and the sum of the weights.
      side: `"sample"` (factor m x m), `"feature"` (p x p), or `"auto"`: the smaller.
      detach_trace: whether `"relative"` lets no gradient through the trace.
      weights: sample weights >= 0.
      intercept: whether to fit an unpenalised intercept.
      factor_dtype: type in which products are formed, factored and solved; that of
        `features` when None.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit, an unknown convention or side, a bad ridge, or
        float64 asked for without x64.
    """
    features, targets, weights = _arrays(features, targets, weights)
    check_rows(features, targets, weights, "features")
    if side not in _SIDES:
        raise ValueError(f"side is {side!r}, not one of {_SIDES}")
    _check_ridge(ridge, convention)
    if side == "auto":
        side = "sample" if features.shape[0] <= features.shape[1] else "feature"
    dtype = _working_dtype(features.dtype, factor_dtype)
    return _solve(
        features,
        targets,
        jnp.asarray(ridge, dtype),
        weights,
        convention=convention,
        detach_trace=detach_trace,
        intercept=intercept,
        dtype=dtype,
        side=side,
    )


@functools.partial(jax.jit, static_argnames=_STATIC)
def _solve(
    features,
    targets,
    ridge,
    weights,
    *,
    convention,
    detach_trace,
    intercept,
    dtype,
    side,
):
    rows, values = features.astype(dtype), as_matrix(targets, dtype)
    root = _root(weights, rows[:, 0])
    mass = jnp.square(root)
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=product(mass, jnp.square(rows).sum(axis=1)),
        count=mass.sum(),
        detach_trace=detach_trace,
    )
    mean, offset = jnp.zeros_like(rows[0]), jnp.zeros_like(values[0])
    if intercept:
        mass = mass / jnp.where(mass.sum() > 0, mass.sum(), jnp.ones_like(mass[0]))
        mean, offset = product(mass, rows), product(mass, values)
        rows, values = rows - mean[None, :], values - offset[None, :]
    if weights is not None:
        rows, values = root[:, None] * rows, root[:, None] * values
    trace = jnp.square(rows).sum()
    if side == "sample":
        found = factored(
            gram_of(rows),
            strength,
            apply=lambda x: product(rows, transposed_product(rows, x)),
            trace=trace,
        )
        solution = transposed_product(rows, found.solver(values))
    else:
        found = factored(
            transposed_product(rows, rows),
            strength,
            apply=lambda x: transposed_product(rows, product(rows, x)),
            trace=trace,
        )
        solution = found.solver(transposed_product(rows, values))
    offset = offset - product(mean, solution)
    shape = features.shape[1:] + targets.shape[1:]
    return RidgeSolution(
        weights=solution.reshape(shape).astype(targets.dtype),
        intercept=offset.reshape(targets.shape[1:]).astype(targets.dtype),
        jitter=found.jitter,
    )


def solve_from_statistics(
    statistics: SufficientStatistics,
    *,
    ridge: Scalar,
    convention: Convention = "absolute",
    detach_trace: bool = False,
    factor_dtype: Any = None,
) -> RidgeSolution:
    """Ridge regression in feature space from FᵀF and FᵀY.

    Args:
      statistics: of the features and targets.
      ridge: strength >= 0, read by `convention`.
      convention: `"absolute"`, `"relative"` or `"per_sample"`, as in `solve`.
      detach_trace: whether `"relative"` lets no gradient through the trace.
      factor_dtype: type in which to factor and solve; that of the Gram when None.

    Returns:
      Weights, a zero intercept, and the jitter.

    Raises:
      ValueError: an unknown convention, a bad ridge, or float64 asked for without x64.
    """
    _check_ridge(ridge, convention)
    dtype = _working_dtype(statistics.gram.dtype, factor_dtype)
    return _solve_from_statistics(
        statistics,
        jnp.asarray(ridge, dtype),
        convention=convention,
        detach_trace=detach_trace,
        dtype=dtype,
    )


@functools.partial(jax.jit, static_argnames=("convention", "detach_trace", "dtype"))
def _solve_from_statistics(statistics, ridge, *, convention, detach_trace, dtype):
    gram, cross = statistics.gram.astype(dtype), statistics.cross
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=jnp.trace(gram),
        count=statistics.count.astype(dtype),
        detach_trace=detach_trace,
    )
    found = factored(gram, strength)
    return RidgeSolution(
        weights=found.solver(as_matrix(cross, dtype))
        .reshape(cross.shape)
        .astype(cross.dtype),
        intercept=jnp.zeros(cross.shape[1:], cross.dtype),
        jitter=found.jitter,
    )
