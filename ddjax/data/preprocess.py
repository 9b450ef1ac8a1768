"""Invertible preprocessing: natural units to what learners see, and back."""

from typing import NamedTuple

from jaxtyping import Array, Float
from numpy import ndarray

__all__ = ["Preprocessing", "apply", "fit", "invert"]


class Preprocessing(NamedTuple):
    """`apply(x) = ((x - mean) / std) @ whiten` over flattened inputs, per the kind.

    Attributes:
      kind: `none`, `standardize` or `zca`.
      mean: broadcastable to one input.
      std: broadcastable to one input, > 0.
      whiten: `(d, d)` symmetric ZCA matrix, or None.
      unwhiten: its inverse, or None.
    """

    kind: str
    mean: Float[Array | ndarray, "..."]
    std: Float[Array | ndarray, "..."]
    whiten: Float[Array | ndarray, "d d"] | None = None
    unwhiten: Float[Array | ndarray, "d d"] | None = None
