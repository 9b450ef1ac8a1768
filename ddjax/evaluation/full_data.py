"""The upper bound: the same convex learner trained on all the real data."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_positive
from ddjax.data.problem import Problem
from ddjax.evaluation import convex
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.checks import chosen_split
from ddjax.evaluation.convex import ConvexLearner, Fitted, View
from ddjax.evaluation.matching import matched_problem
from ddjax.evaluation.probe import scores_of
from ddjax.evaluation.representation import representation
from ddjax.kernels import losses
from ddjax.kernels.losses import Loss
from ddjax.kernels.random_features import Architecture
from ddjax.models.feature_maps import FeatureMap
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain
from ddjax.synthetic.targets import hard_targets

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
    require_convergence: bool = False,
    largest: int = 8 * 2**30,
    block: int = 256,
    label: str = "",
) -> Evaluation:
    """`probe.probe` trained on the whole training split instead of the distilled set.

    The distilled set only says which features to use where `features` is
    `distillation`. Scalars are those of `probe` under `full_data_<loss>`. The squared
    loss, the one to take for regression, is ridge regression and solved in closed form,
    in float64. The solution does not depend on the set: the cache keeps it and its
    predictions.

    Settings are those of `probe.probe`, and `largest`: how many bytes of features (n p)
    or kernel (n n) may be held.

    Raises:
      ValueError: an unknown name or a number out of range; when it is evaluated,
        features that would take more than `largest` bytes, or real data without the
        labels or targets that the loss needs.
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
    solver: dict[str, Any] = {
        "ridge_per_sample": ridge_per_sample,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
    }
    name = f"full_data_{loss}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        chosen_split(problem, split)
        problem = matched_problem(distilled, problem, split, "train")
        of_targets = distilled.targets_kind == "regression"
        learner = _learner(convex_loss, problem, of_targets, solver)
        found = []
        for feature_map in maps(key, distilled):
            about = {
                **convex.real_data_dependencies(feature_map, problem),
                **solver,
                "loss": [convex_loss.name, dict(convex_loss.settings)],
                "of_targets": of_targets,
                "x64": bool(jax.config.read("jax_enable_x64")),
            }
            found.append(
                _solved(
                    feature_map, learner, problem, split, about, cache, block, largest
                )
            )
        return scores_of(
            name,
            found,
            problem,
            split,
            of_targets=of_targets,
            tolerance=tolerance,
            require_convergence=require_convergence,
        )

    return Evaluation(name, settings, evaluate)


def _solved(
    feature_map: FeatureMap,
    learner: ConvexLearner,
    problem: Problem,
    split: str,
    about: dict[str, Any],
    cache: Cache,
    block: int,
    largest: int,
) -> tuple[ndarray, Fitted]:
    """Predictions on the split and the fit, from the cache where it has them."""
    training = problem.train.inputs

    @functools.cache
    def view() -> View:
        return convex.view_through(feature_map, training.shape[1:])

    fitted = convex.cached_fit(
        cache,
        "full_data_solution",
        about,
        lambda: convex.fit(view(), learner, training, block=block, largest=largest),
    )

    def predictions() -> dict[str, Any]:
        found = convex.predict_split(
            view(), fitted, training, problem, split, block=block, cache=cache
        )
        return {"predictions": found}

    found = cache("full_data_predictions", {**about, "split": split}, predictions)
    return np.asarray(found["predictions"]), fitted


def _learner(
    loss: Loss, problem: Problem, of_targets: bool, solver: dict[str, Any]
) -> ConvexLearner:
    targets = _training_targets(loss, problem, of_targets)
    if loss.name == "squared":
        return convex.ridge_learner(
            targets, ridge=solver["ridge_per_sample"], convention="per_sample"
        )
    settings = dict(solver)
    ridge = settings.pop("ridge_per_sample") * len(targets)
    return convex.risk_learner(targets, loss=loss, ridge=ridge, **settings)


def _training_targets(
    loss: Loss, problem: Problem, of_targets: bool
) -> Float[Array, "n *c"]:
    """The real training targets in the units of a loss."""
    train = problem.train
    if not of_targets and train.labels is not None and problem.classes:
        labels = np.asarray(train.labels)
        return hard_targets(labels, loss, problem.classes)
    if loss.kind != "regression":
        raise ValueError(
            f"loss {loss.name!r} needs classes, but problem {problem.name!r} is one of "
            "targets; choose a regression loss, such as 'squared'"
        )
    if train.targets is None:
        raise ValueError(
            f"the training split of problem {problem.name!r} has neither labels nor "
            "targets to train on"
        )
    return jnp.asarray(train.targets)
