"""The noun `Method`: a distillation method as pure functions, with an identity."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from ddjax.data.problem import Problem
from ddjax.storage.cache import Cache
from ddjax.synthetic.json_text import plain

__all__ = [
    "DistilledFn",
    "InitFn",
    "Method",
    "PrepareFn",
    "Progress",
    "SampleFn",
    "StepFn",
    "keys_of_step",
    "whole_data",
    "without_steps",
]


class Progress(NamedTuple):
    """Where in a run a step stands; schedules are functions of `step / steps`.

    Attributes:
      step: how many steps have been done before this one.
      steps: the length of the run, >= 1. An argument of the compiled step, hence a run
        that is lengthened is the same program.
    """

    step: Int[Array, ""]
    steps: Int[Array, ""]


@runtime_checkable
class PrepareFn(Protocol):
    """Slot `prepare` of a `Method`."""

    def __call__(self, key: PRNGKeyArray, problem: Problem, cache: Cache) -> Any:
        """Everything that steps may look at, made once a run.

        Args:
          key: of the random networks and the like.
          problem: the real data.
          cache: for what is expensive, by a name and all that it depends on.

        Returns:
          A pytree of arrays, whose `ddjax.data.feed.Batches` the loop replaces in every
          step by a `Split` of the rows that are drawn. Deterministic, not checkpointed:
          a resumed run calls it again.

        Raises:
          ValueError: a problem that the method cannot distil.
        """
        ...


@runtime_checkable
class InitFn(Protocol):
    """Slot `init` of a `Method`."""

    def __call__(self, key: PRNGKeyArray, problem: Problem, data: Any) -> Any:
        """The state to be optimised, a pytree of arrays. Cheap.

        Args:
          key: of what the samples start from.
          problem: the real data.
          data: what `prepare` returned.
        """
        ...


@runtime_checkable
class SampleFn(Protocol):
    """Slot `sample` of a `Method`."""

    def __call__(self, key: PRNGKeyArray, data: Any) -> Any:
        """What one step looks at; part of the compiled step.

        Args:
          key: of the step's draws, beside those of rows, which the loop has done.
          data: what `prepare` returned, with the rows of this step in place of
            `Batches`.
        """
        ...


@runtime_checkable
class StepFn(Protocol):
    """Slot `step` of a `Method`."""

    def __call__(
        self, state: Any, batch: Any, key: PRNGKeyArray, progress: Progress
    ) -> tuple[Any, dict[str, Array]]:
        """One update; compiled once a run, without host callbacks.

        Args:
          state: from `init` or the step before.
          batch: from `sample`.
          key: of the step's own draws.
          progress: where in the run this is.

        Returns:
          The next state, and scalars by name, `loss` among them.
        """
        ...


@runtime_checkable
class DistilledFn(Protocol):
    """Slot `distilled` of a `Method`."""

    def __call__(
        self, key: PRNGKeyArray, state: Any, problem: Problem, data: Any
    ) -> Any:
        """The distilled set of a state, its provenance left to the loop.

        Of a method that trains a network in place of a set (a teacher), a
        `ddjax.models.trained.TrainedNetwork`.

        Args:
          key: the one that `prepare` was given.
          state: any state of the run.
          problem: the real data.
          data: what `prepare` returned.
        """
        ...


class Method(NamedTuple):
    """A distillation method, in the manner of `optax.GradientTransformation`.

    Attributes:
      name: the registered name.
      settings: every keyword that made it, defaults included (JSON-able): two methods
        of equal name and settings are the same.
      prepare: see `PrepareFn`.
      init: see `InitFn`.
      sample: see `SampleFn`; `whole_data` where there is nothing to draw.
      step: see `StepFn`.
      distilled: see `DistilledFn`.
      follows_length: whether steps depend on the run's length (a decaying rate, say),
        so that lengthening a finished run is not the same as a longer run.
    """

    name: str
    settings: dict[str, Any]
    prepare: PrepareFn
    init: InitFn
    sample: SampleFn
    step: StepFn
    distilled: DistilledFn
    follows_length: bool = False


def whole_data(key: PRNGKeyArray, data: Any) -> Any:
    """A `SampleFn` that hands on what it is given."""
    del key
    return data


def without_steps(
    name: str,
    settings: Mapping[str, Any],
    *,
    prepare: PrepareFn,
    init: InitFn,
    distilled: DistilledFn,
    metrics: Callable[[Any], dict[str, Array]] = lambda state: {"loss": jnp.zeros(())},
) -> Method:
    """A method whose first state is the result: a step changes nothing.

    Args:
      name: see `Method`, as all that follows but the last.
      settings: what made it.
      prepare: the slot.
      init: the slot.
      distilled: the slot.
      metrics: what a step says of the state.
    """

    def step(state: Any, batch: Any, key: PRNGKeyArray, progress: Progress):
        del batch, key, progress
        return state, metrics(state)

    made = plain(settings, "settings")
    return Method(name, made, prepare, init, whole_data, step, distilled)


def keys_of_step(key: PRNGKeyArray, step: Array) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of `sample` and `step` at a step of a run, from the run's step key."""
    sample_key, step_key = jax.random.split(jax.random.fold_in(key, step))
    return sample_key, step_key
