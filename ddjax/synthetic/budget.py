"""How much a distilled set stores, in numbers and in images of the data's size."""

import math

import jax
import numpy as np

from ddjax.synthetic.distilled import DistilledSet

__all__ = ["floats", "images_equivalent"]


def floats(distilled: DistilledSet, *, targets: bool = False) -> int:
    """Exact count of the stored numbers.

    Args:
      distilled: the set.
      targets: whether those that targets are made of count as well (soft labels are
        not free). Budgets in the literature count inputs only.
    """
    left_out = () if targets else distilled.decoder.targets
    counted = {k: v for k, v in distilled.stored.items() if k not in left_out}
    return sum(math.prod(np.shape(array)) for array in jax.tree.leaves(counted))


def images_equivalent(distilled: DistilledSet) -> float:
    """Stored numbers in units of one input: `floats / prod(input shape)`.

    A set that stores its pixels has as many images as samples; a decoder that makes
    more samples than it stores has fewer. Divided by the number of classes it is the
    "images per class" whose budget the set keeps.
    """
    pairs = jax.eval_shape(distilled.decoder.decode, distilled.stored)
    return floats(distilled) / math.prod(pairs.inputs.shape[1:])
