"""The noun `Evaluation`: what a distilled set is worth."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["Evaluation", "Score", "score"]


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


class Evaluation(NamedTuple):
    """Measures a distilled set on one split of the real data.

    Attributes:
      name: prefix of its scalars in metrics and tables.
      evaluate: `(key, distilled, problem, split) -> name -> Score`, split being
        `validation` or `test`.
    """

    name: str
    evaluate: Callable[[PRNGKeyArray, DistilledSet, Problem, str], dict[str, Score]]


def score(values: list[float]) -> Score:
    """Mean and standard deviation (ddof 1) of one scalar over draws.

    Raises:
      ValueError: no values.
    """
    import numpy as np

    if not values:
        raise ValueError("score needs at least one value, got none")
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Score(float(np.mean(values)), std, len(values))
