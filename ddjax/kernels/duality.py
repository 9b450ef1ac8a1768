r"""Primal and dual of regularised empirical risk, and what their gap certifies.

On a set of features :math:`\phi_i` with targets :math:`y_i`, for a convex loss and
:math:`\lambda > 0`,

.. math::
    P(\theta) = \sum_i \ell(y_i, \phi_i^\top\theta) + \tfrac{\lambda}{2}\|\theta\|^2,
    \qquad
    D(a) = -\sum_i \ell^*(y_i, -a_i)
    - \tfrac{1}{2\lambda}\Big\|\sum_i \phi_i a_i^\top\Big\|^2 ,

with one dual variable per prediction, :math:`a_i = -\partial\ell_i` at the optimum
(:math:`a_i = \alpha_i y_i` in the notation of support vector machines). With several
outputs :math:`\theta` is a matrix `(p, c)` and norms are Frobenius norms.

For any :math:`\theta` and any feasible `a`, with
:math:`v = \lambda\theta - \sum_i \phi_i a_i^\top`,

.. math::
    P(\theta) - D(a) = \sum_i \big[\ell(y_i, f_i) + \ell^*(y_i, -a_i)
    + \langle a_i, f_i\rangle\big] + \frac{\|v\|^2}{2\lambda},
    \qquad f_i = \phi_i^\top\theta .

Every bracket is a Fenchel-Young slack, non-negative and zero exactly when
:math:`-a_i \in \partial\ell(y_i, f_i)`. For a differentiable loss and
:math:`a_i = -\nabla\ell_i` the brackets vanish, :math:`v = \nabla P(\theta)`, and

.. math:: P(\theta) - D(a) = \|\nabla P(\theta)\|^2 / (2\lambda).

Numbers: the literal difference `primal - dual`, and `kernel_gap`, which knows
:math:`\|v\|^2` only as a sum of kernel entries, subtract terms of the size of P. They
carry an absolute error of about `eps P`, and a radius :math:`\sqrt{2G/\lambda}`
computed from them cannot be resolved below :math:`\sqrt{eps}\,\|\theta\|`, 3e-4 of the
norm in float32: near a good distilled set no digit of the gap is left. The
gradient-norm form has the relative error of `v` and keeps its digits. The full form of
`gap`, a sum of non-negative terms, is in between: its error is `eps` times the losses,
not divided by :math:`\lambda`.

Source: "Dataset Distillation via Duality Gap" (DGKIP), equations 1 to 9. The dual
printed there drops :math:`1/\lambda`; the identity for differentiable losses is not in
the paper.

>>> import jax.numpy as jnp
>>> from ddjax.kernels import losses
>>> features, targets = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([1.0, -1.0])
>>> settings = {"loss": losses.get("logistic"), "ridge": 0.5}
>>> found = gap(jnp.array([0.8, -0.6]), features, targets, **settings)
>>> f"gap {found:.4f}, radius {parameter_radius(found, 0.5):.4f}"
'gap 0.0071, radius 0.1680'
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from numpy import ndarray

from ddjax.kernels.losses import Loss, as_loss, check_targets
from ddjax.kernels.precision import product, transposed_product

__all__ = [
    "ErrorInterval",
    "dual",
    "gap",
    "kernel_gap",
    "kkt_duals",
    "margins",
    "parameter_radius",
    "prediction_bound",
    "primal",
    "test_error_interval",
]

Form = Literal["auto", "full", "gradient_norm"]
_Real = Array | ndarray
_Scalar = float | int | Float[Array | ndarray, ""]


def _check_positive(ridge: _Scalar, name: str = "ridge") -> None:
    """Refuses a ridge known to be non-positive; traced values pass."""
    try:
        known = float(ridge)
    except jax.errors.ConcretizationTypeError:
        return
    if not known > 0:
        raise ValueError(f"{name} must be > 0 (the bounds divide by it), got {ridge}")


def _check_shapes(weights: _Real, features: _Real, targets: _Real) -> None:
    """Refuses shapes that do not fit together."""
    if features.ndim != 2 or weights.shape[:1] != features.shape[1:]:
        raise ValueError(
            f"features {features.shape} must be (n, p) and weights {weights.shape} "
            f"(p,) or (p, c)"
        )
    if targets.shape != (features.shape[0], *weights.shape[1:]):
        raise ValueError(
            f"targets have shape {targets.shape}; features {features.shape} and "
            f"weights {weights.shape} call for "
            f"{(features.shape[0], *weights.shape[1:])}"
        )


def kkt_duals(
    targets: Float[_Real, "n *c"],
    predictions: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    surrogate: bool = True,
) -> Float[Array, "n *c"]:
    r"""Feasible dual variables from the optimality condition, equation 9.

    .. math:: a_i = -\partial_f\, \ell(y_i, f_i)

    Args:
      targets: as the loss wants them.
      predictions: :math:`f_i = \phi_i^\top\theta`, like targets.
      loss: the loss, or its name.
      surrogate: for a loss with kinks, use the smooth stand-in through which gradients
        flow, e.g. :math:`y\,\sigma(1 - y f)` for the hinge (appendix C); False gives a
        subgradient. No difference for a smooth loss.

    Returns:
      Dual variables like `predictions`, always feasible.
    """
    loss = as_loss(loss)
    check_targets(loss, targets)
    if surrogate:
        return loss.surrogate(targets, predictions)
    return -loss.gradient(targets, predictions)


def primal(
    weights: Float[_Real, "p *c"],
    features: Float[_Real, "n p"],
    targets: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    ridge: _Scalar,
) -> Float[Array, ""]:
    r"""The primal objective :math:`P(\theta)`, equation 1.

    Args:
      weights: :math:`\theta`.
      features: rows :math:`\phi_i`.
      targets: as the loss wants them, one row per sample.
      loss: the loss, or its name.
      ridge: :math:`\lambda > 0`, absolute (losses are summed, not averaged).

    Raises:
      ValueError: shapes do not fit, a concrete `ridge` is not positive, or concrete
        targets are not the loss's.
    """
    loss = as_loss(loss)
    _check_positive(ridge)
    _check_shapes(weights, features, targets)
    check_targets(loss, targets)
    values = loss.value(targets, product(features, weights))
    return jnp.sum(values) + 0.5 * ridge * jnp.sum(jnp.square(weights))


def dual(
    duals: Float[_Real, "n *c"],
    features: Float[_Real, "n p"] | None = None,
    targets: Float[_Real, "n *c"] | None = None,
    *,
    loss: Loss | str,
    ridge: _Scalar,
    gram: Float[_Real, "n n"] | None = None,
) -> Float[Array, ""]:
    r"""The dual objective :math:`D(a)`, equation 2 with its :math:`1/\lambda`.

    Args:
      duals: one dual variable per prediction; `-inf` comes back when infeasible.
      features: rows :math:`\phi_i`; or give `gram`.
      targets: as the loss wants them.
      loss: the loss, or its name.
      ridge: :math:`\lambda > 0`.
      gram: :math:`\phi_i^\top\phi_j`, instead of features.

    Raises:
      ValueError: not exactly one of `features` and `gram`; targets missing; a concrete
        `ridge` is not positive.
    """
    _check_positive(ridge)
    if targets is None:
        raise ValueError("dual needs targets")
    loss = as_loss(loss)
    check_targets(loss, targets)
    if features is not None and gram is None:
        norm = jnp.sum(jnp.square(transposed_product(features, duals)))
    elif gram is not None and features is None:
        norm = jnp.sum(duals * product(gram, duals))
    else:
        raise ValueError("dual needs exactly one of features and gram")
    return -jnp.sum(loss.conjugate(targets, -duals)) - norm / (2.0 * ridge)


def _slack(targets: _Real, predictions: _Real, duals: _Real, loss: Loss) -> Array:
    """Fenchel-Young slack of each sample, >= 0."""
    inner = duals * predictions
    inner = inner if inner.ndim == 1 else jnp.sum(inner, axis=1)
    slack = loss.value(targets, predictions) + loss.conjugate(targets, -duals) + inner
    # Rounding alone can make it negative; the derivative is left as it is.
    return jnp.where(slack < 0, slack - jax.lax.stop_gradient(slack), slack)


def _duals_and_slack(
    form: Form,
    targets: _Real,
    predictions: _Real,
    duals: _Real | None,
    loss: Loss,
) -> tuple[Array, Array | None]:
    """Dual variables, and the slack of each sample where it does not vanish."""
    if form not in ("auto", "full", "gradient_norm"):
        raise ValueError(
            f"form must be 'auto', 'full' or 'gradient_norm', got {form!r}"
        )
    exact = duals is None and loss.smooth
    if form == "gradient_norm" and not exact:
        raise ValueError(
            f"form='gradient_norm' is the gap only for a differentiable loss with its "
            f"own KKT duals; got loss {loss.name!r}"
            + ("" if duals is None else " with duals given")
            + "; use form='full'"
        )
    if duals is None:
        chosen = kkt_duals(targets, predictions, loss=loss)
    else:
        chosen = jnp.asarray(duals)
    if exact and form != "full":
        return chosen, None
    return chosen, _slack(targets, predictions, chosen, loss)


def gap(
    weights: Float[_Real, "p *c"],
    features: Float[_Real, "n p"],
    targets: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    ridge: _Scalar,
    form: Form = "auto",
    duals: Float[_Real, "n *c"] | None = None,
) -> Float[Array, ""]:
    r"""Duality gap :math:`P(\theta) - D(a)` at given weights, from features.

    Two forms, the same number for a differentiable loss (see the module):

    .. math::
        G = \sum_i \big[\ell_i + \ell_i^* + \langle a_i, f_i\rangle\big]
        + \frac{\|\lambda\theta - \Phi^\top a\|^2}{2\lambda}
        \quad\text{("full")}, \qquad
        G = \frac{\|\nabla P(\theta)\|^2}{2\lambda} \quad\text{("gradient_norm")}.

    Costs O(n p c), with no n x n kernel. Differentiable in weights, features and
    (learned) targets.

    Args:
      weights: :math:`\theta`, typically of the real data.
      features: rows :math:`\phi_i` of the distilled set.
      targets: its targets.
      loss: the loss, or its name.
      ridge: :math:`\lambda > 0` of the distilled problem.
      form: "full" holds for every loss and every feasible dual; "gradient_norm" only
        for differentiable losses with the KKT duals; "auto" takes the latter where it
        is exact.
      duals: feasible dual variables; None takes `kkt_duals` (surrogate where the loss
        has kinks).

    Returns:
      The gap, >= 0; `inf` for infeasible `duals`.

    Raises:
      ValueError: shapes do not fit, a concrete `ridge` is not positive, or the form is
        not a bound for this loss.
    """
    loss = as_loss(loss)
    _check_positive(ridge)
    _check_shapes(weights, features, targets)
    check_targets(loss, targets)
    predictions = product(features, weights)
    duals, slack = _duals_and_slack(form, targets, predictions, duals, loss)
    residual = ridge * weights - transposed_product(features, duals)
    value = jnp.sum(jnp.square(residual)) / (2.0 * ridge)
    return value if slack is None else value + jnp.sum(slack)


def kernel_gap(
    predictions: Float[_Real, "n *c"],
    squared_norm: _Scalar,
    gram: Float[_Real, "n n"],
    targets: Float[_Real, "n *c"],
    *,
    loss: Loss | str,
    ridge: _Scalar,
    form: Form = "auto",
    duals: Float[_Real, "n *c"] | None = None,
) -> Float[Array, ""]:
    r"""Duality gap from kernel values alone, for exact (infinite-width) kernels.

    With the reference solution known by its predictions on the distilled set and its
    norm, :math:`\|v\|^2/(2\lambda)` of `gap` becomes

    .. math::
        \tfrac{\lambda}{2}\|\theta\|^2 - \sum_i\langle a_i, f_i\rangle
        + \tfrac{1}{2\lambda}\sum_{ij} k(x_i, x_j)\langle a_i, a_j\rangle .

    For a reference :math:`\theta = \frac{1}{\lambda_O}\sum_j a_j^O \phi(x_j^O)`,
    predictions are :math:`K_{SO}\,a^O/\lambda_O` and the squared norm is
    :math:`\langle a^O, K_{OO}\,a^O\rangle/\lambda_O^2`. The three terms cancel near a
    good distilled set: use float64 for a certificate (see the module).

    Args:
      predictions: :math:`f_i = \phi(x_i)^\top\theta` of the reference on the set.
      squared_norm: :math:`\|\theta\|^2` of the reference.
      gram: kernel matrix of the set.
      targets: targets of the set.
      loss: the loss, or its name.
      ridge: :math:`\lambda > 0` of the set's problem.
      form: as in `gap`.
      duals: as in `gap`.

    Returns:
      The gap; rounding may make it slightly negative.

    Raises:
      ValueError: shapes do not fit, a concrete `ridge` is not positive, or the form is
        not a bound for this loss.
    """
    _check_positive(ridge)
    count = predictions.shape[0]
    if gram.shape != (count, count) or targets.shape != predictions.shape:
        raise ValueError(
            f"predictions {predictions.shape}, targets {targets.shape} and gram "
            f"{gram.shape} must be (n, ...), (n, ...) and (n, n)"
        )
    loss = as_loss(loss)
    check_targets(loss, targets)
    duals, slack = _duals_and_slack(form, targets, predictions, duals, loss)
    inner = jnp.sum(duals * (product(gram, duals) / (2.0 * ridge) - predictions))
    value = jnp.asarray(0.5 * ridge * squared_norm) + inner
    return value if slack is None else value + jnp.sum(slack)


class ErrorInterval(NamedTuple):
    """What is known of the test error of a model that was never trained.

    Attributes:
      lower: smallest possible error, the fraction certainly wrong.
      upper: largest possible error, one minus the fraction certainly right.
      correct: number of test points certainly right.
      wrong: number certainly wrong.
      unknown: number of the others.
    """

    lower: Float[Array, ""]
    upper: Float[Array, ""]
    correct: Int[Array, ""]
    wrong: Int[Array, ""]
    unknown: Int[Array, ""]


def parameter_radius(
    gap: _Scalar,
    ridge: _Scalar,
    reference_gap: _Scalar = 0.0,
    reference_ridge: _Scalar | None = None,
) -> Float[Array, ""]:
    r"""Radius around the reference that holds the distilled set's solution.

    .. math:: R = \sqrt{2 G_S/\lambda_S} + \sqrt{2 g_O/\lambda_O}

    The first term alone bounds :math:`\|\theta_S - \hat\theta_O\|` for the weights
    :math:`\hat\theta_O` at which the gap was evaluated, however they were found. The
    second is the distance of :math:`\hat\theta_O` from the exact real solution, whose
    gap on the real problem is `reference_gap`; with it R bounds
    :math:`\|\theta_S - \theta_O\|`.

    Args:
      gap: :math:`G_S` at the reference; a negative rounding error counts as 0.
      ridge: :math:`\lambda_S > 0`.
      reference_gap: :math:`g_O`, 0 to leave the second term out.
      reference_ridge: :math:`\lambda_O > 0`, needed with `reference_gap`.

    Raises:
      ValueError: a concrete ridge is not positive.

    Source: DGKIP, theorem 3.2.
    """
    _check_positive(ridge)
    radius = jnp.sqrt(jnp.asarray(2.0 * jnp.maximum(jnp.asarray(gap), 0.0) / ridge))
    if reference_ridge is None:
        return radius
    _check_positive(reference_ridge, "reference_ridge")
    further = 2.0 * jnp.maximum(jnp.asarray(reference_gap), 0.0) / reference_ridge
    return radius + jnp.sqrt(jnp.asarray(further))


def prediction_bound(
    feature_norms: Float[_Real, " n"], radius: _Scalar
) -> Float[Array, " n"]:
    r"""How far a prediction can move, :math:`\|\phi(x)\| R`.

    For several outputs this bounds the Euclidean norm of the change, and so every
    single output.

    Args:
      feature_norms: :math:`\|\phi(x_i)\|`, or :math:`\sqrt{k(x_i, x_i)}`.
      radius: R.

    Source: DGKIP, equation after theorem 3.2 and appendix B.2.
    """
    return jnp.multiply(feature_norms, radius)


def _check_labels(labels: _Real, outputs: int) -> None:
    """Refuses labels known to be other numbers than there are classes."""
    if isinstance(labels, Tracer):
        return
    found = np.unique(np.asarray(labels))
    allowed = np.array([-1, 1]) if outputs == 1 else np.arange(outputs)
    if not np.isin(found, allowed).all():
        what = (
            "labels of one output are -1 and 1"
            if outputs == 1
            else f"labels of {outputs} outputs are class numbers from 0 to "
            f"{outputs - 1}"
        )
        raise ValueError(f"{what}, got {', '.join(map(str, found[:6]))}")


def margins(predictions: Float[_Real, "n *c"], labels: _Real) -> Float[Array, " n"]:
    """Signed margins: positive where the decision is right.

    Args:
      predictions: `(n,)`, decided by their sign, or `(n, c)`, decided by the largest.
      labels: ±1 `(n,)` with `(n,)` predictions, class numbers `(n,)` with `(n, c)`.

    Returns:
      `y f`, or `f_y` minus the largest other prediction.

    Raises:
      ValueError: shapes do not fit, a single output column, or concrete labels that
        are no such numbers.
    """
    _check_labels(labels, 1 if predictions.ndim == 1 else predictions.shape[1])
    predictions, labels = jnp.asarray(predictions), jnp.asarray(labels)
    if labels.shape != predictions.shape[:1]:
        raise ValueError(
            f"labels have shape {labels.shape}; predictions {predictions.shape} call "
            f"for {predictions.shape[:1]}"
        )
    if predictions.ndim == 1:
        return labels.astype(predictions.dtype) * predictions
    if predictions.shape[1] < 2:
        raise ValueError("(n, 1) predictions have no other class; pass them as (n,)")
    chosen = jax.nn.one_hot(labels, predictions.shape[1], dtype=bool)
    own = jnp.max(jnp.where(chosen, predictions, -jnp.inf), axis=1)
    return own - jnp.max(jnp.where(chosen, -jnp.inf, predictions), axis=1)


def test_error_interval(
    margins: Float[_Real, " n"],
    feature_norms: Float[_Real, " n"],
    radius: _Scalar,
    *,
    multiclass: bool = False,
) -> ErrorInterval:
    r"""Interval that must contain the test error of the distilled set's model.

    A point is certainly right when its margin exceeds :math:`\|\phi\| R` and certainly
    wrong when it is below :math:`-\|\phi\| R`. Between two outputs of a matrix in a
    Frobenius ball the difference moves by :math:`\|\phi\| \|e_y - e_k\| R =
    \sqrt2\,\|\phi\| R`.

    Args:
      margins: from `margins`, under the reference (the centre of the ball).
      feature_norms: :math:`\|\phi(x_i)\|`.
      radius: R, from `parameter_radius`.
      multiclass: margins are differences between two outputs.

    Source: DGKIP, lemma 3.4; the multiclass form is not in the paper.
    """
    moved = prediction_bound(feature_norms, radius)
    moved = moved * math.sqrt(2.0) if multiclass else moved
    correct, wrong = jnp.sum(margins > moved), jnp.sum(margins < -moved)
    total = len(margins)
    return ErrorInterval(
        lower=wrong / total,
        upper=1.0 - correct / total,
        correct=correct,
        wrong=wrong,
        unknown=total - correct - wrong,
    )


# Not a test of this library, whatever pytest makes of the name.
test_error_interval.__test__ = False
