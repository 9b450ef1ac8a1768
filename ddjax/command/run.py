"""What is to be done of one run, as objects."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method

__all__ = ["NOT_IN_TRAIN", "Run"]

NOT_IN_TRAIN = (
    "method",
    "problem",
    "seed",
    "workdir",
    "evaluations",
    "cache",
    "config",
    "profile",
)
"""Keywords of `ddjax.runtime.train` that are no part of `Run.train`."""


class Run(NamedTuple):
    """A configuration made into objects; nothing is loaded or computed yet.

    Attributes:
      config: the configuration, plain: `seed`, and the sections `data`, `method`,
        `train` and `evaluate`, the last by label.
      seed: of the run.
      method: the method.
      load: loads the data.
      evaluations: label -> evaluation, for the test split.
      load_other: label -> loads what that evaluation judges on, where it is not the
        data that are distilled.
      validate: labels of those that are done on the validation split along the way.
      train: further keywords of `ddjax.runtime.train`.
    """

    config: dict[str, Any]
    seed: int
    method: Method
    load: Callable[[], Problem]
    evaluations: dict[str, Evaluation]
    load_other: dict[str, Callable[[], Problem]]
    validate: list[str]
    train: dict[str, Any]
