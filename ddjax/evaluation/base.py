"""The noun `Evaluation`: what a distilled set is worth."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["EvaluateFn", "Evaluation", "Score", "score"]


class Score(NamedTuple):
    """A scalar with its spread over the evaluation's own random draws.

    Attributes:
      mean: mean over draws.
      std: standard deviation over draws (ddof 1; 0.0 for a single draw).
      draws: how many.
    """

    mean: float
    std: float
    draws: int


@runtime_checkable
class EvaluateFn(Protocol):
    """Slot `evaluate` of an `Evaluation`."""

    def __call__(
        self,
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        """Measures a set on one split of real data.

        Args:
          key: of the evaluation's own draws.
          distilled: the set.
          problem: what it is judged on: the one that it was distilled from or, for
            transfer, another. Inputs behind another preprocessing than the set's are
            mapped to the set's.
          split: `validation` or `test`.
          cache: where what is expensive and does not depend on the set is kept between
            calls; the evaluation itself holds no state.

        Returns:
          Scalar by name; the names begin with the evaluation's.

        Raises:
          ValueError: a set and a problem that do not fit.
        """
        ...


class Evaluation(NamedTuple):
    """Measures what a distilled set is worth.

    Attributes:
      name: prefix of its scalars in metrics and tables.
      settings: every keyword that made it, defaults included (JSON-able).
      evaluate: see `EvaluateFn`.
    """

    name: str
    settings: dict[str, Any]
    evaluate: EvaluateFn


def score(values: list[float]) -> Score:
    """Mean and standard deviation (ddof 1) of one scalar over draws.

    Raises:
      ValueError: no values.
    """
    if not values:
        raise ValueError("score needs at least one value, got none")
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Score(float(np.mean(values)), std, len(values))
