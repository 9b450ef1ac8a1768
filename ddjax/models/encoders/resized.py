"""Encoders that enlarge or shrink images before they look at them."""

from typing import Any

import jax
from jaxtyping import Array, Float

from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.images import as_pixels

__all__ = ["resized"]


def resized(encoder: Encoder, size: int | None) -> Encoder:
    """An encoder of images of any size, which are brought to one first.

    Bilinear, pixel centres at half-integers, with antialiasing where images shrink.

    Args:
      encoder: what sees the resized images.
      size: height and width in pixels; None leaves images as they are.

    Raises:
      ValueError: a size below 1.
    """
    if size is None:
        return encoder
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")

    def apply(params: dict[str, Array], images: Any) -> Float[Array, "b p"]:
        images = as_pixels(images)
        shape = (images.shape[0], size, size, images.shape[-1])
        return encoder.apply(params, jax.image.resize(images, shape, "linear"))

    return encoder._replace(apply=apply, source={**encoder.source, "resized_to": size})
