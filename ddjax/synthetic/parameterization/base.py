"""The noun `Parameterization`: how stored numbers become inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

__all__ = ["Parameterization", "pixels"]

Stored = dict[str, Array]


class Parameterization(NamedTuple):
    """How stored numbers become inputs; orthogonal to the method.

    Attributes:
      name: registered name, so that a file can rebuild it.
      settings: JSON-able keyword arguments that rebuild it through `make`.
      init: `(inputs, real) -> stored`: numbers, name -> array, that stand for
        preprocessed inputs `(m, *shape)` as nearly as they can. `real` holds the real
        training inputs, for those parameterisations that are fitted to them (None,
        the default, will do for the others).
      decode: stored numbers -> preprocessed inputs `(m, *shape)`; differentiable.
      start: `(key, (m, *shape), real) -> stored`: a random start of its own, or None.
      advance: `(stored, step) -> (stored, restarted)`, done after each update, `step`
        being how many there have been: what changes along a run (a finer resolution,
        say). Where `restarted`, the optimiser of the stored numbers begins anew. None:
        nothing changes.
      constants: names of stored arrays that are never learned: what was fitted to the
        real data, and what counts the stages of a run.
    """

    name: str
    settings: dict[str, Any]
    init: Callable[..., Stored]
    decode: Callable[[Stored], Float[Array, "m *shape"]]
    start: Callable[[PRNGKeyArray, tuple[int, ...], Any], Stored] | None = None
    advance: (
        Callable[[Stored, Int[Array, ""]], tuple[Stored, Bool[Array, ""]]] | None
    ) = None
    constants: tuple[str, ...] = ()


def pixels() -> Parameterization:
    """The identity: every stored number is an input coordinate."""
    return Parameterization(
        name="pixels",
        settings={},
        init=lambda inputs, real=None: {"inputs": inputs},
        decode=lambda stored: stored["inputs"],
    )
