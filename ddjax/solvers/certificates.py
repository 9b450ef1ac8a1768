r"""Certificates: what the duality gap proves about a model, as numbers to be stored.

Let :math:`\hat\theta_O` be weights found on the real data, S a distilled set with
regulariser :math:`\lambda`, :math:`\theta_S` its exact solution and G the gap of S at
:math:`\hat\theta_O` for any feasible duals a. Then, with
:math:`\theta(a) = \Phi_S^\top a/\lambda`,

.. math::
    \tfrac{2}{\lambda} G \ge \|\hat\theta_O - \theta_S\|^2
    + \|\theta(a) - \theta_S\|^2 .

Dropping the last term is theorem 3.2 of DGKIP: :math:`\theta_S` lies within
:math:`R = \sqrt{2G/\lambda}` of :math:`\hat\theta_O`, no matter how loosely
:math:`\hat\theta_O` was solved. Keeping it (the dual is strongly concave in
:math:`\theta(a)`) gives a ball of about half the radius around the midpoint,

.. math::
    \Big\|\theta_S - \frac{\hat\theta_O + \theta(a)}{2}\Big\|^2
    \le \frac{G}{\lambda} - \frac14 \|\hat\theta_O - \theta(a)\|^2 .

Of all duals those of the set's own solution give the smallest gap. For a smooth loss
the optimality condition :math:`a = -\nabla\ell` finds them where the weights are the
solution. At the kink of a hinge, where the support vectors lie, the gradient is one of
many, and a single wrong one may cost more than all the rest: there, without duals
given, they are solved for. All others keep the gradient, whose slack is zero.

The distance of :math:`\theta_S` from the *exact* real solution has the further term
:math:`R_O = \sqrt{2 g_O/\lambda_O}`, from the gap reached on the real problem.

In a ball of radius R a prediction moves by :math:`\|\phi\| R`, and the difference of
two outputs by :math:`\|\phi\| \|e_y - e_k\| R = \sqrt2\,\|\phi\| R`: a test point with
a larger margin than that is certainly right, or certainly wrong.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.kernels.losses import Loss, as_loss, check_targets
from ddjax.solvers._features import Features
from ddjax.solvers._interior import interior_point, kink_distances
from ddjax.solvers._losses import in_float64

__all__ = ["certificate", "check_certificate", "kernel_certificate"]

_Real = Array | ndarray
_UNIT = 2.0**-53
# Samples whose duals are solved for, which takes some seconds at most: at a solution
# there are seldom more of them at a kink than there are features. Of a multiclass loss
# the limit is on samples times outputs.
_MOST_SOLVED = 800
_MOST_COUPLED = 1500


class _Reference(NamedTuple):
    """The reference solution as the distilled set sees it.

    Attributes:
      predictions: on the distilled set, `(m, c)`.
      norm: Euclidean norm of the weights.
      feature_norms: norms of the distilled features, `(m,)`.
      terms: length of the sums behind a prediction, for the rounding allowance.
      residual: duals `(m, c)` to the norm of `lambda theta - Phi' a` and its error.
      coupling: the positions of some samples and duals `(m, c)` of all to the kernel
        among those samples, and its product with the duals, `(k, c)`.
    """

    predictions: ndarray
    norm: float
    feature_norms: ndarray
    terms: int
    residual: Callable[[ndarray], tuple[float, float]]
    coupling: Callable[[ndarray, ndarray], tuple[ndarray, ndarray]]


class _Gap(NamedTuple):
    """A gap with the duals that give it."""

    duals: ndarray
    slack: float
    distance: float
    rounding: float
    value: float


def _columns(values: _Real) -> ndarray:
    values = np.asarray(values).astype(np.float64)
    return values if values.ndim == 2 else values[:, None]


def _gap(
    reference: _Reference, targets: ndarray, duals: ndarray, loss: Loss, ridge: float
) -> _Gap:
    """The gap of given duals with a bound on its rounding error."""
    f = reference.predictions
    value = in_float64(loss.value, targets, f)
    conjugate = in_float64(loss.conjugate, targets, -duals)
    slope = in_float64(loss.gradient, targets, f)
    inner = np.sum(duals * f, axis=1)
    slack = float(np.sum(np.maximum(value + conjugate + inner, 0.0)))
    norm, norm_error = reference.residual(duals)
    # Error of the slack: of its terms, and of the predictions they were computed from.
    moved = reference.terms * _UNIT * reference.feature_norms * reference.norm
    pull = np.linalg.norm(slope, axis=1) + np.linalg.norm(duals, axis=1)
    rounding = float(np.sum(pull * moved)) + 8.0 * _UNIT * float(
        np.sum(np.abs(value) + np.abs(conjugate) + np.abs(inner))
    )
    rounding += norm_error * (norm + 0.5 * norm_error) / ridge
    gap = slack + norm * norm / (2.0 * ridge)
    return _Gap(duals, slack, norm / ridge, rounding, gap)


def _best_gap(
    reference: _Reference,
    targets: ndarray,
    given: _Real | None,
    loss: Loss,
    ridge: float,
) -> tuple[str, _Gap]:
    """The smallest gap over the duals at hand, and which they were."""
    f = reference.predictions
    candidates = {"kkt": -in_float64(loss.gradient, targets, f)}
    if not loss.smooth:
        candidates["surrogate"] = in_float64(loss.surrogate, targets, f)
    if not loss.smooth and given is None:
        candidates |= _solved(reference, targets, candidates["kkt"], loss, ridge)
    if given is not None:
        offered = _columns(given)
        if offered.shape != targets.shape:
            raise ValueError(
                f"duals have shape {offered.shape}, targets {targets.shape}"
            )
        candidates["given"] = -in_float64(loss.feasible, targets, -offered)
    gaps = {
        name: _gap(reference, targets, duals, loss, ridge)
        for name, duals in candidates.items()
    }
    name = min(gaps, key=lambda key: gaps[key].value + gaps[key].rounding)
    return name, gaps[name]


def _solved(
    reference: _Reference, targets: ndarray, duals: ndarray, loss: Loss, ridge: float
) -> dict[str, ndarray]:
    """The duals with those of the samples nearest to a kink made the best there are."""
    distances = kink_distances(targets, reference.predictions, loss=loss)
    most = _MOST_SOLVED
    if loss.kind == "multiclass":
        most = min(most, max(1, _MOST_COUPLED // targets.shape[1]))
    free = np.argsort(distances, kind="stable")[:most]
    kept = duals.copy()
    kept[free] = 0.0
    gram, products = reference.coupling(free, kept)
    try:
        found = interior_point(
            gram,
            targets[free],
            loss=loss,
            ridge=ridge,
            tolerance=1e-8,
            max_iterations=100,
            shift=products / ridge,
        )
    except ValueError:
        # The matrix is not positive semi-definite: the other duals are valid as well.
        return {}
    kept[free] = found.duals
    return {"solved" if len(free) == len(duals) else "solved in part": kept}


def _counts(
    margins: ndarray, moved: ndarray, prefix: str = ""
) -> dict[str, float | int]:
    correct, wrong = int(np.sum(margins > moved)), int(np.sum(margins < -moved))
    total = len(margins)
    return {
        f"{prefix}correct": correct,
        f"{prefix}wrong": wrong,
        f"{prefix}unknown": total - correct - wrong,
        f"{prefix}error_lower": wrong / total,
        f"{prefix}error_upper": (total - correct) / total,
    }


def _margins(predictions: ndarray, labels: ndarray) -> ndarray:
    if predictions.shape[1] == 1:
        return predictions[:, 0] * labels
    rows = np.arange(len(labels))
    others = predictions.copy()
    others[rows, labels] = -np.inf
    return predictions[rows, labels] - others.max(axis=1)


def _labels(labels: _Real, count: int, outputs: int) -> ndarray:
    """Test labels as ±1 or class numbers; refuses anything else."""
    values = np.asarray(labels)
    allowed = {-1.0, 1.0} if outputs == 1 else set(range(outputs))
    found = set(np.unique(values).tolist())
    if values.shape != (count,) or not found <= allowed:
        raise ValueError(
            f"test labels must be {count} numbers from "
            f"{'-1 and 1' if outputs == 1 else f'0 to {outputs - 1}'}; got shape "
            f"{values.shape} with values {sorted(found)[:10]}"
        )
    return values.astype(np.float64 if outputs == 1 else np.int64)


def _report(
    name: str,
    gap: _Gap,
    loss: Loss,
    ridge: float,
    samples: int,
    reference_gap: float | None,
    reference_ridge: float | None,
) -> dict[str, Any]:
    """Everything but the test points."""
    total = gap.value + gap.rounding
    radius = math.sqrt(2.0 * total / ridge)
    midpoint = total / ridge - 0.25 * gap.distance**2
    report = {
        "loss": loss.name,
        "loss_settings": dict(loss.settings),
        "samples": samples,
        "ridge": ridge,
        "duals": name,
        "slack": gap.slack,
        "distance": gap.distance,
        "gap": gap.value,
        "rounding": gap.rounding,
        "radius": radius,
        "midpoint_radius": math.sqrt(max(midpoint, 0.0)),
    }
    if reference_gap is not None and reference_ridge is not None:
        extra = math.sqrt(2.0 * max(reference_gap, 0.0) / reference_ridge)
        report |= {
            "reference_gap": float(reference_gap),
            "reference_ridge": float(reference_ridge),
            "reference_radius": extra,
            "radius_to_exact_reference": radius + extra,
        }
    return report


def _add_test(
    report: dict[str, Any],
    predictions: ndarray,
    dual_predictions: ndarray | None,
    norms: ndarray,
    labels: _Real,
    error: float,
) -> dict[str, Any]:
    """Adds the test-error intervals of both balls; `error` bounds a unit feature's."""
    outputs = predictions.shape[1]
    truth = _labels(labels, len(predictions), outputs)
    scale = norms * (math.sqrt(2.0) if outputs > 1 else 1.0)
    report = report | {
        "test_samples": len(predictions),
        "largest_feature_norm": float(norms.max()),
        "prediction_bound": float(norms.max()) * report["radius"],
    }
    moved = scale * (report["radius"] + error)
    report |= _counts(_margins(predictions, truth), moved)
    if dual_predictions is not None:
        middle = 0.5 * (predictions + dual_predictions)
        moved = scale * (report["midpoint_radius"] + error)
        report |= _counts(_margins(middle, truth), moved, "midpoint_")
    return report


def _check_inputs(
    ridge: float, reference_gap: float | None, reference_ridge: float | None
) -> None:
    if not (math.isfinite(ridge) and ridge > 0):
        raise ValueError(f"ridge must be finite and > 0, got {ridge}")
    if (reference_gap is None) != (reference_ridge is None):
        raise ValueError("give reference_gap and reference_ridge together, or neither")
    if reference_ridge is not None and not reference_ridge > 0:
        raise ValueError(f"reference_ridge must be > 0, got {reference_ridge}")


def _check_finite(**arrays: _Real | None) -> None:
    for name, values in arrays.items():
        if values is None:
            continue
        bad = int(np.sum(~np.isfinite(np.asarray(values).astype(np.float64))))
        if bad:
            raise ValueError(f"{name} hold {bad} values that are not finite")


def certificate(
    weights: Float[_Real, "p *c"],
    features: Float[_Real, "m p"],
    targets: Float[_Real, "m *c"],
    *,
    loss: Loss | str,
    ridge: float,
    duals: Float[_Real, "m *c"] | None = None,
    reference_gap: float | None = None,
    reference_ridge: float | None = None,
    test_features: Float[_Real, "n p"] | None = None,
    test_labels: _Real | None = None,
) -> dict[str, Any]:
    r"""Certificate of a distilled set, evaluated in float64 with rounding allowed for.

    Args:
      weights: :math:`\hat\theta_O`, the reference, in the precision it was found in.
      features: of the distilled set.
      targets: of the distilled set, see `ddjax.kernels.losses.check_targets`.
      loss: the loss of both problems, or its name.
      ridge: :math:`\lambda` of the distilled problem.
      duals: feasible duals to try beside those of the optimality condition and their
        surrogate (projected onto the domain first). The optimal ones,
        `erm.solve(features, ...).duals`, give the smallest gap there is,
        :math:`P_S(\hat\theta_O) - P_S(\theta_S)`. Without any, and for a loss with
        kinks, the duals of the samples nearest to a kink are solved for, up to 800
        samples (multiclass: 1500 numbers).
      reference_gap: gap of `weights` on the real problem, in float64
        (`erm.Solution.gap`).
      reference_ridge: :math:`\lambda_O` of the real problem.
      test_features: of the test points; processed in blocks.
      test_labels: ±1 for a single output, class numbers for several.

    Returns:
      Plain numbers and strings, ready for JSON: `gap` (= `slack` +
      `ridge * distance**2 / 2`), `rounding` (bound on its error), `radius` (of the ball
      around `weights` that holds the distilled set's solution), `midpoint_radius` (of
      the ball around the midpoint), `duals` (which ones gave the gap: `kkt`,
      `surrogate`, `given`, `solved`, or `solved in part` where there are more samples
      than are solved for: give those of a solver if that is not enough), `samples`,
      `ridge`, `loss`, `loss_settings`; with a reference gap also `reference_radius` and
      `radius_to_exact_reference` (around the *exact* real solution); with test points
      `correct`, `wrong`, `unknown` (counts under the distilled set's model),
      `error_lower`, `error_upper` (between which its test error must lie), the same
      with the prefix `midpoint_` for the other ball, `prediction_bound` (largest
      possible change of a test prediction), `largest_feature_norm` and `test_samples`.

    Raises:
      ValueError: an unknown loss, targets that are not its, shapes that do not fit,
        numbers that are not finite, a ridge that is not positive, labels out of range,
        or only one of a pair of arguments.

    Source: DGKIP, theorem 3.2 and lemma 3.4; midpoint ball, multiclass form and
      rounding allowance are not in the paper.
    """
    loss = as_loss(loss)
    _check_inputs(ridge, reference_gap, reference_ridge)
    if (test_features is None) != (test_labels is None):
        raise ValueError("give test_features and test_labels together, or neither")
    matrix = Features(features)
    check_targets(loss, targets)
    _check_finite(weights=weights, duals=duals)
    if not matrix.finite():
        raise ValueError("features hold values that are not finite")
    test = None
    if test_features is not None:
        test = Features(test_features)
        if test.size != matrix.size:
            raise ValueError(
                f"test features {np.shape(test_features)} do not fit features "
                f"{np.shape(features)}"
            )
        if not test.finite():
            raise ValueError("test_features hold values that are not finite")
    theta, wanted = _columns(weights), _columns(targets)
    if theta.shape[0] != matrix.size or wanted.shape != (matrix.count, theta.shape[1]):
        raise ValueError(
            f"weights {np.shape(weights)}, features {np.shape(features)} and targets "
            f"{np.shape(targets)} must be (p, ...), (m, p) and (m, ...)"
        )
    norms, norm = matrix.exact_norms(), float(np.linalg.norm(theta))

    def residual(a: ndarray) -> tuple[float, float]:
        v = ridge * theta - matrix.exact_adjoint(a)
        size = float(np.dot(np.linalg.norm(a, axis=1), norms))
        error = (matrix.count + 3) * _UNIT * (ridge * norm + size)
        return float(np.linalg.norm(v)) * (1.0 + matrix.size * _UNIT), error

    def coupling(chosen: ndarray, a: ndarray) -> tuple[ndarray, ndarray]:
        rows = matrix.rows(chosen).astype(np.float64)
        return rows @ rows.T, rows @ matrix.exact_adjoint(a)

    reference = _Reference(
        matrix.exact_forward(theta), norm, norms, matrix.size, residual, coupling
    )
    name, best = _best_gap(reference, wanted, duals, loss, ridge)
    report = _report(
        name, best, loss, ridge, matrix.count, reference_gap, reference_ridge
    )
    if test is None or test_labels is None:
        return report
    other = matrix.exact_adjoint(best.duals) / ridge
    both = test.exact_forward(np.concatenate([theta, other], axis=1))
    size = max(norm, float(np.linalg.norm(other)))
    outputs = theta.shape[1]
    return _add_test(
        report,
        both[:, :outputs],
        both[:, outputs:],
        test.exact_norms(),
        test_labels,
        2.0 * matrix.size * _UNIT * size,
    )


def kernel_certificate(
    predictions: Float[_Real, "m *c"],
    squared_norm: float,
    gram: Float[_Real, "m m"],
    targets: Float[_Real, "m *c"],
    *,
    loss: Loss | str,
    ridge: float,
    duals: Float[_Real, "m *c"] | None = None,
    reference_gap: float | None = None,
    reference_ridge: float | None = None,
    test_predictions: Float[_Real, "n *c"] | None = None,
    test_diagonal: Float[_Real, " n"] | None = None,
    test_labels: _Real | None = None,
    test_gram: Float[_Real, "n m"] | None = None,
) -> dict[str, Any]:
    r"""Certificate from kernel values: nothing is restricted to explicit features.

    The norm of the residual is
    :math:`\lambda^2\|\theta\|^2 - 2\lambda\langle a, f\rangle + a^\top K a`, whose
    terms cancel: the allowance for rounding is larger than with features. It covers
    float64 arithmetic on the numbers given; kernel values that are themselves only
    float32 are taken as they are.

    Args:
      predictions: :math:`K_{SO} b`, of the reference on the distilled set
        (b from `erm.solve_kernel`).
      squared_norm: :math:`\|\theta\|^2` of the reference
        (`erm.KernelSolution.squared_norm`).
      gram: kernel matrix of the distilled set.
      targets: of the distilled set.
      loss: the loss of both problems.
      ridge: :math:`\lambda` of the distilled problem.
      duals: as in `certificate`.
      reference_gap: as in `certificate`.
      reference_ridge: as in `certificate`.
      test_predictions: of the reference on the test points.
      test_diagonal: `k(x, x)` of the test points.
      test_labels: as in `certificate`.
      test_gram: kernel between test points and the distilled set; for the midpoint
        ball, None leaves it out.

    Raises:
      ValueError: as for `certificate`.
    """
    loss = as_loss(loss)
    _check_inputs(ridge, reference_gap, reference_ridge)
    given = [test_predictions is None, test_diagonal is None, test_labels is None]
    if len(set(given)) > 1:
        raise ValueError(
            "give test_predictions, test_diagonal and test_labels together, or none"
        )
    check_targets(loss, targets)
    _check_finite(
        predictions=predictions,
        gram=gram,
        duals=duals,
        test_predictions=test_predictions,
        test_diagonal=test_diagonal,
        test_gram=test_gram,
    )
    if not math.isfinite(squared_norm):
        raise ValueError(f"squared_norm must be finite, got {squared_norm}")
    f, wanted = _columns(predictions), _columns(targets)
    kernel = np.asarray(gram).astype(np.float64)
    count = len(f)
    if kernel.shape != (count, count) or wanted.shape != f.shape:
        raise ValueError(
            f"predictions {np.shape(predictions)}, targets {np.shape(targets)} and "
            f"gram {np.shape(gram)} must be (m, ...), (m, ...) and (m, m)"
        )
    norms = np.sqrt(np.maximum(np.diag(kernel), 0.0))
    norm = math.sqrt(max(squared_norm, 0.0))

    def residual(a: ndarray) -> tuple[float, float]:
        inner, quadratic = float(np.vdot(a, f)), float(np.vdot(a, kernel @ a))
        square = ridge * ridge * squared_norm - 2.0 * ridge * inner + quadratic
        size = float(np.dot(np.linalg.norm(a, axis=1), norms)) + ridge * norm
        error = (count + 4) * 4.0 * _UNIT * size * size
        upper = math.sqrt(max(square, 0.0) + error)
        return math.sqrt(max(square, 0.0)), upper - math.sqrt(max(square, 0.0))

    def coupling(chosen: ndarray, a: ndarray) -> tuple[ndarray, ndarray]:
        return kernel[np.ix_(chosen, chosen)], kernel[chosen] @ a

    reference = _Reference(f, norm, norms, 1, residual, coupling)
    name, best = _best_gap(reference, wanted, duals, loss, ridge)
    report = _report(name, best, loss, ridge, count, reference_gap, reference_ridge)
    if test_predictions is None or test_diagonal is None or test_labels is None:
        return report
    other = None
    if test_gram is not None:
        other = np.asarray(test_gram).astype(np.float64) @ best.duals / ridge
    diagonal = np.asarray(test_diagonal).astype(np.float64)
    return _add_test(
        report,
        _columns(test_predictions),
        other,
        np.sqrt(np.maximum(diagonal, 0.0)),
        test_labels,
        count * _UNIT * norm,
    )


def check_certificate(report: dict[str, Any]) -> None:
    """Recomputes what follows from the stored numbers of a certificate.

    Args:
      report: from `certificate` or `kernel_certificate`, perhaps read from a file.

    Raises:
      ValueError: an entry is missing, not finite, or does not follow from the others;
        the entry is named.
    """
    ridge = _entry(report, "ridge")
    if not ridge > 0:
        raise ValueError(f"certificate: ridge must be > 0, got {ridge}")
    slack, distance = _entry(report, "slack"), _entry(report, "distance")
    total = _entry(report, "gap") + _entry(report, "rounding")
    expected = {
        "gap": slack + 0.5 * ridge * distance**2,
        "radius": math.sqrt(2.0 * max(total, 0.0) / ridge),
        "midpoint_radius": math.sqrt(max(total / ridge - 0.25 * distance**2, 0.0)),
    }
    if "reference_gap" in report:
        square = _entry(report, "reference_gap") / _entry(report, "reference_ridge")
        expected["reference_radius"] = math.sqrt(2.0 * max(square, 0.0))
        expected["radius_to_exact_reference"] = (
            expected["radius"] + expected["reference_radius"]
        )
    if "test_samples" in report:
        expected["prediction_bound"] = (
            _entry(report, "largest_feature_norm") * expected["radius"]
        )
        for prefix in ("", "midpoint_") if "midpoint_correct" in report else ("",):
            expected |= _expected_interval(report, prefix)
    for name, value in expected.items():
        stored = _entry(report, name)
        if not math.isclose(stored, value, rel_tol=1e-9, abs_tol=1e-300):
            raise ValueError(
                f"certificate: {name} is {stored}, but the other entries give {value}"
            )


def _entry(report: dict[str, Any], name: str) -> float:
    value = report.get(name)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"certificate: {name} must be a finite number, got {value!r}")
    return float(value)


def _expected_interval(report: dict[str, Any], prefix: str) -> dict[str, float]:
    samples = _entry(report, "test_samples")
    correct, wrong = (_entry(report, prefix + key) for key in ("correct", "wrong"))
    return {
        f"{prefix}unknown": samples - correct - wrong,
        f"{prefix}error_lower": wrong / samples,
        f"{prefix}error_upper": (samples - correct) / samples,
    }
