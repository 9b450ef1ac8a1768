"""The upper bound: the same convex learner trained on all the real data."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.checks import check_match, chosen_split
from ddjax.evaluation.convex import fit_and_predict, ridge_learner
from ddjax.evaluation.probe import convex_learner, scores_of
from ddjax.evaluation.representation import representation
from ddjax.kernels import losses
from ddjax.kernels.losses import Loss
from ddjax.kernels.random_features import Architecture
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["full_data"]


def full_data(
    *,
    loss: str = "logistic",
    loss_settings: Mapping[str, float] | None = None,
    ridge_per_sample: float = 1e-6,
    features: str = "distillation",
    architecture: Architecture | Mapping[str, Any] | str | None = None,
    networks: int | None = None,
    draws: int = 1,
    tolerance: float = 1e-4,
    max_iterations: int = 500,
    largest: int = 8 * 2**30,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """`probe` trained on the whole training split instead of the distilled set.

    The distilled set only says which features to use where `features` is
    `distillation`. Scalars are those of `probe` under `full_data_<loss>`. The squared
    loss, the one to take for regression, is ridge regression and solved in closed form,
    in float64.

    Args:
      loss: see `probe.probe`, as for all that is not listed here.
      loss_settings: likewise.
      ridge_per_sample: likewise.
      features: likewise.
      architecture: likewise.
      networks: likewise.
      draws: likewise.
      tolerance: relative duality gap at which to stop.
      max_iterations: at most so many.
      largest: bytes of features (n p) or kernel (n n) that may be held.
      block: likewise.
      label: likewise.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated,
        features that would take more than `largest` bytes.
    """
    convex = losses.get(loss, **dict(loss_settings or {}))
    if not (math.isfinite(ridge_per_sample) and ridge_per_sample > 0):
        raise ValueError(f"ridge_per_sample must be > 0, got {ridge_per_sample}")
    maps = representation(
        features, architecture=architecture, networks=networks, draws=draws
    )
    name = f"full_data_{loss}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray, distilled: DistilledSet, problem: Problem, split: str
    ) -> dict[str, Score]:
        data = chosen_split(problem, split)
        check_match(distilled, problem)
        targets = _training_targets(convex, problem)
        if convex.name == "squared":
            learner = ridge_learner(
                targets, ridge=ridge_per_sample, convention="per_sample"
            )
        else:
            learner = convex_learner(
                targets,
                loss=convex,
                ridge_per_sample=ridge_per_sample,
                tolerance=tolerance,
                max_iterations=max_iterations,
            )
        found = [
            fit_and_predict(
                feature_map,
                learner,
                problem.train.inputs,
                data.inputs,
                block=block,
                largest=largest,
            )
            for feature_map in maps(key, distilled)
        ]
        return scores_of(name, found, data.targets, problem)

    return Evaluation(name, evaluate)


def _training_targets(loss: Loss, problem: Problem) -> Float[Array, "n *c"]:
    """The real training targets in the units of a loss."""
    targets = problem.train.targets
    if problem.classes:
        labels = np.asarray(targets, np.int32)
        return learning_targets.hard_targets(labels, loss, problem.classes)
    if targets is None or loss.kind != "regression":
        raise ValueError(
            f"loss {loss.name!r} needs classes, but problem {problem.name!r} has none; "
            "choose a regression loss, such as 'squared'"
        )
    return jnp.asarray(targets, jnp.float32)
