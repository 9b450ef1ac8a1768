"""The noun `Method`: a distillation method as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, PRNGKeyArray
from numpy import ndarray

from ddjax.data.problem import Problem, Split
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["Arrays", "HostRows", "Method", "Remember", "remember_nothing"]


Arrays = dict[str, Array | ndarray]
"""Named results, on device or host."""


@runtime_checkable
class Remember(Protocol):
    """Stores an expensive result under a name and gives it back the next time.

    The runtime passes one that keeps results on disk, so that a resumed run does not
    pay for them again (and works with the very same numbers).
    """

    def __call__(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Returns the stored arrays of `name`, computing them when there are none.

        It may decline to store what is too large for it.
        """
        ...


def remember_nothing(name: str, compute: Callable[[], Arrays]) -> Arrays:
    """A `Remember` that always computes."""
    del name
    return compute()


class HostRows(NamedTuple):
    """Real data that stay on the host, because they do not fit on the device.

    A method's `data` may be one or hold one. The loop then gathers the rows of each
    step on the host, in an order that is a function of the seed and the step
    (`ddjax.data.batches`), and `sample` finds a `Split` of `batch_size` rows on the
    device in its place.

    Attributes:
      split: host arrays.
      batch_size: rows a step.
    """

    split: Split
    batch_size: int


class Method(NamedTuple):
    """A distillation method, in the manner of `optax.GradientTransformation`.

    Attributes:
      prepare: `(key, problem, remember) -> data`, once a run: everything a step may
        look at (real data on device, random networks, a reference solution), a pytree
        of arrays. Deterministic, not checkpointed: a resumed run calls it again.
      init: `(key, problem, data) -> state`: the state to be optimised. Cheap.
      sample: `(key, data) -> batch`: what one step looks at; runs inside the compiled
        chunk.
      step: `(state, batch, key) -> (state, metrics)`: compiled once a run; metrics are
        scalars by name and hold `loss`. No host callbacks.
      distilled: `(state, problem, data) -> DistilledSet`, provenance left to the
        caller to complete.
    """

    prepare: Callable[[PRNGKeyArray, Problem, Remember], Any]
    init: Callable[[PRNGKeyArray, Problem, Any], Any]
    sample: Callable[[PRNGKeyArray, Any], Any]
    step: Callable[[Any, Any, PRNGKeyArray], tuple[Any, dict[str, Array]]]
    distilled: Callable[[Any, Problem, Any], DistilledSet]
