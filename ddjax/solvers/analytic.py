r"""Distilled sets in closed form: as few samples as possible, the same predictor.

Ridge regression on inputs X (m, d) and targets Y (m, c) with strength lambda gives

.. math::
    W_S = X^\top (X X^\top + \lambda I)^{-1} Y = K Y, \qquad
    X = A\,\mathrm{diag}(\sigma)\,B^\top \;\Rightarrow\;
    K = B\,\mathrm{diag}\Big(\frac{\sigma_i}{\sigma_i^2 + \lambda}\Big) A^\top .

Which sets give wanted weights W (d, c), those of the full data, follows from two
facts: :math:`W_S` has a rank of at most m and lies in the span of the rows of X; and
:math:`\sigma/(\sigma^2 + \lambda)` takes the values from 0 to
:math:`1/(2\sqrt\lambda)` and no others. Hence

- with both free (`distilled_set`): a set of m samples exists if and only if
  :math:`m \ge \mathrm{rank}\,W`. One sample per output is always enough, and one is
  enough for a single output, for every lambda;
- with the targets given (`inputs_for_targets`): if and only if the rows of W lie in the
  span of the rows of Y and :math:`\lambda \le 1/(4 \lVert W Y^+ \rVert_2^2)`;
- with the inputs given (`targets_for_inputs`): if and only if the columns of W lie in
  the span of the rows of X;
- for a kernel (`kernel_targets_for_inputs`): if and only if the predictor lies in the
  span of the kernel functions at the inputs. Inputs for wanted features can be had when
  the feature map reaches them (`through_feature_map`).

Every function checks its condition and raises `NoExactSet` with the numbers when it
fails. All of this is done in float64 with NumPy on the host, whatever comes in; nothing
here can be traced. Ranks are numerical: singular values below max(m, d, c) eps times
the largest, or below `tolerance` where one is asked for, count as zero.

Source: that one sample per class suffices for linear ridge regression, and for a kernel
whose feature map is onto, is in Chen, Huang and Weng, "Provable and efficient dataset
distillation for kernel ridge regression" (NeurIPS 2024). The conditions above are
derived here, in singular values; `distilled_set` is, of all exact sets, the one of
least norm.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "AnalyticSet",
    "KernelTargets",
    "NoExactSet",
    "distilled_set",
    "inputs_for_targets",
    "kernel_targets_for_inputs",
    "targets_for_inputs",
    "through_feature_map",
]

Convention = Literal["absolute", "per_sample"]
_Real = Array | np.ndarray

CONVENTIONS = ("absolute", "per_sample")


class NoExactSet(ValueError):
    """No set of the kind reproduces the weights; the message has the condition."""


class AnalyticSet(NamedTuple):
    """A distilled set and what ridge regression on it gives.

    Attributes:
      inputs: X, float64.
      targets: Y, float64.
      weights: W_S, the weights that the set gives (those wanted, when it is exact).
      error: Frobenius norm of W_S - W relative to that of W, in the metric given.
    """

    inputs: Float[np.ndarray, "m d"]
    targets: Float[np.ndarray, "m *c"]
    weights: Float[np.ndarray, "d *c"]
    error: float


class KernelTargets(NamedTuple):
    """Targets for given inputs of a kernel machine.

    Attributes:
      targets: Y, float64.
      coefficients: of the kernel functions at the inputs, in the predictor they give.
      error: norm of the difference of the two predictors relative to that of the wanted
        one, in the kernel's space.
    """

    targets: Float[np.ndarray, "m *c"]
    coefficients: Float[np.ndarray, "m *c"]
    error: float


# What is shared.


def _matrix(value: _Real, name: str) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"{name} have shape {array.shape}, but must be (n,) or (n, c)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} are not finite")
    return array.reshape(len(array), -1)


def _strength(ridge: float, convention: str, count: int) -> float:
    if convention not in CONVENTIONS:
        raise ValueError(
            f"convention is {convention!r}, not one of {CONVENTIONS}; 'relative' would "
            f"hang on the inputs that are looked for"
        )
    if not 0 <= ridge < np.inf:
        raise ValueError(f"ridge is {ridge}, but must be finite and >= 0")
    return float(ridge) * (count if convention == "per_sample" else 1)


def _rank(singular: np.ndarray, *sizes: int) -> int:
    if not singular.size or not singular[0] > 0:
        return 0
    eps = float(np.finfo(np.float64).eps)
    return int(np.sum(singular > max(sizes) * eps * singular[0]))


def _pseudo_inverse(matrix: np.ndarray) -> np.ndarray:
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    rank = _rank(singular, *matrix.shape)
    return (right[:rank].T / singular[:rank]) @ left[:, :rank].T


def _metric(metric: _Real | None, size: int) -> np.ndarray:
    if metric is None:
        return np.eye(size)
    array = np.asarray(metric, np.float64)
    if array.shape != (size, size):
        raise ValueError(
            f"metric has shape {array.shape}, but the weights call for {(size, size)}"
        )
    return 0.5 * (array + array.T)


def _relative_error(found: np.ndarray, wanted: np.ndarray, metric: np.ndarray) -> float:
    def norm(w: np.ndarray) -> float:
        return float(np.sqrt(max(np.sum(w * (metric @ w)), 0.0)))

    total = norm(wanted)
    return norm(found - wanted) / total if total > 0 else float(np.abs(found).max())


def _result(
    inputs: np.ndarray,
    targets: np.ndarray,
    found: np.ndarray,
    wanted: _Real,
    metric: np.ndarray,
) -> AnalyticSet:
    tail = np.shape(wanted)[1:]
    error = _relative_error(found, _matrix(wanted, "weights"), metric)
    return AnalyticSet(
        inputs,
        targets.reshape(len(targets), *tail),
        found.reshape(len(found), *tail),
        error,
    )


# Both free.


def distilled_set(
    weights: Float[_Real, "d *c"],
    *,
    ridge: float,
    convention: Convention = "absolute",
    count: int | None = None,
    scale: float | None = None,
    approximate: bool = False,
    metric: Float[_Real, "d d"] | None = None,
) -> AnalyticSet:
    r"""The set of least norm from which ridge regression gives the wanted weights.

    With the singular values s of W, :math:`W = B\,\mathrm{diag}(s)\,C^\top`,

    .. math::
        X = A\,\mathrm{diag}(\sigma)\,B^\top, \qquad
        Y = A\,\mathrm{diag}\Big(s_i \frac{\sigma_i^2 + \lambda}{\sigma_i}\Big) C^\top

    is exact for all A with orthonormal columns and all sigma. Here A = C when there is
    a sample for every output (sample i then stands for output i and Y is symmetric,
    further samples being zero), and the first unit vectors otherwise. The sum
    :math:`\lVert X \rVert^2 + \lVert Y \rVert^2` is least for
    :math:`\sigma_i^2 = \lambda s_i / \sqrt{1 + s_i^2}`, the default for lambda > 0:
    what the optimum of an outer loss with weight decay on the set tends to as the decay
    vanishes. The regularised Gram then has a condition number below 2, so that solving
    for the weights again loses no digits.

    >>> import numpy as np
    >>> found = distilled_set(np.array([3.0, 4.0]), ridge=1.0)  # one output, one sample
    >>> x, y = found.inputs, found.targets
    >>> print((x.T @ y / (x @ x.T + 1.0)).round(6))
    [[3. 4.]]

    Args:
      weights: W (d, c) or (d,) of the full data.
      ridge: strength >= 0 with which the set will be trained on.
      convention: `"absolute"`, or `"per_sample"` (times the number of samples).
      count: number of samples m; that of outputs when None.
      scale: all sigma, > 0, instead of those of least norm: the norm of the inputs'
        principal components. For lambda = 0 the default is 1.
      approximate: with fewer samples than the rank of W, take the nearest weights of
        rank m instead of raising an error.
      metric: the G of the distance tr((V - W)ᵀ G (V - W)) that says which are nearest:
        the Gram of the real inputs for nearest predictions; the identity when None.

    Returns:
      The set, in float64.

    Raises:
      NoExactSet: fewer samples than the rank of W, and not `approximate`.
      ValueError: shapes that do not fit, numbers out of range, an unknown convention.
    """
    wanted = _matrix(weights, "weights")
    d, c = wanted.shape
    m = c if count is None else count
    if m < 1:
        raise ValueError(f"count is {count}, but at least one sample is needed")
    if scale is not None and not 0 < scale < np.inf:
        raise ValueError(f"scale is {scale}, but must be finite and > 0")
    strength = _strength(ridge, convention, m)
    gram = _metric(metric, d)
    left, s, right = np.linalg.svd(wanted, full_matrices=False)
    rank = _rank(s, d, c)
    if m < rank:
        if not approximate:
            raise NoExactSet(
                f"weights of rank {rank} need at least {rank} samples, but count is "
                f"{m}; approximate=True takes the nearest weights of rank {m}"
            )
        _, vectors = np.linalg.eigh(wanted.T @ gram @ wanted)
        nearest = wanted @ vectors[:, -m:] @ vectors[:, -m:].T
        left, s, right = np.linalg.svd(nearest, full_matrices=False)
        rank = min(m, _rank(s, d, c))
    left, s, right = left[:, :rank], s[:rank], right[:rank]
    if scale is not None or strength == 0:
        sigma = np.full(rank, 1.0 if scale is None else scale)
    else:
        sigma = np.sqrt(strength * s / np.sqrt(1 + s * s))
    mixing = np.eye(m, rank)
    if m >= c:
        mixing[:c] = right.T
    inputs = mixing * sigma @ left.T
    targets = mixing * (s * (sigma * sigma + strength) / sigma) @ right
    return _result(inputs, targets, left * s @ right, weights, gram)


# One of the two given.


def inputs_for_targets(
    weights: Float[_Real, "d *c"],
    targets: Float[_Real, "m *c"],
    *,
    ridge: float,
    convention: Convention = "absolute",
    large: bool = False,
    tolerance: float = 1e-9,
) -> AnalyticSet:
    r"""Inputs for given targets (one-hot labels, say).

    With :math:`W Y^+ = B\,\mathrm{diag}(k)\,A^\top` (the K of least spectral norm among
    those with K Y = W), X = A diag(sigma) Bᵀ, where

    .. math::
        \frac{\sigma}{\sigma^2 + \lambda} = k, \qquad
        \sigma = \frac{1 \mp \sqrt{1 - 4\lambda k^2}}{2k} .

    Args:
      weights: W (d, c) or (d,) of the full data.
      targets: Y (m, c) or (m,).
      ridge: strength >= 0 with which the set will be trained on.
      convention: `"absolute"`, or `"per_sample"` (times the number of samples).
      large: take the larger of the two sigma, for inputs that ridge hardly shrinks. It
        is the only one for lambda = 0.
      tolerance: how far W Y⁺ Y may be from W, relative to W.

    Returns:
      The set, in float64.

    Raises:
      NoExactSet: rows of W outside the span of those of Y, or a ridge that is too
        strong for targets of this size; the message has the largest that will do and
        the factor by which the targets would have to grow.
      ValueError: shapes that do not fit, numbers out of range, an unknown convention.
    """
    wanted, y = _matrix(weights, "weights"), _matrix(targets, "targets")
    if wanted.shape[1] != y.shape[1]:
        raise ValueError(
            f"weights have {wanted.shape[1]} outputs, but targets {y.shape[1]}"
        )
    strength = _strength(ridge, convention, len(y))
    matrix = wanted @ _pseudo_inverse(y)
    identity = np.eye(len(wanted))
    error = _relative_error(matrix @ y, wanted, identity)
    if error > tolerance:
        raise NoExactSet(
            f"the rows of the weights leave the span of the targets' rows by "
            f"{error:.3g} of their norm (allowed: {tolerance:.3g}); targets of rank "
            f"{np.linalg.matrix_rank(wanted)} or more that cover them are needed"
        )
    left, k, right = np.linalg.svd(matrix, full_matrices=False)
    rank = _rank(k, *matrix.shape)
    left, k, right = left[:, :rank], k[:rank], right[:rank]
    under_root = 1 - 4 * strength * k * k
    if rank and under_root[0] < -1e-12:
        raise NoExactSet(
            f"the ridge is {strength:.6g}, but these targets reproduce the weights "
            f"only up to {1 / (4 * k[0] ** 2):.6g} = 1 / (4 ||W Y^+||^2); targets "
            f"{2 * np.sqrt(strength) * k[0]:.6g} times as large would do"
        )
    root = np.sqrt(np.maximum(under_root, 0.0))
    if large or strength == 0:
        sigma = (1 + root) / (2 * k)
    else:
        sigma = 2 * strength * k / (1 + root)
    inputs = right.T * sigma @ left.T
    found = left * (sigma / (sigma * sigma + strength)) @ right @ y
    return _result(inputs, y, found, weights, identity)


def targets_for_inputs(
    weights: Float[_Real, "d *c"],
    inputs: Float[_Real, "m d"],
    *,
    ridge: float,
    convention: Convention = "absolute",
    approximate: bool = False,
    metric: Float[_Real, "d d"] | None = None,
    tolerance: float = 1e-9,
) -> AnalyticSet:
    r"""Targets for given inputs (selected real samples, say).

    .. math::
        Y = (X X^\top + \lambda I)\,\alpha, \qquad
        \alpha = (X G X^\top)^+ X G\, W,

    the coefficients of the weights in the span of the inputs that are nearest to W in
    the metric G: W itself when it lies in the span, whatever G.

    Args:
      weights: W (d, c) or (d,) of the full data.
      inputs: X (m, d).
      ridge: strength >= 0 with which the set will be trained on.
      convention: `"absolute"`, or `"per_sample"` (times the number of samples).
      approximate: take the nearest weights instead of raising an error when W is
        outside the span.
      metric: G as in `distilled_set`.
      tolerance: how far the nearest weights may be from W, relative to W, and still
        count as exact.

    Returns:
      The set, in float64.

    Raises:
      NoExactSet: W outside the span of the inputs, and not `approximate`.
      ValueError: shapes that do not fit, numbers out of range, an unknown convention.
    """
    wanted, x = _matrix(weights, "weights"), _matrix(inputs, "inputs")
    if x.shape[1] != len(wanted):
        raise ValueError(f"weights have {len(wanted)} rows, but inputs {x.shape[1]}")
    strength = _strength(ridge, convention, len(x))
    gram = _metric(metric, len(wanted))
    if metric is None:
        alpha = _pseudo_inverse(x.T) @ wanted
    else:
        alpha = _pseudo_inverse(x @ gram @ x.T) @ (x @ (gram @ wanted))
    found = x.T @ alpha
    result = _result(x, x @ found + strength * alpha, found, weights, gram)
    if result.error > tolerance and not approximate:
        raise NoExactSet(
            f"the weights leave the span of the {len(x)} inputs by {result.error:.3g} "
            f"of their norm (allowed: {tolerance:.3g}); approximate=True takes the "
            f"nearest weights within it"
        )
    return result


# Kernels and feature maps.


def kernel_targets_for_inputs(
    gram: Float[_Real, "m m"],
    predictions: Float[_Real, "m *c"],
    *,
    squared_norm: float,
    ridge: float,
    convention: Convention = "absolute",
    approximate: bool = False,
    tolerance: float = 1e-6,
) -> KernelTargets:
    r"""Targets for given inputs of a kernel machine.

    Of all predictors :math:`\sum_i \alpha_i k(x_i, \cdot)`, the one nearest to the
    wanted f in the kernel's space has the same predictions at the inputs, and

    .. math::
        Y = (K + \lambda I)\,\alpha, \qquad \alpha = K^+ f(X), \qquad
        \lVert f - f_S \rVert^2 = \lVert f \rVert^2
          - \langle \alpha, f(X) \rangle .

    It is f itself when f lies in the span, as it must once m reaches the number of
    features of a kernel with finitely many (and the inputs are in general position).

    Args:
      gram: K between the inputs.
      predictions: f(X), of the full data's predictor at the inputs.
      squared_norm: ||f||², for f = sum_j a_j k(z_j, .) it is <a, K_zz a>, summed over
        outputs.
      ridge: strength >= 0 with which the set will be trained on.
      convention: `"absolute"`, or `"per_sample"` (times the number of samples).
      approximate: take the nearest predictor instead of raising an error.
      tolerance: how large the relative error may be and still count as exact. The
        difference of squares above leaves it no more than some eight digits.

    Returns:
      Targets and coefficients, in float64.

    Raises:
      NoExactSet: f outside the span, and not `approximate`.
      ValueError: shapes that do not fit, numbers out of range, an unknown convention.
    """
    kernel, f = _matrix(gram, "gram"), _matrix(predictions, "predictions")
    if kernel.shape != (len(f), len(f)):
        raise ValueError(
            f"gram has shape {kernel.shape}, but {len(f)} predictions call for "
            f"{(len(f), len(f))}"
        )
    if not 0 < squared_norm < np.inf:
        raise ValueError(f"squared_norm is {squared_norm}, but must be finite and > 0")
    strength = _strength(ridge, convention, len(f))
    kernel = 0.5 * (kernel + kernel.T)
    alpha = _pseudo_inverse(kernel) @ f
    fitted = kernel @ alpha
    missing = squared_norm - 2 * np.sum(alpha * f) + np.sum(alpha * fitted)
    error = float(np.sqrt(max(missing, 0.0) / squared_norm))
    if error > tolerance and not approximate:
        raise NoExactSet(
            f"the predictor leaves the span of the kernel functions at the {len(f)} "
            f"inputs by {error:.3g} of its norm (allowed: {tolerance:.3g}); "
            f"approximate=True takes the nearest one within it"
        )
    shape = np.shape(predictions)
    targets = fitted + strength * alpha
    return KernelTargets(targets.reshape(shape), alpha.reshape(shape), error)


def through_feature_map(
    analytic: AnalyticSet,
    *,
    features: Callable[[np.ndarray], Any],
    inverse: Callable[[np.ndarray], Any],
    tolerance: float = 1e-6,
) -> AnalyticSet:
    """Inputs whose features are the wanted ones.

    A set that was found in feature space (with W and X over features) becomes one over
    inputs when the feature map reaches its rows: always for a map that is onto, such
    as an invertible one. A map with a constant feature is not (centre the data
    instead), and neither is one with more features than inputs have entries.

    Args:
      analytic: the set in feature space.
      features: the feature map, rows to rows.
      inverse: features to inputs that have them.
      tolerance: how far the features of a row may be from those wanted, relative to
        the largest row.

    Returns:
      The set with its inputs replaced; weights and error stay those over features.

    Raises:
      NoExactSet: features that the map does not reach; the message names the worst row.
    """
    inputs = np.asarray(inverse(analytic.inputs), np.float64)
    reached = np.asarray(features(inputs), np.float64)
    if reached.shape != analytic.inputs.shape:
        raise ValueError(
            f"features of the found inputs have shape {reached.shape}, but those "
            f"wanted {analytic.inputs.shape}"
        )
    distances = np.linalg.norm(reached - analytic.inputs, axis=1)
    largest = np.linalg.norm(analytic.inputs, axis=1).max()
    worst = int(np.argmax(distances))
    if not distances[worst] <= tolerance * largest:
        raise NoExactSet(
            f"the feature map does not reach row {worst}: the nearest features found "
            f"are {distances[worst] / max(largest, 1e-300):.3g} of the largest row's "
            f"norm away (allowed: {tolerance:.3g})"
        )
    return analytic._replace(inputs=inputs)
