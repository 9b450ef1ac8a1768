"""How much a distilled set stores, in numbers and in images of the data's size."""

import math

import jax
import numpy as np

from ddjax.synthetic.distilled import DistilledSet

__all__ = ["floats", "images_equivalent", "target_floats"]


def floats(distilled: DistilledSet) -> int:
    """Exact count of the stored numbers that inputs are decoded from.

    Targets are not among them: budgets in the literature count inputs only. See
    `target_floats`.
    """
    return sum(math.prod(np.shape(array)) for array in distilled.stored.values())


def target_floats(distilled: DistilledSet) -> int:
    """Exact count of the numbers in the targets (soft labels are not free)."""
    return math.prod(np.shape(distilled.targets))


def images_equivalent(distilled: DistilledSet) -> float:
    """Stored numbers in units of one input: `floats / prod(input shape)`.

    A set that stores its pixels has as many images as samples; a parameterisation that
    decodes more samples than it stores has fewer. Divided by the number of classes it
    is the "images per class" whose budget the set keeps.
    """
    decode = distilled.parameterization.decode
    shape = jax.eval_shape(decode, distilled.stored).shape
    return floats(distilled) / math.prod(shape[1:])
