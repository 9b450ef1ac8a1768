"""Preprocessed images brought back to what encoders take: RGB pixels in [0, 1]."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ddjax.data import preprocess
from ddjax.data.preprocess import Preprocessing

__all__ = ["pixel_blocks", "to_pixels"]


def to_pixels(
    preprocessing: Preprocessing, images: Float[Any, "n *shape"]
) -> Float[ndarray, "n h w 3"]:
    r"""Images in natural units, clipped to [0, 1], grey ones with three equal channels.

    .. math:: x' = \min(\max(P^{-1}(x), 0), 1)

    On the host, in float32.

    Args:
      preprocessing: that the images lie behind.
      images: preprocessed, one channel or three.

    Raises:
      ValueError: inputs that are no images of one channel or three.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            f"inputs of shape {shape[1:]} are no images (height, width, 1 or 3)"
        )
    natural = preprocess.invert(preprocessing, np.asarray(images))
    pixels = np.clip(np.asarray(natural), 0.0, 1.0).astype(np.float32)
    return np.repeat(pixels, 3, axis=-1) if shape[-1] == 1 else pixels


def pixel_blocks(
    preprocessing: Preprocessing, inputs: Any, *, rows: int = 1024
) -> Iterator[Float[ndarray, "b h w 3"]]:
    """`to_pixels` of inputs in an array or in files, some rows at a time."""
    for start in range(0, len(inputs), rows):
        yield to_pixels(preprocessing, inputs[start : start + rows])
