"""What every evaluation checks: settings, splits, shapes, classes, convergence."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ddjax.checks import check_names
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.convex import Fitted
from ddjax.kernels import ridge as ridge_regression
from ddjax.solvers import erm
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes

__all__ = [
    "SPLITS",
    "LearnerNotConverged",
    "check_convergence",
    "check_fit",
    "check_kinds",
    "check_resizable",
    "check_ridge",
    "chosen_split",
    "known_labels",
    "known_targets",
    "recipe_ridge",
]

SPLITS = ("validation", "test")
"""What a set may be measured on: never the data it was distilled from."""


Solved = Fitted | erm.Solution | erm.KernelSolution


class LearnerNotConverged(erm.NotConverged):
    """A learner of an evaluation stopped before its tolerance.

    Its attributes are those of `ddjax.solvers.erm.NotConverged`.
    """

    def __init__(self, message: str, found: Solved, *, tolerance: float):
        """Keeps what a caller may want to decide by."""
        RuntimeError.__init__(self, message)
        self.gap, self.primal = found.gap, found.primal
        self.tolerance, self.iterations = tolerance, found.iterations


def check_ridge(ridge: float | None, convention: Any) -> ridge_regression.Convention:
    """Refuses a strength or a convention that ridge regression does not know.

    Returns:
      The convention.

    Raises:
      ValueError: an unknown convention, with the known ones; a strength that is given
        and negative or not finite.
    """
    check_names(convention=(convention, ridge_regression.CONVENTIONS))
    if ridge is not None and not (math.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be finite and >= 0, got {ridge}")
    return convention


def check_kinds(kinds: Sequence[str], known: Sequence[str]) -> None:
    """Refuses kinds of probes that there are not, and none at all.

    Raises:
      ValueError: with the known ones.
    """
    for kind in kinds:
        check_names(probe=(kind, known))
    if not kinds:
        raise ValueError(f"kinds is empty; known: {', '.join(known)}")


def recipe_ridge(
    distilled: DistilledSet,
) -> tuple[float, ridge_regression.Convention]:
    """Strength and convention of the ridge that a set was distilled for.

    Raises:
      ValueError: a set that does not say it.
    """
    ridge = distilled.recipe.get("ridge")
    if ridge is None:
        raise ValueError("the set does not say which ridge it was made for; give ridge")
    return float(ridge["strength"]), check_ridge(None, ridge["convention"])


def chosen_split(problem: Problem, split: str) -> Split:
    """The split of that name, known to hold samples.

    Raises:
      ValueError: another name (`train` included), or a split without samples.
    """
    if split not in SPLITS:
        raise ValueError(
            f"split is {split!r}; a distilled set is measured on {' or '.join(SPLITS)}"
        )
    data = getattr(problem, split)
    if len(data.inputs) == 0:
        raise ValueError(
            f"the {split} split of problem {problem.name!r} is empty; "
            "load it with samples held out"
        )
    return data


def known_labels(problem: Problem, split: str) -> Int[ndarray, " n"]:
    """The labels of a split, on the host.

    Raises:
      ValueError: there are none.
    """
    labels = getattr(problem, split).labels
    if labels is None or not problem.classes:
        raise ValueError(
            f"the {split} split of problem {problem.name!r} has no class labels to "
            "measure against; this evaluation counts right classes"
        )
    return np.asarray(labels)


def known_targets(problem: Problem, split: str) -> Float[ndarray, "n c"]:
    """The targets of a split, on the host.

    Raises:
      ValueError: there are none.
    """
    targets = getattr(problem, split).targets
    if targets is None:
        raise ValueError(
            f"the {split} split of problem {problem.name!r} has no targets to measure "
            "against; the set is one of regression"
        )
    return np.asarray(targets)


def check_fit(distilled: DistilledSet, problem: Problem) -> None:
    """Refuses a set that was not made for inputs, classes and outputs like these.

    A set of representations names no classes: it fits a problem with any number.

    Raises:
      ValueError: shapes of the inputs, numbers of classes, or numbers of regression
        targets differ.
    """
    pairs = decoded_shapes(distilled)
    made_for, shape = pairs.inputs.shape[1:], tuple(problem.train.inputs.shape[1:])
    if made_for != shape:
        raise ValueError(
            f"the set's inputs have shape {made_for}, those of problem "
            f"{problem.name!r} have shape {shape}"
        )
    kind, classes = distilled.targets_kind, len(distilled.class_names or ())
    if kind != "representation" and classes != problem.classes:
        raise ValueError(
            f"the set knows {classes} classes, problem {problem.name!r} has "
            f"{problem.classes}"
        )
    if kind == "regression" and problem.train.targets is not None:
        stored = math.prod(pairs.targets.shape[1:])
        outputs = problem.train.targets.shape[1]
        if stored != outputs:
            raise ValueError(
                f"the set has {stored} target(s) a sample, problem {problem.name!r} "
                f"has {outputs}"
            )


def check_resizable(distilled: DistilledSet, problem: Problem) -> None:
    """Refuses a problem whose inputs cannot be resized to those of a set.

    Raises:
      ValueError: shapes that differ, but for the height and width of images.
    """
    made_for = tuple(decoded_shapes(distilled).inputs.shape[1:])
    shape = tuple(problem.train.inputs.shape[1:])
    if made_for == shape:
        return
    if not len(made_for) == len(shape) == 3:
        raise ValueError(
            f"the set's inputs have shape {made_for}, those of problem "
            f"{problem.name!r} have shape {shape}; only images are resized"
        )
    if made_for[-1] != shape[-1]:
        raise ValueError(
            f"the set's images have {made_for[-1]} channel(s), those of problem "
            f"{problem.name!r} have {shape[-1]}: images are resized, but grey ones "
            "are not turned into colour or back"
        )


def check_convergence(
    what: str,
    found: Solved,
    *,
    tolerance: float,
    required: bool,
    consequence: str = "",
) -> None:
    """Says that a solution was left unconverged.

    Args:
      what: the solution, in words.
      found: the solution; there is nothing to say where it converged.
      tolerance: what was asked for.
      required: raise instead of warning.
      consequence: what follows from it, in words.

    Raises:
      LearnerNotConverged: it did not converge and that was required.
    """
    if found.converged:
        return
    relative = found.gap / max(abs(found.primal), 1e-300)
    message = (
        f"{what} did not converge: a relative duality gap of {relative:.3g} is "
        f"left after {found.iterations} iterations, the tolerance is {tolerance:g}"
        f"{'; ' if consequence else ''}{consequence}. Raise max_iterations, tolerance "
        "or the ridge"
    )
    if required:
        raise LearnerNotConverged(message, found, tolerance=tolerance)
    warnings.warn(message, stacklevel=3)
