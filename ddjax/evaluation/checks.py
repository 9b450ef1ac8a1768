"""The door of every evaluation: settings, split, shapes and classes must fit."""

import math

import jax
import numpy as np

from ddjax.data.problem import Problem, Split
from ddjax.kernels import ridge as ridge_regression
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = ["SPLITS", "check_match", "check_ridge", "chosen_split"]

SPLITS = ("validation", "test")
"""What a set may be measured on: never the data it was distilled from."""


def check_ridge(ridge: float | None, convention: str) -> ridge_regression.Convention:
    """Refuses a strength or a convention that ridge regression does not know.

    Returns:
      The convention.

    Raises:
      ValueError: an unknown convention, with the known ones; a strength that is given
        and negative or not finite.
    """
    if convention not in ridge_regression.CONVENTIONS:
        known = ", ".join(ridge_regression.CONVENTIONS)
        raise ValueError(f"unknown convention {convention!r}; known: {known}")
    if ridge is not None and not (math.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge must be finite and >= 0, got {ridge}")
    return convention


def chosen_split(problem: Problem, split: str) -> Split:
    """The split of that name, known to hold data.

    Raises:
      ValueError: another name (`train` included), or a split without samples or
        targets.
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
    if data.targets is None:
        raise ValueError(
            f"the {split} split of problem {problem.name!r} has no targets to measure "
            "against"
        )
    return data


def check_match(distilled: DistilledSet, problem: Problem) -> None:
    """Refuses a set that was not made for inputs and classes like the problem's.

    Raises:
      ValueError: input shapes, kinds of preprocessing, or numbers of classes differ.
    """
    made_for = jax.eval_shape(lambda: decoded_inputs(distilled)).shape[1:]
    shape = tuple(np.shape(problem.train.inputs)[1:])
    if made_for != shape:
        raise ValueError(
            f"the set's inputs have shape {made_for}, those of problem "
            f"{problem.name!r} have shape {shape}"
        )
    kinds = distilled.preprocessing.kind, problem.preprocessing.kind
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the set lives behind {kinds[0]!r} preprocessing, problem "
            f"{problem.name!r} was loaded with {kinds[1]!r}: load it with the former"
        )
    classes = len(distilled.class_names or ())
    if classes != problem.classes:
        raise ValueError(
            f"the set knows {classes} classes, problem {problem.name!r} has "
            f"{problem.classes}"
        )
