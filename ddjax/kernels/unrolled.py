r"""Gradient descent on a small ridge problem, step by step and in closed form.

With distilled inputs X (m, d), targets Y (m, c) and initial weights theta_0 (d, c), the
inner loss and its T steps of gradient descent are

.. math::
    \ell(\theta) = \tfrac{1}{2m} \lVert X\theta - Y \rVert^2
      + \tfrac{\lambda}{2} \lVert \theta \rVert^2, \qquad
    \theta_T = M^T \theta_0 + \tfrac{\eta}{m} \sum_{k<T} M^k X^\top Y, \qquad
    M = (1 - \eta\lambda) I - \tfrac{\eta}{m} X^\top X .

`iterate` computes :math:`\theta_T` in three forms that agree:

- `"scan"`: the steps themselves, O(T m d c). The reference. T is a plain integer.
- `"doubling"`: the affine map of one step, composed with itself along the binary digits
  of T; O(k³ log T) with k = min(m, d). Derivatives of any order; the first keeps
  about two k x k matrices per digit (31 digits when T is an array).
- `"spectral"`: eigenvectors, and powers of the eigenvalues; O(k³), whatever T. First
  derivatives only.

Each works in feature space, with the d x d matrix M, or in sample space, where
:math:`\theta_t = \beta^t \theta_0 + X^\top c_t`, :math:`\beta = 1 - \eta\lambda`, and

.. math::
    c_{t+1} = \Big(\beta I - \tfrac{\eta}{m} X X^\top\Big) c_t
      + \tfrac{\eta}{m} \big(Y - \beta^t X \theta_0\big), \qquad c_0 = 0 .

Where the paper differs. "Toward Dataset Distillation for Regression Problems" prints in
equation (4), with :math:`\gamma = \eta/m` and :math:`A = X^\top X`,

.. math::
    \theta_t = (\beta I - \gamma A)^t \theta_0 + \sum_{j=0}^{t-1} (-1)^j \binom{t}{j}
      \beta^{t-j} (\gamma A)^j X^\top Y
      \qquad\text{(printed)},

where the geometric sum gives

.. math::
    \theta_t = (\beta I - \gamma A)^t \theta_0 + \gamma \sum_{j=0}^{t-1} (-1)^j
      \Big[\sum_{k=j}^{t-1} \binom{k}{j} \beta^{k-j}\Big] (\gamma A)^j X^\top Y
      \qquad\text{(right)}:

the factor gamma is missing, and the binomial is that of one power instead of the sum of
powers (the bracket is :math:`\binom{t}{j+1}` for :math:`\lambda = 0`). The derivative
in Y of appendix A.5 is that of the right formula for :math:`\lambda = 0`, with X where
:math:`X^\top` is meant. In A.4 the first step lacks a minus sign and eta before
:math:`\lambda\theta_0`. Equation (10), the gradient of
:math:`\frac{1}{2n}\lVert X_r\theta_1 - Y_r \rVert^2` in X after one step, is right;
equation (11), that in Y, is too large by the factor 2n. Lemma 2.4 says that
:math:`M^t \to 0` below its step size (`step_size_limit`); with :math:`\lambda = 0` and
rank X < d it does not, and theta keeps what theta_0 has outside the rows of X (the
predictions X theta converge all the same). Even the right alternating sum must not be
computed: its terms cancel, and at t = 200 nothing of the result remains.

Numbers. The spectral form works with :math:`1 - \mu` and is accurate to rounding for
every T. The other two carry an error of up to about T eps, relative to the result, in
directions that hardly contract (eta(sigma²/m + lambda) T < 1), eps being 2.2e-16 in
float64 and 1.2e-7 in float32; elsewhere they too are accurate to rounding. Where the
space is chosen to be the larger one, or X has no full rank, all of its null space is
such a direction for :math:`\lambda = 0` (and the derivative in lambda may then lose
T² eps). When X has no full rank and Y is not in its range, the iterate itself moves by
about :math:`T \eta\,\epsilon \lVert X \rVert \lVert Y \rVert / m` for a relative change
of X by eps: no form can have more digits. The spectral form takes singular values below
max(m, d) eps times the largest for zero.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ddjax.kernels._power_differences import power_differences
from ddjax.kernels._rows import check_ridge
from ddjax.kernels.precision import product, transposed_product

__all__ = ["FORMS", "SPACES", "check_step_size", "iterate", "step_size_limit"]

Form = Literal["auto", "scan", "doubling", "spectral"]
Space = Literal["auto", "feature", "sample"]
Scalar = float | int | np.number | Float[Array, ""]

FORMS = ("auto", "scan", "doubling", "spectral")
SPACES = ("auto", "feature", "sample")

_MOST_STEPS = 2**31 - 1


# The step size.


def step_size_limit(
    inputs: Float[Array, "m d"], *, ridge: Scalar = 0.0
) -> Float[Array, ""]:
    r"""The step size below which the iteration contracts.

    .. math:: \eta < \frac{2m}{\sigma_{\max}^2(X) + m\lambda}

    makes every eigenvalue of M smaller than one in magnitude, but for those in
    directions without curvature (:math:`\lambda = 0`, :math:`Xv = 0`), which are one.

    >>> import jax.numpy as jnp
    >>> print(step_size_limit(jnp.array([[3.0, 0.0], [0.0, 1.0]]), ridge=0.5))
    0.4

    Args:
      inputs: the distilled inputs X.
      ridge: lambda >= 0 of the average loss.

    Returns:
      The limit; infinite when X and lambda are zero.

    Raises:
      ValueError: a negative or non-finite number for `ridge`.

    Source: "Toward Dataset Distillation for Regression Problems", Lemma 2.4, (5).
    """
    check_ridge(ridge)
    rows = inputs.shape[0]
    wide = rows <= inputs.shape[1]
    gram = product(inputs, inputs.T) if wide else product(inputs.T, inputs)
    largest = jnp.maximum(jnp.linalg.eigvalsh(gram)[-1], 0.0)
    return 2.0 * rows / (largest + rows * _scalar(ridge, inputs.dtype))


def check_step_size(
    inputs: Float[Array, "m d"], *, step_size: Scalar, ridge: Scalar = 0.0
) -> float:
    """Refuses a step size that is not below `step_size_limit`.

    For use before a run and between steps; not under `jit`.

    Args:
      inputs: the distilled inputs X.
      step_size: eta.
      ridge: lambda >= 0 of the average loss.

    Returns:
      The limit, to be reported.

    Raises:
      ValueError: eta is not positive or not below the limit; the message has both.
    """
    limit, size = float(step_size_limit(inputs, ridge=ridge)), float(step_size)
    if not 0 < size < limit:
        raise ValueError(
            f"the step size is {size:.6g}, but gradient descent on these "
            f"{inputs.shape[0]} samples needs one between 0 and {limit:.6g} = "
            f"2m / (sigma_max^2 + m lambda)"
        )
    return limit


# What a user can get wrong.


def _scalar(value: Scalar, dtype: Any) -> Array:
    return jnp.asarray(value).astype(dtype)


def _check_arrays(inputs: Array, targets: Array, initial_weights: Array) -> None:
    for name, value in (
        ("inputs", inputs),
        ("targets", targets),
        ("initial_weights", initial_weights),
    ):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(f"{name} are {value.dtype}; floating numbers are needed")
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"inputs have shape {inputs.shape}, but must be (m, d)")
    m, d = inputs.shape
    if targets.ndim not in (1, 2) or targets.shape[0] != m:
        raise ValueError(
            f"{m} rows of inputs, but targets of shape {targets.shape}: "
            f"({m},) or ({m}, c) is needed"
        )
    if initial_weights.shape != (d, *targets.shape[1:]):
        raise ValueError(
            f"initial_weights have shape {initial_weights.shape}, but inputs "
            f"{inputs.shape} and targets {targets.shape} call for "
            f"{(d, *targets.shape[1:])}; draws of them go through jax.vmap"
        )


def _check_steps(steps: int | np.integer | Array) -> tuple[Array, int]:
    """T as an array, and how many binary digits it may have."""
    if isinstance(steps, int | np.integer):
        if not 0 <= steps <= _MOST_STEPS:
            raise ValueError(f"steps is {steps}, but must be from 0 to {_MOST_STEPS}")
        return jnp.asarray(int(steps), jnp.int32), int(steps).bit_length()
    if not jnp.issubdtype(steps.dtype, jnp.integer) or steps.ndim:
        raise TypeError(
            f"steps is {steps.dtype} of shape {steps.shape}, but must be one integer"
        )
    return steps.astype(jnp.int32), _MOST_STEPS.bit_length()


def iterate(
    inputs: Float[Array, "m d"],
    targets: Float[Array, "m *c"],
    initial_weights: Float[Array, "d *c"],
    *,
    step_size: Scalar,
    ridge: Scalar,
    steps: int | np.integer | Int[Array, ""],
    form: Form = "auto",
    space: Space = "auto",
) -> Float[Array, "d *c"]:
    r"""The weights after T steps of gradient descent on the inner loss.

    .. math::
        \theta_{t+1} = \theta_t - \eta \Big[\tfrac1m X^\top (X\theta_t - Y)
          + \lambda\theta_t\Big]

    Differentiable in the three arrays, the step size and the ridge. Works under `jit`
    and under `vmap` (over draws of the initial weights, say: the decomposition is then
    computed once). The step size is not checked here (`check_step_size`): with one
    beyond the limit the iteration diverges, as it does when written out.

    >>> import jax.numpy as jnp
    >>> x, y = jnp.array([[1.0, 0.0]]), jnp.array([1.0])
    >>> print(iterate(x, y, jnp.array([0.0, 2.0]), step_size=0.5, ridge=0.0, steps=2))
    [0.75 2.  ]

    Args:
      inputs: distilled inputs X, one sample a row.
      targets: Y, (m, c) or (m,).
      initial_weights: theta_0, (d, c) or (d,), any values.
      step_size: eta, below `step_size_limit`.
      ridge: lambda >= 0 of the average loss: the `per_sample` strength of `ridge`.
      steps: T from 0 to 2**31 - 1. As an integer array, traced or not, T may change
        without another compilation.
      form: `"scan"`, `"doubling"`, `"spectral"`, or `"auto"`: doubling.
      space: `"feature"` (d x d), `"sample"` (m x m) or `"auto"`: the smaller.

    Returns:
      The weights theta_T, of the type of `initial_weights`.

    Raises:
      TypeError: arrays that are not floating, or steps that are no integer.
      ValueError: shapes that do not fit, an unknown form or space, a number out of its
        range, `form="scan"` with steps that are not a plain integer.
      NotImplementedError: a second derivative of the spectral form.

    Source: "Toward Dataset Distillation for Regression Problems", (3) and (4); see the
    module for what is corrected.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, not one of {FORMS}")
    if space not in SPACES:
        raise ValueError(f"space is {space!r}, not one of {SPACES}")
    check_ridge(ridge)
    _check_arrays(inputs, targets, initial_weights)
    count, digits = _check_steps(steps)
    if space == "auto":
        space = "sample" if inputs.shape[0] < inputs.shape[1] else "feature"
    dtype = inputs.dtype
    problem = (
        inputs,
        targets.reshape(targets.shape[0], -1).astype(dtype),
        initial_weights.reshape(initial_weights.shape[0], -1).astype(dtype),
        _scalar(step_size, dtype),
        _scalar(ridge, dtype),
    )
    if form == "scan":
        if not isinstance(steps, int | np.integer):
            raise ValueError(
                "form='scan' needs steps as a plain integer; 'doubling' and 'spectral' "
                "take an array"
            )
        scan = _scan_features if space == "feature" else _scan_samples
        weights = scan(*problem, int(steps))
    elif form == "spectral":
        spectral = _spectral_features if space == "feature" else _spectral_samples
        weights = spectral(*problem, count)
    else:
        doubling = _double_features if space == "feature" else _double_samples
        weights = doubling(*problem, count, digits)
    return weights.reshape(initial_weights.shape).astype(initial_weights.dtype)


# Step by step.


def _scan_features(
    x: Array, y: Array, start: Array, step: Array, ridge: Array, steps: int
) -> Array:
    rate, shrinkage = step / x.shape[0], step * ridge

    def body(theta: Array, _: None) -> tuple[Array, None]:
        residual = product(x, theta) - y
        back = transposed_product(x, residual)
        return theta - rate * back - shrinkage * theta, None

    return jax.lax.scan(body, start, None, length=steps)[0]


def _scan_samples(
    x: Array, y: Array, start: Array, step: Array, ridge: Array, steps: int
) -> Array:
    rate, shrinkage = step / x.shape[0], step * ridge
    gram, outputs = product(x, x.T), product(x, start)

    def body(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        c, decay = state
        residual = product(gram, c) + decay * outputs - y
        return (c - rate * residual - shrinkage * c, decay - shrinkage * decay), None

    initial = (jnp.zeros_like(y), jnp.ones_like(step))
    (c, decay), _ = jax.lax.scan(body, initial, None, length=steps)
    return decay * start + product(x.T, c)


# Doubling. A map is kept as its difference from the identity, which is small when the
# steps are: theta -> theta - E theta + b.


@jax.custom_jvp
def _change_of_two_steps(change: Array) -> Array:
    """The E of the squared map: I - (I - E)^2 for a symmetric E."""
    return 2.0 * change - product(change, change)


@_change_of_two_steps.defjvp
def _change_of_two_steps_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # E and dE are symmetric: one product gives both terms of dE (I - E) + (I - E) dE.
    # Written with I - E, which tends to zero, so that no rounding can grow.
    (change,), (tangent,) = primals, tangents
    half = tangent - product(tangent, change)
    return _change_of_two_steps(change), half + half.T


def _compose(
    apply: Callable[[Any, Any], Any],
    square: Callable[[Any], Any],
    step_map: Any,
    state: Any,
    steps: Array,
    digits: int,
) -> Any:
    """Applies a map T times, T having at most so many binary digits.

    Powers of one map commute, so that the digits can be taken from the lowest up. What
    lies above the highest digit is skipped, not masked: no power is formed that could
    overflow, and a traced T costs what a known one does.
    """

    def apply_if_odd(step_map: Any, state: Any, steps: Array) -> Any:
        odd = steps % 2 == 1
        return jax.tree.map(
            lambda new, old: jnp.where(odd, new, old), apply(step_map, state), state
        )

    def one_digit(carry: tuple[Any, Any, Array]) -> tuple[Any, Any, Array]:
        step_map, state, steps = carry
        step_map, steps = square(step_map), steps // 2
        return step_map, apply_if_odd(step_map, state, steps), steps

    def body(carry: tuple[Any, Any, Array], _: None) -> tuple[Any, None]:
        return jax.lax.cond(carry[2] > 1, one_digit, lambda carry: carry, carry), None

    carry = step_map, apply_if_odd(step_map, state, steps), steps
    (_, state, _), _ = jax.lax.scan(body, carry, None, length=max(digits - 1, 0))
    return state


def _double_features(
    x: Array,
    y: Array,
    start: Array,
    step: Array,
    ridge: Array,
    steps: Array,
    digits: int,
) -> Array:
    rate = step / x.shape[0]
    change = _add_diagonal(rate * product(x.T, x), step * ridge)

    def apply(step_map: tuple[Array, Array], theta: Array) -> Array:
        change, shift = step_map
        return theta + (shift - product(change, theta))

    def square(step_map: tuple[Array, Array]) -> tuple[Array, Array]:
        change, shift = step_map
        return (
            _change_of_two_steps(change),
            2.0 * shift - product(change, shift),
        )

    step_map = change, rate * product(x.T, y)
    return _compose(apply, square, step_map, start, steps, digits)


def _double_samples(
    x: Array,
    y: Array,
    start: Array,
    step: Array,
    ridge: Array,
    steps: Array,
    digits: int,
) -> Array:
    """The state is (c, s), s = beta^t: c -> c - E c + h - s k and s -> s - z s."""
    rate, shrinkage = step / x.shape[0], step * ridge
    change = _add_diagonal(rate * product(x, x.T), shrinkage)

    def apply(step_map: tuple[Array, ...], state: tuple[Array, Array]) -> Any:
        change, shift, outputs, loss = step_map
        c, decay = state
        moved = c + (shift - decay * outputs - product(change, c))
        return moved, decay - loss * decay

    def square(step_map: tuple[Array, ...]) -> tuple[Array, ...]:
        change, shift, outputs, loss = step_map
        return (
            _change_of_two_steps(change),
            2.0 * shift - product(change, shift),
            2.0 * outputs - product(change, outputs) - loss * outputs,
            2.0 * loss - loss * loss,
        )

    step_map = change, rate * y, rate * product(x, start), shrinkage
    state = jnp.zeros_like(y), jnp.ones_like(step)
    c, decay = _compose(apply, square, step_map, state, steps, digits)
    return decay * start + product(x.T, c)


# Spectral. With V the eigenvectors at the point, taken as constants, V^T E V is
# diagonal but for rounding, and a function of it is known to first order from the
# divided differences of that function (Daleckii and Krein): value and first
# derivatives, whatever eigenvalues coincide. Eigenvectors are never differentiated.


def _add_diagonal(matrix: Array, value: Array) -> Array:
    return matrix + value * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


@jax.custom_jvp
def _differentiable_once(slopes: Array, change: Array) -> Array:
    """The slopes; a second derivative, in which they depend on the change, raises."""
    del change
    return slopes


@_differentiable_once.defjvp
def _differentiable_once_jvp(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "the spectral form has first derivatives only; form='doubling' has all of them"
    )


@jax.custom_jvp
def _first_order(values: Array, slopes: Array, change: Array) -> Array:
    """The values + slopes * change, in which only the change has a derivative."""
    return values + slopes * change


@_first_order.defjvp
def _first_order_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    values, slopes, change = primals
    return (
        _first_order(values, slopes, change),
        _differentiable_once(slopes, change) * tangents[2],
    )


def _eigenvectors(gram: Array) -> Array:
    return jnp.linalg.eigh(jax.lax.stop_gradient(gram))[1]


def _without_noise(rows: Array, size: int) -> Array:
    """Rows that are nothing but rounding become zero; their derivatives stay."""
    norms = jnp.sqrt(jnp.square(rows).sum(axis=1, keepdims=True))
    noise = norms <= size * float(jnp.finfo(rows.dtype).eps) * norms.max()
    return rows - jax.lax.stop_gradient(jnp.where(noise, rows, jnp.zeros_like(rows)))


def _spectral_features(
    x: Array, y: Array, start: Array, step: Array, ridge: Array, steps: Array
) -> Array:
    """theta_0 - S eta grad l(theta_0), S = sum_{t<T} M^t, in the eigenbasis."""
    rate, shrinkage = step / x.shape[0], step * ridge
    basis = _eigenvectors(product(x.T, x))
    rows = _without_noise(product(basis.T, x.T), max(x.shape))
    change = _add_diagonal(rate * product(rows, rows.T), shrinkage)
    shifts = jax.lax.stop_gradient(jnp.diagonal(change))
    powers = power_differences(shifts, jnp.zeros_like(step), steps)
    total = _first_order(
        jnp.diag(powers.with_fixed), -powers.second, change - jnp.diag(shifts)
    )
    gradient = rate * product(rows, product(x, start) - y)
    gradient = gradient + shrinkage * product(basis.T, start)
    return start - product(basis, product(total, gradient))


def _spectral_samples(
    x: Array, y: Array, start: Array, step: Array, ridge: Array, steps: Array
) -> Array:
    """beta^T theta_0 + X^T c_T in the basis of the eigenvectors of X X^T.

    c_T is eta/m [S Y - D X theta_0] with S as above and D = sum_t N^(T-1-t) beta^t: the
    divided differences of the power between the eigenvalues and 1, and beta.
    """
    rate, shrinkage = step / x.shape[0], step * ridge
    basis = _eigenvectors(product(x, x.T))
    rows = _without_noise(product(basis.T, x), max(x.shape))
    change = _add_diagonal(rate * product(rows, rows.T), shrinkage)
    fixed = jax.lax.stop_gradient(shrinkage)
    shifts = jax.lax.stop_gradient(jnp.diagonal(change))
    change, moved = change - jnp.diag(shifts), shrinkage - fixed

    to_one = power_differences(shifts, jnp.zeros_like(step), steps)
    total = _first_order(jnp.diag(to_one.with_fixed), -to_one.second, change)
    # With beta as one more eigenvalue its own differences come along.
    shifts = jnp.concatenate([shifts, fixed.reshape(1)])
    to_beta = power_differences(shifts, fixed, steps)
    mixed = _first_order(
        jnp.diag(to_beta.with_fixed[:-1]), -to_beta.second[:-1, :-1], change
    )
    mixed_by_beta = _first_order(
        jnp.zeros_like(shifts[:-1]),
        -to_beta.second[:-1, -1],
        moved * jnp.ones_like(shifts[:-1]),
    )
    decay = _first_order(to_beta.powers[-1], -to_beta.with_fixed[-1], moved)

    outputs = product(rows, start)
    c = product(total, product(basis.T, y))
    c = c - product(mixed, outputs) - mixed_by_beta[:, None] * outputs
    return decay * start + rate * product(rows.T, c)
