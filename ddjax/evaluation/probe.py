"""Convex learners trained on a distilled set: logistic regression, SVM and others."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_positive
from ddjax.data.problem import Problem
from ddjax.evaluation import checks, convex, learning_targets
from ddjax.evaluation.accuracy import accuracy, mean_squared_error
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.convex import Fitted
from ddjax.evaluation.matching import learning_pairs, matched_problem
from ddjax.evaluation.regression import natural_scores
from ddjax.evaluation.representation import representation
from ddjax.kernels import losses
from ddjax.kernels.random_features import Architecture
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

__all__ = ["probe", "scores_of"]


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
    require_convergence: bool = False,
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
    reached, with `probe_<loss>/converged`, 1 where it is within the tolerance.

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
      require_convergence: raise instead of warning where the tolerance is not reached.
      block: real inputs at once.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated,
        targets that the loss cannot be given, or a split without the labels or targets
        to measure against.
      ddjax.solvers.erm.NotConverged: when it is evaluated, if convergence is required.
    """
    settings = plain(locals(), "settings")
    convex_loss = losses.get(loss, **dict(loss_settings or {}))
    check_positive(
        required=True, ridge_per_sample=ridge_per_sample, tolerance=tolerance
    )
    maps = representation(
        features, architecture=architecture, networks=networks, draws=draws
    )
    name = f"probe_{loss}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        checks.chosen_split(problem, split)
        problem = matched_problem(distilled, problem, split)
        pairs = learning_pairs(distilled, problem)
        targets = learning_targets.for_loss(
            convex_loss, pairs.targets, distilled.targets_kind, problem.classes
        )
        learner = convex.risk_learner(
            targets,
            loss=convex_loss,
            ridge=ridge_per_sample * len(targets),
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        found = []
        for feature_map in maps(key, distilled):
            view = convex.view_through(feature_map, pairs.inputs.shape[1:])
            fitted = convex.fit(view, learner, pairs.inputs, block=block)
            predictions = convex.predict_split(
                view, fitted, pairs.inputs, problem, split, block=block, cache=cache
            )
            found.append((predictions, fitted))
        return scores_of(
            name,
            found,
            problem,
            split,
            of_targets=distilled.targets_kind == "regression",
            tolerance=tolerance,
            require_convergence=require_convergence,
        )

    return Evaluation(name, settings, evaluate)


def scores_of(
    name: str,
    found: list[tuple[ndarray, Fitted]],
    problem: Problem,
    split: str,
    *,
    of_targets: bool,
    tolerance: float,
    require_convergence: bool,
) -> dict[str, Score]:
    """Scalars of predictions and fits, one a draw.

    Args:
      name: prefix of the scalars.
      found: predictions and fit of each draw.
      problem: matched with the set.
      split: what was predicted.
      of_targets: whether it is measured on targets, not on classes.
      tolerance: that the fits were to reach.
      require_convergence: raise where one did not.

    Raises:
      ValueError: a split without labels, or without targets.
      ddjax.solvers.erm.NotConverged: see `require_convergence`.
    """
    for _, fitted in found:
        checks.check_convergence(
            f"the learner of {name!r}",
            fitted,
            tolerance=tolerance,
            required=require_convergence,
        )
    solver = {
        f"{name}/solver_gap": score([fitted.relative_gap for _, fitted in found]),
        f"{name}/converged": score([float(fitted.converged) for _, fitted in found]),
    }
    if not of_targets:
        labels = checks.known_labels(problem, split)
        right = [accuracy(predictions, labels) for predictions, _ in found]
        return {f"{name}/accuracy": score(right), **solver}
    wanted = checks.known_targets(problem, split)
    errors = [mean_squared_error(p, wanted.reshape(p.shape)) for p, _ in found]
    natural = natural_scores(name, [p for p, _ in found], wanted, problem)
    return {f"{name}/mse": score(errors), **natural, **solver}
