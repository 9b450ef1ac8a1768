"""Selection baselines: real samples, or k-means centres, taken as they are.

Nothing is learned: a step changes nothing. They are what a distilled set of the same
size has to beat.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Int, PRNGKeyArray

from ddjax import checks
from ddjax.data.problem import Problem
from ddjax.methods import learned_set
from ddjax.methods.base import Method, without_steps
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic import decoders
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.initialization import INITIALIZATIONS, select

__all__ = ["TARGETS", "ChosenSamples", "selection"]

TARGETS = {
    "scores": class_targets.centred_one_hot,
    "probabilities": class_targets.one_hot,
    "margin": class_targets.signs,
}
"""Kind of targets -> `(labels, classes) -> targets`."""


class ChosenSamples(NamedTuple):
    """The samples that were chosen, as the decoder stores them."""

    stored: Stored
    labels: Int[Array, " m"]


def selection(
    *,
    per_class: int = 1,
    how: str = "balanced",
    targets: str = "scores",
    decoder: str | Mapping[str, Any] | Decoder = "pixels",
) -> Method:
    """Builds a selection baseline as a `Method`.

    Args:
      per_class: samples a class (IPC).
      how: see `ddjax.synthetic.initialization.select`.
      targets: what their targets are: `scores` (one-hot - 1/c), `probabilities`
        (one-hot) or `margin` (-1 and +1, two classes).
      decoder: see `ddjax.synthetic.decoders.from_setting`.

    Raises:
      ValueError: an unknown name; when a run starts, `margin` for other than two
        classes.
    """
    given = dict(locals())
    checks.check_names(how=(how, INITIALIZATIONS), targets=(targets, TARGETS))
    made = decoders.from_setting(decoder)

    def prepare(key: PRNGKeyArray, problem: Problem, cache: Cache = no_cache) -> Fitted:
        del key
        learned_set.class_labels(problem.train)
        if targets == "margin" and problem.classes != 2:
            raise ValueError(
                f"targets='margin' is for two classes, problem {problem.name!r} has "
                f"{problem.classes}; choose 'scores' or 'probabilities'"
            )
        return learned_set.fit_decoder(made, problem, cache)

    def init(key: PRNGKeyArray, problem: Problem, data: Fitted) -> ChosenSamples:
        pairs_per_class = per_class * made.parts
        inputs, labels = select(key, problem, per_class=pairs_per_class, how=how)
        pairs = Pairs(inputs, TARGETS[targets](labels, problem.classes))
        return ChosenSamples(made.init(pairs, data), labels)

    def distilled(
        key: PRNGKeyArray, state: ChosenSamples, problem: Problem, data: Fitted
    ) -> DistilledSet:
        del key, data
        return distilled_set(
            state.stored,
            made,
            problem,
            recipe={"targets_kind": targets},
            labels=state.labels,
        )

    return without_steps(
        "selection",
        given | {"decoder": made},
        prepare=prepare,
        init=init,
        distilled=distilled,
    )
