"""The noun `Parameterization`: how stored numbers become inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

__all__ = ["PARAMETERIZATIONS", "Parameterization", "make", "pixels"]


class Parameterization(NamedTuple):
    """How stored numbers become inputs; orthogonal to the method.

    Attributes:
      name: registered name, so that a file can rebuild it.
      settings: JSON-able keyword arguments that rebuild it through `make`.
      init: preprocessed inputs `(m, *shape)` -> stored numbers, name -> array.
      decode: stored numbers -> preprocessed inputs `(m, *shape)`; differentiable.
    """

    name: str
    settings: dict[str, Any]
    init: Callable[[Float[Array, "m *shape"]], dict[str, Array]]
    decode: Callable[[dict[str, Array]], Float[Array, "m *shape"]]


def pixels() -> Parameterization:
    """The identity: every stored number is an input coordinate."""
    return Parameterization(
        name="pixels",
        settings={},
        init=lambda inputs: {"inputs": inputs},
        decode=lambda stored: stored["inputs"],
    )


PARAMETERIZATIONS = {"pixels": pixels}


def make(name: str, **settings: Any) -> Parameterization:
    """Builds a parameterisation by name.

    Raises:
      ValueError: unknown name, with the known ones.
    """
    if name not in PARAMETERIZATIONS:
        known = ", ".join(sorted(PARAMETERIZATIONS))
        raise ValueError(f"unknown parameterization {name!r}; known: {known}")
    return PARAMETERIZATIONS[name](**settings)
