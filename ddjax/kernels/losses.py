r"""Convex losses with their gradients, conjugates and dual domains.

A loss :math:`\ell(y, f)` compares a target with a prediction and is convex in
:math:`f`. Its conjugate in the prediction is

.. math::
    \ell^*(y, u) = \sup_f \; \langle u, f\rangle - \ell(y, f),

which is `+inf` outside its domain. The dual variable of a prediction, used all
through `ddjax.kernels.duality`, is :math:`a = -\partial \ell/\partial f`, so that
conjugates are evaluated at the slope :math:`u = -a`.

Three kinds:

- *margin*: :math:`\ell(y, f) = g(y f)` with a **real** label `y`, the margin being
  :math:`z = y f`. Labels may be learned, hence any real number. The multiplier
  :math:`\alpha` of the SVM literature is :math:`a = \alpha y`.
- *regression*: a function of :math:`f - y`.
- *multiclass*: on rows of `c` predictions, targets one-hot or probabilities.

Margin and regression losses act element by element on `(n,)` or `(n, c)` and are
summed over columns: `(n, c)` targets of ±1 make one-vs-rest.

>>> import jax.numpy as jnp
>>> hinge, y, f = get("hinge"), jnp.array([1.0, -1.0]), jnp.array([0.25, 0.5])
>>> print(hinge.value(y, f), hinge.gradient(y, f))
[0.75 1.5 ] [-1.  1.]
>>> print(hinge.conjugate(y, jnp.array([-0.5, 2.0])))
[-0.5  inf]
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array
from numpy import ndarray

from ddjax.kernels._keywords import check_keywords

__all__ = [
    "LOSSES",
    "Loss",
    "as_loss",
    "check_targets",
    "epsilon_insensitive",
    "get",
    "hinge",
    "huber",
    "logistic",
    "multiclass_hinge",
    "smoothed_hinge",
    "soft_hinge",
    "soft_multiclass_hinge",
    "softmax",
    "squared",
    "squared_hinge",
]

_Elementwise = Callable[[Array], Array]
_Real = Array | ndarray


class Loss(NamedTuple):
    r"""A convex loss as plain functions; hashable, so it can be a static argument.

    All functions are jittable and differentiable, take targets first, and want targets
    of the same shape as the predictions, `(n,)` or `(n, c)`.

    Attributes:
      name: the name under which `get` finds it.
      value: `(targets, predictions) -> (n,)`, the loss of each sample.
      gradient: `(targets, predictions) -> like predictions`, the derivative of the
        value in the prediction; a subgradient where there is a kink.
      conjugate: `(targets, slopes) -> (n,)`, :math:`\ell^*(y, u)`, `+inf` outside the
        domain. A dual variable `a` enters as the slope `u = -a`.
      feasible: `(targets, slopes) -> like slopes`, the Euclidean projection of the
        slopes onto the domain of :math:`\ell^*(y, \cdot)`.
      surrogate: `(targets, predictions) -> like predictions`, dual variables
        `a` that depend smoothly on the predictions and are always feasible: exactly
        `-gradient` for a smooth loss, a sigmoid or softmax in place of the step of the
        others.
      kind: what the targets are: "margin", "multiclass" or "regression".
      smooth: whether the loss is differentiable everywhere.
      settings: names and values of the loss's own parameters.
    """

    name: str
    value: Callable[[_Real, _Real], Array]
    gradient: Callable[[_Real, _Real], Array]
    conjugate: Callable[[_Real, _Real], Array]
    feasible: Callable[[_Real, _Real], Array]
    surrogate: Callable[[_Real, _Real], Array]
    kind: Literal["margin", "multiclass", "regression"]
    smooth: bool
    settings: tuple[tuple[str, float], ...] = ()


def _same_shape(targets: _Real, others: _Real) -> tuple[Array, Array]:
    """Both as arrays of the dtype of the second; refuses to broadcast."""
    others = jnp.asarray(others)
    targets = jnp.asarray(targets)
    if targets.shape != others.shape:
        raise ValueError(
            f"targets have shape {targets.shape} but predictions or slopes have shape "
            f"{others.shape}; they must be equal, (n,) or (n, c)"
        )
    if targets.ndim not in (1, 2):
        raise ValueError(f"expected shape (n,) or (n, c), got {targets.shape}")
    return targets.astype(others.dtype), others


def _per_sample(values: Array) -> Array:
    return values if values.ndim == 1 else jnp.sum(values, axis=1)


def _entropy_term(weights: Array) -> Array:
    """`w log w` with the limit 0 at 0 and a finite derivative there."""
    # The inner `where` keeps the derivative free of 0 * inf: at a saturated dual
    # variable the true chain-rule product tends to 0.
    positive = weights > 0
    return weights * jnp.log(jnp.where(positive, weights, 1.0))


# --- margin losses ---------------------------------------------------------------


def _margin_loss(
    name: str,
    *,
    value: _Elementwise,
    multiplier: _Elementwise,
    smooth_multiplier: _Elementwise | None = None,
    conjugate: _Elementwise,
    upper: float = 1.0,
    settings: tuple[tuple[str, float], ...] = (),
) -> Loss:
    r"""Builds :math:`\ell(y, f) = g(y f)` from functions of one variable.

    Args:
      name: its name.
      value: `g(z)`.
      multiplier: :math:`\alpha(z) = -g'(z)`.
      smooth_multiplier: smooth stand-in for `multiplier`; None when g is smooth.
      conjugate: :math:`g^*(-\alpha)`, for :math:`\alpha` in `[0, upper]`.
      upper: largest multiplier, `inf` allowed.
      settings: parameters of the loss.
    """

    def loss_value(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return _per_sample(value(targets * predictions))

    def loss_gradient(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return -targets * multiplier(targets * predictions)

    def loss_conjugate(targets, slopes):
        # For y = 0 the loss is the constant g(0), so the domain is {0} and the
        # conjugate there is -g(0). For y != 0 it is g*(u / y): monotone rounding
        # keeps (alpha * y) / y inside [0, upper] whenever alpha is.
        targets, slopes = _same_shape(targets, slopes)
        flat = targets == 0
        alpha = -slopes / jnp.where(flat, 1.0, targets)
        inside = (alpha >= 0) & (alpha <= upper)
        finite = conjugate(jnp.where(inside & ~flat, alpha, 0.0))
        ordinary = jnp.where(inside, finite, jnp.inf)
        constant = jnp.where(slopes == 0, -value(jnp.zeros_like(slopes)), jnp.inf)
        return _per_sample(jnp.where(flat, constant, ordinary))

    def loss_feasible(targets, slopes):
        targets, slopes = _same_shape(targets, slopes)
        flat = targets == 0
        alpha = jnp.clip(-slopes / jnp.where(flat, 1.0, targets), 0.0, upper)
        return jnp.where(flat, 0.0, -alpha * targets)

    def loss_surrogate(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return targets * (smooth_multiplier or multiplier)(targets * predictions)

    return Loss(
        name=name,
        value=loss_value,
        gradient=loss_gradient,
        conjugate=loss_conjugate,
        feasible=loss_feasible,
        surrogate=loss_surrogate,
        kind="margin",
        smooth=smooth_multiplier is None,
        settings=settings,
    )


@functools.cache
def logistic() -> Loss:
    r"""Logistic loss, :math:`g(z) = \log(1 + e^{-z})`.

    .. math::
        \alpha = \sigma(-z), \qquad
        g^*(-\alpha) = \alpha\log\alpha + (1-\alpha)\log(1-\alpha), \quad
        0 \le \alpha \le 1.

    Source: DGKIP, section 3.3. The dual printed there lacks the factor
    :math:`1/\lambda` of the quadratic term and the minus sign of both terms.
    """
    return _margin_loss(
        "logistic",
        value=lambda z: jax.nn.softplus(-z),
        multiplier=lambda z: jax.nn.sigmoid(-z),
        conjugate=lambda alpha: _entropy_term(alpha) + _entropy_term(1.0 - alpha),
    )


def _hinge_value(margins: Array) -> Array:
    return jnp.where(margins < 1, 1.0 - margins, 0.0)


@functools.cache
def hinge() -> Loss:
    r"""Hinge loss of the support vector machine, :math:`g(z) = \max(0, 1 - z)`.

    .. math::
        \alpha = 1[z < 1], \qquad g^*(-\alpha) = -\alpha, \quad 0 \le \alpha \le 1.

    The surrogate multiplier is :math:`\sigma(1 - z)`, strictly inside the domain, so
    that a gap formed with it is a valid bound. Source: DGKIP, appendix C.
    """
    return _margin_loss(
        "hinge",
        value=_hinge_value,
        multiplier=lambda z: jnp.where(z < 1, 1.0, 0.0).astype(z.dtype),
        smooth_multiplier=lambda z: jax.nn.sigmoid(1.0 - z),
        conjugate=lambda alpha: -alpha,
    )


@functools.cache
def soft_hinge() -> Loss:
    r"""Softplus in place of the hinge's kink, :math:`g(z) = \log(1 + e^{1-z})`.

    .. math::
        \alpha = \sigma(1 - z), \qquad
        g^*(-\alpha) = \alpha\log\alpha + (1-\alpha)\log(1-\alpha) - \alpha, \quad
        0 \le \alpha \le 1.

    The smooth loss whose multipliers are the hinge's surrogate; it lies above the
    hinge by at most :math:`\log 2`. Source: DGKIP, appendix C, which prints the
    multiplier alone.
    """
    return _margin_loss(
        "soft_hinge",
        value=lambda z: jax.nn.softplus(1.0 - z),
        multiplier=lambda z: jax.nn.sigmoid(1.0 - z),
        conjugate=lambda alpha: (
            _entropy_term(alpha) + _entropy_term(1.0 - alpha) - alpha
        ),
    )


@functools.cache
def smoothed_hinge(*, gamma: float = 1.0) -> Loss:
    r"""Hinge loss with its corner rounded over a width :math:`\gamma`.

    .. math::
        g(z) = \begin{cases} 0 & z \ge 1 \\ (1-z)^2/(2\gamma) & 1-\gamma < z < 1 \\
        1 - z - \gamma/2 & z \le 1-\gamma \end{cases}, \qquad
        g^*(-\alpha) = -\alpha + \gamma\alpha^2/2, \quad 0 \le \alpha \le 1,

    and :math:`\alpha = \mathrm{clip}((1-z)/\gamma, 0, 1)`.

    Args:
      gamma: width of the rounded corner, > 0, in units of the margin.

    Raises:
      ValueError: `gamma` is not positive.
    """
    if not gamma > 0:
        raise ValueError(f"smoothed_hinge needs gamma > 0, got {gamma}")

    def multiplier(margins):
        return jnp.clip((1.0 - margins) / gamma, 0.0, 1.0)

    def value(margins):
        alpha = multiplier(margins)
        return alpha * (1.0 - margins) - 0.5 * gamma * jnp.square(alpha)

    return _margin_loss(
        "smoothed_hinge",
        value=value,
        multiplier=multiplier,
        conjugate=lambda alpha: 0.5 * gamma * jnp.square(alpha) - alpha,
        settings=(("gamma", float(gamma)),),
    )


@functools.cache
def squared_hinge() -> Loss:
    r"""Squared hinge loss, :math:`g(z) = \max(0, 1-z)^2`.

    .. math::
        \alpha = 2\max(0, 1-z), \qquad g^*(-\alpha) = -\alpha + \alpha^2/4, \quad
        \alpha \ge 0.
    """
    return _margin_loss(
        "squared_hinge",
        value=lambda z: jnp.square(_hinge_value(z)),
        multiplier=lambda z: 2.0 * _hinge_value(z),
        conjugate=lambda alpha: 0.25 * jnp.square(alpha) - alpha,
        upper=float("inf"),
    )


# --- regression losses -----------------------------------------------------------


def _regression_loss(
    name: str,
    *,
    value: _Elementwise,
    slope: _Elementwise,
    smooth_slope: _Elementwise | None = None,
    conjugate: _Elementwise,
    bound: float,
    settings: tuple[tuple[str, float], ...] = (),
) -> Loss:
    r"""Builds :math:`\ell(y, f) = h(f - y)` for an even convex `h`.

    Then :math:`\ell^*(y, u) = u y + h^*(u)` on :math:`|u| \le` `bound`.
    """

    def loss_value(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return _per_sample(value(predictions - targets))

    def loss_gradient(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return slope(predictions - targets)

    def loss_conjugate(targets, slopes):
        targets, slopes = _same_shape(targets, slopes)
        inside = jnp.abs(slopes) <= bound
        finite = slopes * targets + conjugate(jnp.where(inside, slopes, 0.0))
        return _per_sample(jnp.where(inside, finite, jnp.inf))

    def loss_feasible(targets, slopes):
        _, slopes = _same_shape(targets, slopes)
        return jnp.clip(slopes, -bound, bound)

    def loss_surrogate(targets, predictions):
        targets, predictions = _same_shape(targets, predictions)
        return -(smooth_slope or slope)(predictions - targets)

    return Loss(
        name=name,
        value=loss_value,
        gradient=loss_gradient,
        conjugate=loss_conjugate,
        feasible=loss_feasible,
        surrogate=loss_surrogate,
        kind="regression",
        smooth=smooth_slope is None,
        settings=settings,
    )


@functools.cache
def squared() -> Loss:
    r"""Squared loss, :math:`\ell(y, f) = (f - y)^2/2`; with it DGKIP contains KIP.

    .. math:: \ell^*(y, u) = u y + u^2/2 .
    """
    return _regression_loss(
        "squared",
        value=lambda r: 0.5 * jnp.square(r),
        slope=lambda r: r,
        conjugate=lambda u: 0.5 * jnp.square(u),
        bound=float("inf"),
    )


@functools.cache
def huber(*, delta: float = 1.0) -> Loss:
    r"""Huber loss: quadratic up to :math:`\delta`, then linear.

    .. math::
        h(r) = \begin{cases} r^2/2 & |r| \le \delta \\ \delta|r| - \delta^2/2 &
        |r| > \delta \end{cases}, \qquad
        \ell^*(y, u) = u y + u^2/2, \quad |u| \le \delta.

    Args:
      delta: where the loss becomes linear, > 0, in units of the targets.

    Raises:
      ValueError: `delta` is not positive.
    """
    if not delta > 0:
        raise ValueError(f"huber needs delta > 0, got {delta}")

    def slope(residuals):
        return jnp.clip(residuals, -delta, delta)

    return _regression_loss(
        "huber",
        value=lambda r: slope(r) * (r - 0.5 * slope(r)),
        slope=slope,
        conjugate=lambda u: 0.5 * jnp.square(u),
        bound=float(delta),
        settings=(("delta", float(delta)),),
    )


@functools.cache
def epsilon_insensitive(*, epsilon: float = 0.1) -> Loss:
    r"""The loss of support vector regression, :math:`\max(0, |f - y| - \epsilon)`.

    .. math:: \ell^*(y, u) = u y + \epsilon|u|, \quad |u| \le 1 .

    The surrogate slope is :math:`\sigma(r - \epsilon) - \sigma(-r - \epsilon)` with
    `r = f - y`, as for the hinge.

    Args:
      epsilon: half width of the dead zone, >= 0, in units of the targets.

    Raises:
      ValueError: `epsilon` is negative.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon_insensitive needs epsilon >= 0, got {epsilon}")

    def value(residuals):
        excess = jnp.abs(residuals) - epsilon
        return jnp.where(excess > 0, excess, 0.0)

    def slope(residuals):
        return jnp.where(jnp.abs(residuals) > epsilon, jnp.sign(residuals), 0.0)

    def smooth_slope(residuals):
        return jax.nn.sigmoid(residuals - epsilon) - jax.nn.sigmoid(
            -residuals - epsilon
        )

    return _regression_loss(
        "epsilon_insensitive",
        value=value,
        slope=slope,
        smooth_slope=smooth_slope,
        conjugate=lambda u: epsilon * jnp.abs(u),
        bound=1.0,
        settings=(("epsilon", float(epsilon)),),
    )


# --- multiclass losses -----------------------------------------------------------


def _same_rows(targets: _Real, others: _Real) -> tuple[Array, Array]:
    """As `_same_shape`; refuses anything but one row of outputs a sample."""
    targets, others = _same_shape(targets, others)
    if targets.ndim != 2:
        raise ValueError(
            f"multiclass losses want one row of c numbers per sample, shape (n, c); "
            f"got shape {targets.shape}"
        )
    return targets, others


def _on_simplex(points: Array) -> Array:
    """Whether each row is a probability vector, to rounding in the sum."""
    slack = 16 * points.shape[1] * jnp.finfo(points.dtype).eps
    return jnp.all(points >= 0, axis=1) & (jnp.abs(points.sum(axis=1) - 1.0) <= slack)


def _project_to_simplex(points: Array) -> Array:
    """Euclidean projection of each row onto the probability simplex."""
    ordered = -jnp.sort(-points, axis=1)
    excess = jnp.cumsum(ordered, axis=1) - 1.0
    rank = jnp.arange(1, points.shape[1] + 1, dtype=points.dtype)[None, :]
    # The threshold of the largest rank whose entry stays positive.
    keep = ordered * rank > excess
    size = jnp.maximum(jnp.sum(keep, axis=1, keepdims=True), 1)
    total = jnp.take_along_axis(excess, size - 1, axis=1)
    projected = jnp.maximum(points - total / size.astype(points.dtype), 0.0)
    return projected / jnp.sum(projected, axis=1, keepdims=True)


def _simplex_feasible(targets: _Real, slopes: _Real) -> Array:
    targets, slopes = _same_rows(targets, slopes)
    return _project_to_simplex(slopes + targets) - targets


def _softmax_value(targets: _Real, predictions: _Real) -> Array:
    targets, predictions = _same_rows(targets, predictions)
    top = jax.lax.stop_gradient(jnp.max(predictions, axis=1, keepdims=True))
    shifted = predictions - top
    # Written around the largest prediction, so that a confident right answer keeps
    # its digits; the last term is 0 for targets that sum to one.
    rest = top[:, 0] * (1.0 - jnp.sum(targets, axis=1))
    return jax.nn.logsumexp(shifted, axis=1) - jnp.sum(targets * shifted, axis=1) + rest


def _softmax_gradient(targets: _Real, predictions: _Real) -> Array:
    targets, predictions = _same_rows(targets, predictions)
    return jax.nn.softmax(predictions, axis=1) - targets


def _softmax_conjugate(targets: _Real, slopes: _Real) -> Array:
    targets, slopes = _same_rows(targets, slopes)
    points = slopes + targets
    entropy = jnp.sum(_entropy_term(jnp.maximum(points, 0.0)), axis=1)
    return jnp.where(_on_simplex(points), entropy, jnp.inf)


@functools.cache
def softmax() -> Loss:
    r"""Softmax cross-entropy with hard or soft labels.

    .. math::
        \ell(y, f) = \log\sum_k e^{f_k} - \langle y, f\rangle, \qquad
        \ell^*(y, u) = \sum_k s_k\log s_k, \quad s = u + y \in \Delta,

    with :math:`\Delta` the probability simplex. The dual variable is
    :math:`a = y - \mathrm{softmax}(f)`. For `y` on the simplex this is the
    cross-entropy; off it, it stays convex and conjugate and value still match.
    """
    return Loss(
        name="softmax",
        value=_softmax_value,
        gradient=_softmax_gradient,
        conjugate=_softmax_conjugate,
        feasible=_simplex_feasible,
        surrogate=lambda targets, predictions: -_softmax_gradient(targets, predictions),
        kind="multiclass",
        smooth=True,
    )


def _crammer_singer_value(targets: _Real, predictions: _Real) -> Array:
    targets, predictions = _same_rows(targets, predictions)
    top = jnp.max(predictions + 1.0 - targets, axis=1)
    return top - jnp.sum(targets * predictions, axis=1)


def _crammer_singer_gradient(targets: _Real, predictions: _Real) -> Array:
    targets, predictions = _same_rows(targets, predictions)
    winner = jnp.argmax(predictions + 1.0 - targets, axis=1)
    return jax.nn.one_hot(winner, targets.shape[1], dtype=targets.dtype) - targets


def _crammer_singer_conjugate(targets: _Real, slopes: _Real) -> Array:
    targets, slopes = _same_rows(targets, slopes)
    points = slopes + targets
    finite = jnp.sum(points * (targets - 1.0), axis=1)
    return jnp.where(_on_simplex(points), finite, jnp.inf)


def _crammer_singer_surrogate(targets: _Real, predictions: _Real) -> Array:
    targets, predictions = _same_rows(targets, predictions)
    return targets - jax.nn.softmax(predictions + 1.0 - targets, axis=1)


@functools.cache
def multiclass_hinge() -> Loss:
    r"""Multiclass hinge loss of Crammer and Singer.

    .. math::
        \ell(y, f) = \max_k (f_k + 1 - y_k) - \langle y, f\rangle, \qquad
        \ell^*(y, u) = -\langle s, 1 - y\rangle, \quad s = u + y \in \Delta .

    For one-hot `y` this is :math:`\max(0, 1 + \max_{k\ne y} f_k - f_y)`; soft labels
    are allowed. The surrogate dual is :math:`y - \mathrm{softmax}(f + 1 - y)`.
    """
    return Loss(
        name="multiclass_hinge",
        value=_crammer_singer_value,
        gradient=_crammer_singer_gradient,
        conjugate=_crammer_singer_conjugate,
        feasible=_simplex_feasible,
        surrogate=_crammer_singer_surrogate,
        kind="multiclass",
        smooth=False,
    )


@functools.cache
def soft_multiclass_hinge() -> Loss:
    r"""Log-sum-exp in place of the maximum of the Crammer-Singer hinge.

    .. math::
        \ell(y, f) = \log\sum_k e^{f_k + 1 - y_k} - \langle y, f\rangle, \qquad
        \ell^*(y, u) = \sum_k s_k\log s_k - \langle s, 1 - y\rangle, \quad
        s = u + y \in \Delta .

    The smooth loss whose duals are the surrogate duals of `multiclass_hinge`; it lies
    above that by at most :math:`\log c`.
    """

    def shifted(targets, predictions):
        targets, predictions = _same_rows(targets, predictions)
        return targets, predictions + 1.0 - targets

    def value(targets, predictions):
        targets, raised = shifted(targets, predictions)
        inner = jnp.sum(targets * predictions, axis=1)
        return jax.nn.logsumexp(raised, axis=1) - inner

    def conjugate(targets, slopes):
        targets, slopes = _same_rows(targets, slopes)
        points = slopes + targets
        entropy = _entropy_term(jnp.maximum(points, 0.0))
        finite = jnp.sum(entropy + points * (targets - 1.0), axis=1)
        return jnp.where(_on_simplex(points), finite, jnp.inf)

    return Loss(
        name="soft_multiclass_hinge",
        value=value,
        gradient=lambda y, f: -_crammer_singer_surrogate(y, f),
        conjugate=conjugate,
        feasible=_simplex_feasible,
        surrogate=_crammer_singer_surrogate,
        kind="multiclass",
        smooth=True,
    )


LOSSES: dict[str, Callable[..., Loss]] = {
    "logistic": logistic,
    "hinge": hinge,
    "soft_hinge": soft_hinge,
    "smoothed_hinge": smoothed_hinge,
    "squared_hinge": squared_hinge,
    "squared": squared,
    "huber": huber,
    "epsilon_insensitive": epsilon_insensitive,
    "softmax": softmax,
    "multiclass_hinge": multiclass_hinge,
    "soft_multiclass_hinge": soft_multiclass_hinge,
}


def get(name: str, **settings: float) -> Loss:
    """The loss of that name; the same object every time for the same settings.

    Args:
      name: a key of `LOSSES`.
      **settings: parameters of the loss: `gamma` of `smoothed_hinge`, `delta` of
        `huber`, `epsilon` of `epsilon_insensitive`.

    Raises:
      ValueError: unknown name, or a setting that the loss does not have.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; one of {', '.join(LOSSES)}")
    check_keywords(f"loss {name!r}", LOSSES[name], settings)
    return LOSSES[name](**settings)


def as_loss(what: Loss | str) -> Loss:
    """The loss itself, or that of a name with its default settings.

    >>> as_loss("hinge") is hinge()
    True

    Args:
      what: a loss, or a key of `LOSSES`; settings of its own need `get`.

    Raises:
      ValueError: unknown name.
    """
    return what if isinstance(what, Loss) else get(what)


def check_targets(loss: Loss, targets: _Real) -> None:
    """Refuses targets that are another loss's, as far as their values are known.

    A margin loss takes real labels, which may have been learned; but labels that are
    all whole numbers are hard ones, and those are -1 and 1: with 0 and 1 for the
    classes, say, the loss would not even see the samples of class 0. A multiclass loss
    takes rows of probabilities, a regression loss any finite numbers. Traced targets
    pass: their values are not known.

    Args:
      loss: what is to compare predictions with them.
      targets: `(n,)` or `(n, c)`.

    Raises:
      ValueError: numbers of another kind, with what came and what is wanted.
    """
    if isinstance(targets, Tracer):
        return
    values = np.asarray(targets)
    if values.dtype.kind not in "biuf":
        values = _as_numbers(loss, values)
    bad = values.size - int(np.sum(np.isfinite(values)))
    if bad:
        raise ValueError(
            f"the targets of the loss {loss.name!r} hold {bad} values that are not "
            "finite"
        )
    if loss.kind == "margin":
        _check_margins(loss, values)
    elif loss.kind == "multiclass":
        _check_probabilities(loss, values)


def _as_numbers(loss: Loss, values: ndarray) -> ndarray:
    try:
        # Jax's own types, such as bfloat16, are numbers that NumPy knows no kind of.
        return values.astype(np.float64, casting="same_kind")
    except TypeError:
        raise ValueError(
            f"the targets of the loss {loss.name!r} are {values.dtype}; numbers are "
            "needed"
        ) from None


def _check_margins(loss: Loss, values: ndarray) -> None:
    found = np.unique(values.astype(np.float64))
    if np.all(np.abs(found) == 1) or np.any(found != np.round(found)):
        return
    several = len(found) > 6
    raise ValueError(
        f"hard labels of the margin loss {loss.name!r} are -1 and 1, got "
        f"{', '.join(f'{value:g}' for value in found[:6])}{', ...' if several else ''}"
        "; for two classes 0 and 1 give 2 * labels - 1"
    )


def _check_probabilities(loss: Loss, values: ndarray) -> None:
    if values.ndim != 2:
        raise ValueError(
            f"the loss {loss.name!r} wants rows of class probabilities, shape (n, c), "
            f"got targets of shape {values.shape}; of class numbers make "
            "jax.nn.one_hot(labels, c)"
        )
    values = values.astype(np.float64)
    sums = values.sum(axis=1)
    wrong = (values < -1e-4).any(axis=1) | (np.abs(sums - 1.0) > 1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"the loss {loss.name!r} wants rows of class probabilities, >= 0, that add "
            f"up to 1; row {row} of the targets has values from "
            f"{values[row].min():g} to {values[row].max():g} that sum to {sums[row]:g}"
        )
