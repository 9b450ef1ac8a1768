"""Images for an encoder, read by row: from an array, from files, or from blocks."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.models.encoders.base import EncoderError

__all__ = ["ImageRows", "as_pixels", "image_rows"]

# Distilled images may leave [0, 1] a little; bytes, and images normalised by the mean
# and standard deviation of a data set, leave it by more.
_EXCESS = 0.5


class ImageRows(NamedTuple):
    """Images by row.

    Attributes:
      read: a range of rows -> images `(b, h, w, 3)`, uint8 or floats in [0, 1].
      count: number of images.
      shape: of one image.
      dtype: of the images as they were given.
    """

    read: Callable[[range], ndarray]
    count: int
    shape: tuple[int, ...]
    dtype: str


def image_rows(inputs: Any, count: int | None = None) -> ImageRows:
    """The images of an array, or of blocks that are read once.

    Args:
      inputs: RGB images `(n, h, w, 3)`, `uint8` or floats in [0, 1]: whatever has a
        `shape` and can be indexed; or an iterable of such blocks of any length, whose
        rows can be asked for in ascending order only.
      count: number of images, for an iterable only.

    Raises:
      EncoderError: images that an encoder cannot take (when they are read), or a count
        that does not fit.
    """
    if hasattr(inputs, "shape"):
        if count is not None and count != len(inputs):
            raise EncoderError(f"count={count} for an array of {len(inputs)} images")
        _check_images(np.asarray(inputs[:1]), 0)
        shape, dtype = tuple(inputs.shape[1:]), str(inputs.dtype)

        def read(rows: range) -> ndarray:
            chosen = np.asarray(inputs[rows.start : rows.stop])
            return _check_images(chosen, rows.start)

        return ImageRows(read, len(inputs), shape, dtype)
    if count is None or count < 1:
        raise EncoderError(f"blocks of images need their number: count={count}")
    blocks = iter(inputs)
    first = next(blocks, None)
    if first is None:
        raise EncoderError(f"no blocks of images, but count={count}")
    first = _check_images(np.asarray(first), 0)
    rest = _of_blocks(itertools.chain([first], blocks), count)
    return ImageRows(rest, count, first.shape[1:], str(first.dtype))


def _of_blocks(blocks: Iterable[Any], count: int) -> Callable[[range], ndarray]:
    """Reads increasing ranges of rows from blocks of any length."""
    source = iter(blocks)
    held: list[ndarray] = []
    at = 0

    def read(rows: range) -> ndarray:
        nonlocal at
        while at + sum(map(len, held)) < rows.stop:
            block = next(source, None)
            if block is None:
                found = at + sum(map(len, held))
                raise EncoderError(f"the blocks hold {found} images, but count={count}")
            held.append(np.asarray(block))
            while held and at + len(held[0]) <= rows.start:
                at += len(held.pop(0))
        if rows.stop == count:
            excess = sum(map(len, held)) + at - count
            if excess or next(source, None) is not None:
                raise EncoderError(f"the blocks hold more images than count={count}")
        joined = np.concatenate(held) if len(held) > 1 else held[0]
        return _check_images(joined[rows.start - at : rows.stop - at], rows.start)

    return read


def as_pixels(images: Any) -> Float[Array, "b h w 3"]:
    """Images as an encoder's mathematics wants them: RGB in [0, 1], floats.

    Works on traced images, of which shape and dtype are checked, and costs nothing in
    the compiled program but the division of bytes. Of others the values are looked at
    as well.

    Args:
      images: `(b, h, w, 3)`; floats in [0, 1], or uint8, which are divided by 255.

    Raises:
      EncoderError: images of another shape or dtype, with values far from [0, 1], or
        not finite.
    """
    if not hasattr(images, "shape"):
        images = np.asarray(images)
    _check_form(images.shape, np.dtype(images.dtype))
    if images.dtype == np.uint8:
        return jnp.asarray(images).astype(jnp.result_type(float)) / 255.0
    if not isinstance(images, Tracer):
        low, high = float(images.min()), float(images.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise EncoderError("images hold values that are not finite")
        if low < -_EXCESS or high > 1 + _EXCESS:
            raise EncoderError(
                f"images have values from {low:g} to {high:g}; an encoder takes pixels "
                "in [0, 1] and normalises them itself (divide bytes by 255)"
            )
    return jnp.asarray(images)


def _check_form(shape: tuple[int, ...], dtype: np.dtype) -> None:
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        first = len(shape) == 4 and shape[1] == 3
        raise EncoderError(
            f"images have shape {shape}; an encoder takes RGB images (n, h, w, 3)"
            + (", channels last" if first else "")
        )
    if dtype != np.uint8 and not jnp.issubdtype(dtype, jnp.floating):
        raise EncoderError(
            f"images have dtype {dtype}; expected uint8 or floats in [0, 1]"
        )


def _check_images(images: ndarray, row: int) -> ndarray:
    _check_form(images.shape, images.dtype)
    if images.dtype.kind == "f":
        wrong = ~((images >= -1e-3) & (images <= 1 + 1e-3)).all(axis=(1, 2, 3))
        if wrong.any():
            at = int(np.argmax(wrong))
            raise EncoderError(
                f"image {row + at} has values from {images[at].min():g} to "
                f"{images[at].max():g}; an encoder takes pixels in [0, 1] (load the "
                "data with preprocessing='none')"
            )
    return images
