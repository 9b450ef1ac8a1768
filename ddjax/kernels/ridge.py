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
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "CONVENTIONS",
    "KernelRidgeSolution",
    "RidgeSolution",
    "SufficientStatistics",
    "absolute_ridge",
    "add_statistics",
    "cholesky",
    "effective_dimension",
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
Scalar = float | int | np.number | Float[Array, ""]

CONVENTIONS = ("absolute", "relative", "per_sample")
_SIDES = ("auto", "sample", "feature")

# Products that end in a factorisation must not be rounded to TF32 or bfloat16.
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


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


class SufficientStatistics(NamedTuple):
    """All that a squared loss over fixed features depends on.

    Attributes:
      gram: FᵀF.
      cross: FᵀY.
      targets_norm: ‖Y‖² (squared Frobenius norm).
      count: the number of rows, or the sum of their weights.
    """

    gram: Float[Array, "p p"]
    cross: Float[Array, "p *c"]
    targets_norm: Float[Array, ""]
    count: Float[Array, ""]


# The door: what a user can get wrong.


def _check_ridge(ridge: Scalar, convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}, not one of {CONVENTIONS}")
    if isinstance(ridge, float | int | np.number) and not 0 <= ridge < np.inf:
        raise ValueError(f"ridge is {ridge}, but must be finite and >= 0")


def _check_rows(rows: Array, targets: Array, weights: Array | None, name: str) -> None:
    for label, value in ((name, rows), ("targets", targets)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{label} are {value.dtype}; floating numbers are needed")
    if rows.ndim != 2 or rows.shape[0] < 1:
        raise ValueError(f"{name} have shape {rows.shape}; at least one row is needed")
    if targets.ndim < 1 or targets.shape[0] != rows.shape[0]:
        raise ValueError(
            f"{rows.shape[0]} rows of {name}, but targets of shape {targets.shape}"
        )
    if weights is not None and weights.shape != rows.shape[:1]:
        raise ValueError(
            f"{rows.shape[0]} rows of {name}, but weights of shape {weights.shape}"
        )


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
    strength = jnp.asarray(ridge).astype(trace.dtype)
    if convention == "relative":
        trace = jax.lax.stop_gradient(trace) if detach_trace else trace
        return strength * trace / jnp.where(count > 0, count, jnp.ones_like(count))
    return strength * count if convention == "per_sample" else strength


# Factorisation and solution.


def _mean_diagonal(matrix: Array) -> Array:
    mean = jnp.trace(matrix) / matrix.shape[0]
    return jnp.where(mean > 0, mean, jnp.ones_like(mean))


def _add_diagonal(matrix: Array, value: Array) -> Array:
    return matrix + value * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


@jax.custom_jvp
def cholesky(matrix: Float[Array, "m m"]) -> tuple[Float[Array, "m m"], Array]:
    """Factor of a symmetric positive definite matrix, with as little jitter as works.

    The first try adds nothing. A try is accepted when the factor is finite and no pivot
    is below eps times its diagonal entry (a smaller one is nothing but rounding).
    Otherwise jitter times the mean diagonal is added, the jitter being 10 eps and then
    ten times more at each try, to at most about 10. The derivatives of the factor take
    no further factorisation; the jitter counts as a constant.

    >>> import jax.numpy as jnp
    >>> factor, jitter = cholesky(jnp.ones((2, 2)))  # singular
    >>> float(jitter) > 0, bool(jnp.isfinite(factor).all())
    (True, True)

    Args:
      matrix: symmetric and positive semi-definite up to rounding.

    Returns:
      The lower triangular factor and the jitter used, relative to the mean diagonal:
      0 where none was needed, infinite where none helped (the factor is then NaN).
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    tries = 2 + int(-np.log10(eps))
    jitters = jnp.array([0.0] + [eps * 10.0**k for k in range(1, tries)], matrix.dtype)
    scale = _mean_diagonal(matrix)
    diagonal = jnp.diagonal(matrix)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        attempt, _, good = state
        return jnp.logical_and(jnp.logical_not(good), attempt < tries)

    def attempt_one(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        attempt, _, _ = state
        added = jitters[attempt] * scale
        factor = jax.lax.linalg.cholesky(
            _add_diagonal(matrix, added), symmetrize_input=False
        )
        pivots = jnp.square(jnp.diagonal(factor))
        # Written so that a NaN is no success.
        good = jnp.logical_and(
            jnp.all(pivots >= eps * (diagonal + added)), jnp.isfinite(factor).all()
        )
        return attempt + 1, factor, good

    start = (jnp.array(0), jnp.zeros_like(matrix), jnp.array(False))
    attempts, factor, good = jax.lax.while_loop(unfinished, attempt_one, start)
    jitter = jnp.where(good, jitters[attempts - 1], jnp.array(jnp.inf, matrix.dtype))
    return factor, jitter


def _half_lower(matrix: Array) -> Array:
    """The lower triangle with half the diagonal."""
    lower = jnp.tril(matrix)
    return lower - 0.5 * jnp.diag(jnp.diagonal(matrix))


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    factor, jitter = cholesky(matrix)
    added = jnp.where(jnp.isfinite(jitter), jitter, jnp.zeros_like(jitter))
    tangent = 0.5 * (tangent + tangent.T)
    tangent = _add_diagonal(tangent, added * jnp.trace(tangent) / tangent.shape[0])
    # dL = L Phi(L⁻¹ dA L⁻ᵀ), Phi keeping the lower triangle and half the diagonal.
    inner = jax.lax.linalg.triangular_solve(factor, tangent, left_side=True, lower=True)
    inner = jax.lax.linalg.triangular_solve(
        factor, inner, left_side=False, lower=True, transpose_a=True
    )
    return (factor, jitter), (
        _product(factor, _half_lower(inner)),
        jnp.zeros_like(jitter),
    )


def _cholesky_solve(factor: Array, right: Array) -> Array:
    half = jax.lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(
        factor, half, left_side=True, lower=True, transpose_a=True
    )


class _Factored(NamedTuple):
    factor: Array
    jitter: Array
    ridge: Array
    solver: Callable[[Array], Array]


def _factored(gram: Array, ridge: Array) -> _Factored:
    """Factors the symmetrised gram + ridge I, and solves with it.

    The derivatives of the solver go through the equation A x = b
    (`custom_linear_solve`), not through the factor: they are two more triangular solves
    of the same width.
    """
    gram = 0.5 * (gram + gram.T)
    matrix = _add_diagonal(gram, ridge)
    factor, jitter = cholesky(matrix)
    added = jnp.where(jnp.isfinite(jitter), jitter, jnp.zeros_like(jitter))
    ridge = ridge + jax.lax.stop_gradient(added) * _mean_diagonal(matrix)
    matrix = _add_diagonal(gram, ridge)
    fixed = jax.lax.stop_gradient(factor)

    def solver(right: Array) -> Array:
        return jax.lax.custom_linear_solve(
            lambda x: _product(matrix, x),
            right,
            lambda _, b: _cholesky_solve(fixed, b),
            symmetric=True,
        )

    return _Factored(factor, jitter, ridge, solver)


def _root(weights: Array | None, like: Array) -> Array:
    """Square roots of the weights, with derivative 0 (not infinite) at 0."""
    if weights is None:
        return jnp.ones_like(like)
    positive = weights > 0
    safe = jnp.where(positive, weights, jnp.ones_like(weights))
    return jnp.where(positive, jnp.sqrt(safe), jnp.zeros_like(safe)).astype(like.dtype)


def _as_matrix(targets: Array, dtype: Any) -> Array:
    return targets.reshape(targets.shape[0], -1).astype(dtype)


def kernel_solve(
    gram: Float[Array, "m m"],
    targets: Float[Array, "m *c"],
    *,
    ridge: Scalar,
    convention: Convention = "absolute",
    detach_trace: bool = False,
    weights: Float[Array, " m"] | None = None,
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
      gram: kernel between the samples; it is symmetrised.
      targets: (m, c) or (m,).
      ridge: strength >= 0, read by `convention`.
      convention: `"absolute"`, `"relative"` or `"per_sample"`; with weights, trace(K)/m
        becomes the weighted mean of the diagonal and m the sum of the weights, so that
        a row of weight 2 is a row given twice and a row of weight 0 is no row.
      detach_trace: whether `"relative"` lets no gradient through the trace.
      weights: sample weights >= 0.
      intercept: whether to fit an unpenalised intercept.
      factor_dtype: type in which to factor and solve; that of `gram` when None.

    Returns:
      The coefficients, with the factor and the jitter.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit, an unknown convention, a bad ridge, or float64
        asked for without x64.
    """
    _check_rows(gram, targets, weights, "gram")
    if gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram has shape {gram.shape}, but must be square")
    dtype = _working_dtype(gram.dtype, factor_dtype)
    values, gram = _as_matrix(targets, dtype), gram.astype(dtype)
    root = _root(weights, gram[:, 0])
    diagonal = jnp.square(root) * jnp.diagonal(gram)
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=diagonal.sum(),
        count=jnp.square(root).sum(),
        detach_trace=detach_trace,
    )
    if weights is not None:
        gram = root[:, None] * gram * root[None, :]
    factored = _factored(gram, strength)
    scaled = root[:, None] * values
    right = jnp.concatenate([scaled, root[:, None]], axis=1) if intercept else scaled
    duals = factored.solver(right)
    offset, border = jnp.zeros_like(values[0]), jnp.zeros_like(root)
    if intercept:
        duals, border = duals[:, :-1], duals[:, -1]
        total = jnp.dot(root, border)
        total = jnp.where(total > 0, total, jnp.ones_like(total))
        offset = _product(border, scaled) / total
        duals = duals - border[:, None] * offset[None, :]
        border = border / jnp.sqrt(total)
    return KernelRidgeSolution(
        coefficients=(root[:, None] * duals)
        .reshape(targets.shape)
        .astype(targets.dtype),
        factor=factored.factor,
        jitter=factored.jitter,
        intercept=offset.reshape(targets.shape[1:]).astype(targets.dtype),
        ridge=factored.ridge,
        root_weights=root,
        border=border,
    )


def kernel_predict(
    cross_gram: Float[Array, "n m"], solution: KernelRidgeSolution
) -> Float[Array, "n *c"]:
    """Predictions K_ts alpha + b of a kernel model.

    Args:
      cross_gram: kernel between new inputs (rows) and the solution's samples.
      solution: from `kernel_solve`.
    """
    return _affine(cross_gram, solution.coefficients, solution.intercept)


def predict(
    features: Float[Array, "n p"], solution: RidgeSolution
) -> Float[Array, "n *c"]:
    """Predictions F W + b of a linear model.

    Args:
      features: of new inputs.
      solution: from `solve` or `solve_from_statistics`.
    """
    return _affine(features, solution.weights, solution.intercept)


def _affine(rows: Array, weights: Array, intercept: Array) -> Array:
    return _product(rows, weights) + intercept.reshape((1, *intercept.shape))


# What else comes from the factor.


def log_determinant(factor: Float[Array, "m m"]) -> Float[Array, ""]:
    """The log-determinant of A, 2 sum_i log L_ii.

    Args:
      factor: lower triangular L with A = L Lᵀ, such as `KernelRidgeSolution.factor`.
    """
    return 2.0 * jnp.log(jnp.diagonal(factor)).sum()


def _inverse_diagonal(factor: Array) -> Array:
    identity = jnp.eye(factor.shape[0], dtype=factor.dtype)
    inverse = jax.lax.linalg.triangular_solve(
        factor, identity, left_side=True, lower=True
    )
    return jnp.square(inverse).sum(axis=0)


def trace_of_inverse(factor: Float[Array, "m m"]) -> Float[Array, ""]:
    """The trace of A⁻¹, ‖L⁻¹‖².

    Args:
      factor: lower triangular L with A = L Lᵀ, such as `KernelRidgeSolution.factor`.
    """
    return _inverse_diagonal(factor).sum()


def effective_dimension(solution: KernelRidgeSolution) -> Float[Array, ""]:
    """Degrees of freedom tr(K (K + ridge I)⁻¹) = m − ridge tr A⁻¹ of a fit.

    The intercept is not counted. The absolute error is about m eps, so that a very
    strong ridge leaves few digits.

    Args:
      solution: from `kernel_solve`.
    """
    inverse_diagonal = _inverse_diagonal(solution.factor)
    return (1.0 - solution.ridge * inverse_diagonal).sum()


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
    inverse_diagonal = _inverse_diagonal(solution.factor)
    remaining = inverse_diagonal - jnp.square(solution.border)
    noise = 4.0 * float(jnp.finfo(remaining.dtype).eps) * inverse_diagonal
    possible = jnp.logical_and(remaining > noise, solution.root_weights > 0)
    divisor = jnp.square(solution.root_weights) * remaining
    divisor = jnp.where(possible, divisor, jnp.ones_like(divisor))
    coefficients = solution.coefficients
    values = _as_matrix(coefficients, divisor.dtype) / divisor[:, None]
    values = jnp.where(possible[:, None], values, jnp.zeros_like(values))
    return values.reshape(coefficients.shape).astype(coefficients.dtype)


# Features.


def _centre(values: Array, mass: Array) -> tuple[Array, Array]:
    """Subtracts the weighted mean of the rows; `mass` sums to one."""
    mean = _product(mass, values)
    return values - mean[None, :], mean


def solve(
    features: Float[Array, "m p"],
    targets: Float[Array, "m *c"],
    *,
    ridge: Scalar,
    convention: Convention = "absolute",
    side: Side = "auto",
    detach_trace: bool = False,
    weights: Float[Array, " m"] | None = None,
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

    Returns:
      Weights, intercept and jitter.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit, an unknown convention or side, a bad ridge, or
        float64 asked for without x64.
    """
    _check_rows(features, targets, weights, "features")
    if side not in _SIDES:
        raise ValueError(f"side is {side!r}, not one of {_SIDES}")
    dtype = _working_dtype(features.dtype, factor_dtype)
    rows, values = features.astype(dtype), _as_matrix(targets, dtype)
    root = _root(weights, rows[:, 0])
    mass = jnp.square(root)
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=jnp.dot(mass, jnp.square(rows).sum(axis=1)),
        count=mass.sum(),
        detach_trace=detach_trace,
    )
    offset = jnp.zeros_like(values[0])
    mean = jnp.zeros_like(rows[0])
    if intercept:
        mass = mass / jnp.where(mass.sum() > 0, mass.sum(), jnp.ones_like(mass[0]))
        (rows, mean), (values, offset) = _centre(rows, mass), _centre(values, mass)
    if weights is not None:
        rows, values = root[:, None] * rows, root[:, None] * values
    if side == "sample" or (side == "auto" and rows.shape[0] <= rows.shape[1]):
        factored = _factored(_product(rows, rows.T), strength)
        solution = _product(rows.T, factored.solver(values))
    else:
        factored = _factored(_product(rows.T, rows), strength)
        solution = factored.solver(_product(rows.T, values))
    offset = offset - _product(mean, solution)
    return RidgeSolution(
        weights=solution.reshape(rows.shape[1:] + targets.shape[1:]).astype(
            targets.dtype
        ),
        intercept=offset.reshape(targets.shape[1:]).astype(targets.dtype),
        jitter=factored.jitter,
    )


# The squared loss through its sufficient statistics.


def sufficient_statistics(
    features: Float[Array, "n p"],
    targets: Float[Array, "n *c"],
    *,
    weights: Float[Array, " n"] | None = None,
) -> SufficientStatistics:
    """FᵀF, FᵀY, ‖Y‖² and n, or the same with every row counted by its weight.

    For an intercept, append a column of ones to the features.

    >>> import jax.numpy as jnp
    >>> float(sufficient_statistics(jnp.ones((3, 2)), jnp.ones((3, 1))).count)
    3.0

    Args:
      features: (n, p).
      targets: (n, c) or (n,).
      weights: sample weights >= 0; weight 0 makes a row of padding.

    Raises:
      TypeError: arrays that are not floating.
      ValueError: shapes that do not fit.
    """
    _check_rows(features, targets, weights, "features")
    values = _as_matrix(targets, features.dtype)
    mass = jnp.ones_like(features[:, 0]) if weights is None else weights
    weighted = features if weights is None else mass[:, None] * features
    return SufficientStatistics(
        gram=_product(weighted.T, features),
        cross=_product(weighted.T, values).reshape(
            features.shape[1:] + targets.shape[1:]
        ),
        targets_norm=jnp.dot(mass, jnp.square(values).sum(axis=1)),
        count=mass.sum(),
    )


def zero_statistics(
    size: int, *, target_shape: tuple[int, ...] = (), dtype: Any = jnp.float32
) -> SufficientStatistics:
    """The statistics of no rows at all, to start a sum from.

    Args:
      size: number of features p.
      target_shape: shape of one target: `()` or `(c,)`.
      dtype: floating type.
    """
    return SufficientStatistics(
        gram=jnp.zeros((size, size), dtype),
        cross=jnp.zeros((size, *target_shape), dtype),
        targets_norm=jnp.zeros((), dtype),
        count=jnp.zeros((), dtype),
    )


def add_statistics(
    left: SufficientStatistics, right: SufficientStatistics
) -> SufficientStatistics:
    """The statistics of the rows of both."""
    return jax.tree.map(jnp.add, left, right)


def streamed_statistics(
    blocks: Iterable[tuple[Array | np.ndarray, Array | np.ndarray]],
) -> SufficientStatistics:
    """The statistics of rows that come block by block.

    One block is held at a time. A block of another shape costs another compilation.

    >>> import numpy as np
    >>> rows, labels = np.ones((5, 2), np.float32), np.ones((5, 1), np.float32)
    >>> blocks = ((rows[i : i + 2], labels[i : i + 2]) for i in range(0, 5, 2))
    >>> print(streamed_statistics(blocks).cross[:, 0])
    [5. 5.]

    Args:
      blocks: pairs of features (n_i, p) and targets (n_i, c) or (n_i,).

    Raises:
      ValueError: no block at all, or shapes that do not fit.
    """
    total = None
    for features, targets in blocks:
        features, targets = jnp.asarray(features), jnp.asarray(targets)
        if total is None:
            total = zero_statistics(
                features.shape[1],
                target_shape=targets.shape[1:],
                dtype=features.dtype,
            )
        total = _accumulate(total, features, targets)
    if total is None:
        raise ValueError("blocks is empty: statistics need at least one block")
    return total


@functools.partial(jax.jit, donate_argnums=0)
def _accumulate(
    total: SufficientStatistics, features: Array, targets: Array
) -> SufficientStatistics:
    return add_statistics(total, sufficient_statistics(features, targets))


def squared_loss_from_statistics(
    weights: Float[Array, "p *c"], statistics: SufficientStatistics
) -> Float[Array, ""]:
    r"""Half the summed squared error, at a cost that does not depend on n.

    .. math::
        \tfrac12 \lVert F W - Y \rVert^2 = \tfrac12 \left( \lVert Y \rVert^2
        - 2 \langle W, F^\top Y \rangle + \langle W, F^\top F\, W \rangle \right).

    Divide by `statistics.count` for the mean. The three terms cancel where the fit is
    near perfect: the absolute error is about eps ‖Y‖², so that in float32 a loss below
    1e-6 ‖Y‖² has no digits left.

    Args:
      weights: (p, c) or (p,).
      statistics: of the features and targets.

    Raises:
      ValueError: weights that do not have the shape of `statistics.cross`.
    """
    if weights.shape != statistics.cross.shape:
        raise ValueError(
            f"weights have shape {weights.shape}, but the statistics are for "
            f"{statistics.cross.shape}"
        )
    linear = jnp.sum(weights * statistics.cross)
    quadratic = jnp.sum(weights * _product(statistics.gram, weights))
    return 0.5 * (statistics.targets_norm - 2.0 * linear + quadratic)


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
    dtype = _working_dtype(statistics.gram.dtype, factor_dtype)
    gram, cross = statistics.gram.astype(dtype), statistics.cross
    strength = absolute_ridge(
        ridge,
        convention=convention,
        trace=jnp.trace(gram),
        count=statistics.count.astype(dtype),
        detach_trace=detach_trace,
    )
    factored = _factored(gram, strength)
    solution = factored.solver(_as_matrix(cross, dtype))
    return RidgeSolution(
        weights=solution.reshape(cross.shape).astype(cross.dtype),
        intercept=jnp.zeros(cross.shape[1:], cross.dtype),
        jitter=factored.jitter,
    )
