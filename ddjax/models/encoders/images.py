"""Images for an encoder, read by row: from an array, from files, or from blocks."""

import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ddjax.models.encoders.base import EncoderError

__all__ = ["ImageRows", "fingerprint_of", "image_rows"]


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
        return ImageRows(_of_an_array(inputs), len(inputs), shape, dtype)
    if count is None or count < 1:
        raise EncoderError(f"blocks of images need their number: count={count}")
    blocks = iter(inputs)
    first = next(blocks, None)
    if first is None:
        raise EncoderError(f"no blocks of images, but count={count}")
    first = _check_images(np.asarray(first), 0)
    read = _of_blocks(itertools.chain([first], blocks), count)
    return ImageRows(read, count, first.shape[1:], str(first.dtype))


def _of_an_array(inputs: Any) -> Callable[[range], ndarray]:
    def read(rows: range) -> ndarray:
        return _check_images(np.asarray(inputs[rows.start : rows.stop]), rows.start)

    return read


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


def _check_images(images: ndarray, row: int) -> ndarray:
    if images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise EncoderError(
            f"images have shape {images.shape}; an encoder takes RGB images "
            "(n, h, w, 3)"
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise EncoderError(
            f"images have dtype {images.dtype}; expected uint8 or floats in [0, 1]"
        )
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


def fingerprint_of(inputs: Any) -> str:
    """The sha256 (hex) of an array of images, read in blocks.

    Raises:
      EncoderError: blocks of images, which can be read once only.
    """
    if not hasattr(inputs, "shape"):
        raise EncoderError("blocks of images need a fingerprint: they are read once")
    digest = hashlib.sha256(f"{inputs.dtype} {inputs.shape}".encode())
    for start in range(0, len(inputs), 256):
        digest.update(np.asarray(inputs[start : start + 256], order="C").data)
    return digest.hexdigest()
