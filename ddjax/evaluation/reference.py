"""The two convex problems of a certificate, and the solution on the real data."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.evaluation import convex, learning_targets
from ddjax.evaluation.checks import known_labels, recipe_ridge
from ddjax.evaluation.convex import Fitted, View
from ddjax.kernels import losses
from ddjax.kernels.blocks import gram_in_blocks
from ddjax.kernels.losses import Loss
from ddjax.storage.cache import Cache
from ddjax.synthetic.decoders.base import Pairs
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.targets import hard_targets

__all__ = [
    "ConvexProblems",
    "convex_problems",
    "exact_product",
    "reference_predictions",
    "reference_solution",
]


class ConvexProblems(NamedTuple):
    """The convex problems on the real data and on the distilled set.

    Attributes:
      loss: of both.
      real_targets: hard labels of the real data in the loss's units.
      real_ridge: absolute.
      targets: of the distilled set, in the loss's units.
      ridge: absolute, of the distilled problem.
      solver: tolerance and iterations of both.
    """

    loss: Loss
    real_targets: Float[Array, "n *c"]
    real_ridge: float
    targets: Float[Array, "m *c"]
    ridge: float
    solver: dict[str, Any]


def convex_problems(
    distilled: DistilledSet,
    pairs: Pairs,
    problem: Problem,
    *,
    loss: dict[str, Any] | None,
    real_ridge_per_sample: float | None,
    distilled_ridge_per_sample: float | None,
    solver: dict[str, Any],
) -> ConvexProblems:
    """What is given, else what the set says it was distilled with.

    Raises:
      ValueError: a setting that neither was given nor is known of the set, targets that
        the loss cannot be given, or a problem without classes.
    """
    if not problem.classes:
        raise ValueError(
            f"a certificate bounds a classifier's test error, but problem "
            f"{problem.name!r} has no classes"
        )
    labels = known_labels(problem, "train")
    chosen = dict(_known(distilled, "loss", loss, "loss"))
    convex_loss = losses.get(chosen.pop("name"), **chosen)
    real_ridge = _known(
        distilled, "real_ridge", real_ridge_per_sample, "real_ridge_per_sample"
    )
    targets = learning_targets.for_loss(
        convex_loss, pairs.targets, distilled.targets_kind, problem.classes
    )
    return ConvexProblems(
        loss=convex_loss,
        real_targets=hard_targets(labels, convex_loss, problem.classes),
        real_ridge=real_ridge * len(labels),
        targets=targets,
        ridge=_absolute_ridge(distilled, distilled_ridge_per_sample, len(targets)),
        solver=solver,
    )


def _known(distilled: DistilledSet, name: str, given: Any, keyword: str) -> Any:
    value = distilled.recipe.get(name) if given is None else given
    if value is None:
        raise ValueError(
            f"the set does not say the {name} it was distilled with; give {keyword}"
        )
    return value


def _absolute_ridge(distilled: DistilledSet, given: float | None, count: int) -> float:
    if given is not None:
        return given * count
    if distilled.recipe.get("ridge") is None:
        raise ValueError(
            "the set does not say the ridge it was distilled with; give "
            "distilled_ridge_per_sample"
        )
    strength, convention = recipe_ridge(distilled)
    if convention == "relative" or strength <= 0:
        raise ValueError(
            f"the set was distilled with a ridge of {strength} ({convention}); a "
            "certificate needs one > 0 per sample; give distilled_ridge_per_sample"
        )
    return strength * count if convention == "per_sample" else strength


def reference_solution(
    view: View,
    problems: ConvexProblems,
    problem: Problem,
    *,
    block: int,
    largest: int,
    cache: Cache,
) -> Fitted:
    """The solution on the real training data, from the cache where it has it.

    Raises:
      ValueError: features or kernel of more than `largest` bytes.
    """
    learner = convex.risk_learner(
        problems.real_targets,
        loss=problems.loss,
        ridge=problems.real_ridge,
        **problems.solver,
    )
    return convex.cached_fit(
        cache,
        "reference_solution",
        _dependencies(view, problems, problem),
        lambda: convex.fit(
            view, learner, problem.train.inputs, block=block, largest=largest
        ),
    )


def _dependencies(
    view: View, problems: ConvexProblems, problem: Problem
) -> dict[str, Any]:
    """What the solution on the real data depends on."""
    return {
        **convex.real_data_dependencies(view.feature_map, problem),
        **problems.solver,
        "loss": [problems.loss.name, dict(problems.loss.settings)],
        "ridge": problems.real_ridge,
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def reference_predictions(
    view: View,
    reference: Fitted,
    problems: ConvexProblems,
    problem: Problem,
    split: str,
    *,
    block: int,
    cache: Cache,
) -> Float[ndarray, "n *c"]:
    """An exact kernel's real solution on a split, in float64, from the cache."""

    def compute() -> dict[str, Any]:
        kernel = convex.compiled_kernel(view.feature_map)
        inputs = getattr(problem, split).inputs
        cross = gram_in_blocks(kernel, inputs, problem.train.inputs, block=block)
        return {"predictions": exact_product(cross, reference.weights)}

    about = {**_dependencies(view, problems, problem), "split": split}
    return np.asarray(cache("reference_predictions", about, compute)["predictions"])


def exact_product(
    rows: Float[ndarray, "n k"], weights: Float[ndarray, "k *c"]
) -> Float[ndarray, "n *c"]:
    """`rows @ weights` in float64, a few rows at a time."""
    parts = np.array_split(rows, max(1, len(rows) // 256))
    return np.concatenate([part.astype(np.float64) @ weights for part in parts])
