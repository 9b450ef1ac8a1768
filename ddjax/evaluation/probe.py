"""Convex learners trained on a distilled set: logistic regression, SVM and others."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.accuracy import accuracy, mean_squared_error
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import check_match, chosen_split
from ddjax.evaluation.convex import FeatureStore, Fitted, Learner, fit_and_predict
from ddjax.evaluation.regression import natural_scores
from ddjax.evaluation.representation import representation
from ddjax.kernels import erm, losses
from ddjax.kernels.losses import Loss
from ddjax.kernels.random_features import Architecture
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = ["convex_learner", "probe", "scores_of", "targets_for"]


def probe(
    *,
    loss: str = "logistic",
    loss_settings: Mapping[str, float] | None = None,
    ridge_per_sample: float = 1e-6,
    features: str = "distillation",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    draws: int = 3,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    r"""What a convex learner trained on the distilled set is worth on real data.

    .. math::
        \min_\theta \sum_{i \in S} \ell(y_i, \phi_i^\top\theta)
        + \frac{\lambda}{2} \|\theta\|^2, \qquad \lambda = m \cdot
        \text{ridge\_per\_sample},

    solved until the duality gap is small. With another loss or other features than the
    set was distilled with, this is transfer (SVM to logistic regression and back:
    table 3 of DGKIP). Margin losses separate two classes, or each of more from the
    rest; multiclass losses treat any number jointly. What happens to stored targets of
    another kind: `ddjax.evaluation.learning_targets`.

    Scalars: `probe_<loss>/accuracy` for classes; for regression targets
    `probe_<loss>/mse`, in preprocessed units, and `r2`, `rmse` and `mae` as in
    `regression.regression`; and `probe_<loss>/solver_gap`, the relative duality gap
    reached.

    Args:
      loss: a name in `ddjax.kernels.losses.LOSSES`.
      loss_settings: the loss's own parameters.
      ridge_per_sample: lambda / m, > 0.
      features: one of `representation.FEATURES`.
      architecture: see `ddjax.models.feature_maps.as_architecture`.
      networks: random networks a draw.
      draws: of the random networks.
      tolerance: relative duality gap at which to stop.
      max_iterations: at most so many.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    convex = losses.get(loss, **dict(loss_settings or {}))
    for name, value in (
        ("ridge_per_sample", ridge_per_sample),
        ("tolerance", tolerance),
    ):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be > 0, got {value}")
    maps = representation(
        features, architecture=architecture, networks=networks, draws=draws
    )
    name = f"probe_{loss}" + (f"_{label}" if label else "")
    store = FeatureStore()

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        learner = convex_learner(
            targets_for(convex, distilled, problem.classes),
            loss=convex,
            ridge_per_sample=ridge_per_sample,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        found = [
            fit_and_predict(
                feature_map,
                learner,
                decoded_inputs(distilled),
                data.inputs,
                block=block,
                store=store,
            )
            for feature_map in maps(key, distilled)
        ]
        return scores_of(name, found, data.targets, problem)

    return Evaluation(name, evaluate)


def targets_for(
    loss: Loss, distilled: DistilledSet, classes: int
) -> Float[Array, "m *c"]:
    """The distilled set's targets in the units of a loss.

    Raises:
      ValueError: where they cannot be had.
    """
    if loss.kind == "regression":
        return learning_targets.as_stored(distilled)
    if classes == 0:
        raise ValueError(
            f"loss {loss.name!r} needs classes, but the problem has none; choose a "
            "regression loss"
        )
    if loss.kind == "margin":
        return learning_targets.margins(distilled, classes)
    return learning_targets.probabilities(distilled, classes)


def convex_learner(
    targets: Float[Array, "m *c"],
    *,
    loss: Loss,
    ridge_per_sample: float,
    tolerance: float,
    max_iterations: int,
) -> Learner:
    """Regularised empirical risk on given targets as a `Learner`."""
    strength = ridge_per_sample * targets.shape[0]
    settings = {
        "loss": loss,
        "ridge": strength,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }

    def from_features(features: np.ndarray) -> Fitted:
        solution = erm.solve(features, targets, **settings)
        return Fitted(np.asarray(solution.weights), _relative_gap(solution))

    def from_gram(gram: np.ndarray) -> Fitted:
        solution = erm.solve_kernel(gram, targets, **settings)
        return Fitted(np.asarray(solution.coefficients), _relative_gap(solution))

    return Learner(from_features, from_gram)


def scores_of(
    name: str,
    found: list[tuple[np.ndarray, Fitted]],
    targets: Any,
    problem: Problem,
) -> dict[str, Score]:
    """Scalars of predictions and fits, one a draw, against the real targets."""
    gaps = {f"{name}/solver_gap": score([fitted.solver_gap for _, fitted in found])}
    if problem.classes:
        right = [accuracy(predictions, targets) for predictions, _ in found]
        return {f"{name}/accuracy": score(right), **gaps}
    errors = [
        mean_squared_error(p, np.asarray(targets).reshape(p.shape)) for p, _ in found
    ]
    natural = natural_scores(name, [p for p, _ in found], targets, problem)
    return {f"{name}/mse": score(errors), **natural, **gaps}


def _relative_gap(solution: Any) -> float:
    return float(solution.gap) / max(abs(float(solution.primal)), 1e-300)
