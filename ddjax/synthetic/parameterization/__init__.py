"""How stored numbers become inputs: pixels, decorrelated colours, a pyramid."""

from collections.abc import Callable
from typing import Any

from ddjax.synthetic.parameterization.base import Parameterization, pixels
from ddjax.synthetic.parameterization.colour import (
    BOUNDS,
    COLOURS,
    decorrelated_colour,
)
from ddjax.synthetic.parameterization.pyramid import pyramid

__all__ = [
    "BOUNDS",
    "COLOURS",
    "PARAMETERIZATIONS",
    "Parameterization",
    "decorrelated_colour",
    "make",
    "pixels",
    "pyramid",
]

PARAMETERIZATIONS: dict[str, Callable[..., Parameterization]] = {
    "decorrelated_colour": decorrelated_colour,
    "pixels": pixels,
    "pyramid": pyramid,
}
"""Every parameterisation by name, as a factory of keyword-only settings."""


def make(name: str, **settings: Any) -> Parameterization:
    """Builds a parameterisation by name.

    Raises:
      ValueError: unknown name, with the known ones.
    """
    if name not in PARAMETERIZATIONS:
        known = ", ".join(sorted(PARAMETERIZATIONS))
        raise ValueError(f"unknown parameterization {name!r}; known: {known}")
    return PARAMETERIZATIONS[name](**settings)
