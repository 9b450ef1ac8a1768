"""Selection baselines: real samples, or k-means centres, taken as they are.

Nothing is learned: a step changes nothing. They are what a distilled set of the same
size has to beat.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.methods.base import Method, Remember, remember_nothing
from ddjax.methods.optimization import decoder_for
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import select

__all__ = ["Chosen", "selection"]

_TARGETS = {
    "scores": class_targets.centred_one_hot,
    "probabilities": class_targets.one_hot,
    "margin": class_targets.signs,
}


class Chosen(NamedTuple):
    """The samples that were chosen."""

    stored: dict[str, Array]
    labels: Int[Array, " m"]


def selection(
    *,
    per_class: int = 1,
    how: str = "real",
    targets: str = "scores",
    parameterization: str | Mapping[str, Any] = "pixels",
) -> Method:
    """Builds a selection baseline as a `Method`.

    Args:
      per_class: samples a class (IPC).
      how: see `ddjax.synthetic.initialization.select`.
      targets: what their targets are: `scores` (one-hot - 1/c), `probabilities`
        (one-hot) or `margin` (-1 and +1, two classes).
      parameterization: a registered name, or a mapping with `name` and its settings.

    Raises:
      ValueError: unknown targets or parameterisation.
    """
    if targets not in _TARGETS:
        raise ValueError(f"targets must be one of {tuple(_TARGETS)}, got {targets!r}")
    decoder = decoder_for(parameterization)

    def prepare(
        key: PRNGKeyArray, problem: Problem, remember: Remember = remember_nothing
    ) -> dict[str, Array]:
        del key, problem, remember
        return {}

    def init(key: PRNGKeyArray, problem: Problem, data: Any) -> Chosen:
        del data
        inputs, labels = select(key, problem, per_class=per_class, how=how)
        return Chosen(decoder.init(inputs, problem.train.inputs), labels)

    def step(state: Chosen, batch: Any, key: PRNGKeyArray):
        del batch, key
        return state, {"loss": jnp.zeros(())}

    def distilled(state: Chosen, problem: Problem, data: Any) -> DistilledSet:
        del data
        return DistilledSet(
            stored=dict(state.stored),
            parameterization=decoder,
            targets=_TARGETS[targets](state.labels, problem.classes),
            targets_kind=targets,
            labels=state.labels,
            preprocessing=problem.preprocessing,
            class_names=problem.class_names,
            provenance={},
        )

    return Method(prepare, init, lambda key, data: data, step, distilled)
