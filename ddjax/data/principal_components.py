"""Principal components of real data, in one pass over blocks."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import eigh

from ddjax.data.preprocess import Moments, merge_moments

__all__ = ["PrincipalComponents", "principal_components"]


class PrincipalComponents(NamedTuple):
    """An orthonormal basis of the directions in which data vary most.

    Attributes:
      mean: `(d,)` float64.
      components: `(k, d)` float64, orthonormal rows, the largest variance first; of
        each the entry of largest modulus is positive.
    """

    mean: Float[ndarray, " d"]
    components: Float[ndarray, "k d"]


def principal_components(blocks: Iterable[Any], count: int) -> PrincipalComponents:
    r"""The leading eigenvectors of the covariance of rows that come in blocks.

    .. math::
        \tfrac{1}{n-1} \sum_i (x_i - \bar x)(x_i - \bar x)^\top = V \,
        \mathrm{diag}(\sigma_1^2 \ge \sigma_2^2 \ge \dots) V^\top

    In float64 on the host. No more than one block and two matrices `(d, d)` are held,
    however many rows there are.

    Args:
      blocks: arrays `(b, *shape)` of any lengths; rows are flattened to `(d,)`.
      count: number k of components, at least 1 and at most min(n - 1, d).

    Raises:
      ValueError: a `count` out of range, with the largest that is allowed.
    """
    moments: Moments | None = None
    for block in blocks:
        if len(block):
            moments = merge_moments(moments, np.asarray(block), full=True)
    rows = 0 if moments is None else moments.count
    width = 0 if moments is None else len(moments.mean)
    if moments is None or not 1 <= count <= min(rows - 1, width):
        raise ValueError(
            f"{count} principal components of {rows} rows of {width} numbers; there "
            f"are at most {max(0, min(rows - 1, width))}, and at least 1 is needed"
        )
    covariance = moments.scatter / (moments.count - 1)
    _, vectors = eigh(covariance, subset_by_index=[width - count, width - 1])
    components = vectors.T[::-1]
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(count), largest])
    return PrincipalComponents(
        moments.mean, np.ascontiguousarray(components * signs[:, None])
    )
