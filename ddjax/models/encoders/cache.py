"""Features of real images on disk: computed once, checked whenever they are opened.

A frozen encoder sees the same real images in every run; its features are far smaller
than what it takes to compute them. They are kept as `ddjax.storage.shards` has it:

    DIRECTORY/KEY/features.npy     (rows, p), float32; float64 of encoders in float64
    DIRECTORY/KEY/manifest.json    what they are features of; a sha256 for each shard

KEY is a digest of everything that determines the features but the code: the encoder's
name, weights and options, and the images' fingerprint, size and type. What changes any
of those makes another folder; nothing stale can be found.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax.models.encoders.base import Encoder, EncoderError
from ddjax.models.encoders.images import ImageRows, image_rows
from ddjax.models.encoders.layers import at_least_single
from ddjax.storage.checksum import checksum
from ddjax.storage.shards import filling, progress_bar, sharded_rows

__all__ = ["cached_features"]

_FORMAT = {"format": "ddjax.features", "version": 1}
# What an encoder's source says that does not change its features: the weights are
# known by their own checksum.
_DESCRIPTIVE = ("file", "licence", "original", "repository", "sha256")


def cached_features(
    encoder: Encoder,
    inputs: Any,
    *,
    directory: str | os.PathLike[str],
    fingerprint: str,
    count: int | None = None,
    block: int = 64,
    shard_rows: int = 1024,
    verbose: bool = True,
) -> Float[ndarray, "n p"]:
    """Features of images from the disk; what is not there yet is computed and stored.

    A build that is killed goes on, the next time, after its last finished shard. A
    shard whose bytes are not those that were written, that is cut off or that holds
    NaN, is computed again, with a warning. While another process builds the same cache,
    this one waits for it, with a warning that says for whom.

    Args:
      encoder: the frozen encoder.
      inputs: RGB images `(n, h, w, 3)`, an array or memory map, `uint8` or floats in
        [0, 1]; or an iterable of such blocks of any length, read once from its start.
      directory: where caches are kept; one folder each is made in it.
      fingerprint: what identifies the images, for instance a problem's fingerprint and
        the name of the split.
      count: number of images, for an iterable only.
      block: images through the encoder at once.
      shard_rows: rows of a shard: what a killed build can lose.
      verbose: show the size, images a second and the time that is left, on stderr.

    Returns:
      The features `(n, p)`, memory-mapped and read-only.

    Raises:
      EncoderError: images that the encoder cannot take, features that are not finite
        (naming the image), or arguments that do not fit together.
      ddjax.storage.shards.NotEnoughSpace: the features do not fit on the disk.
    """
    if block < 1 or shard_rows < 1:
        raise EncoderError(
            f"block={block}, shard_rows={shard_rows}; both are at least 1"
        )
    images = image_rows(inputs, count)
    dtype = at_least_single(next(iter(encoder.params.values())).dtype)
    rows = sharded_rows(
        directory,
        _key(encoder, images, fingerprint, dtype),
        shape=(images.count, encoder.width),
        dtype=dtype.name,
        shard_rows=shard_rows,
        file="features.npy",
    )
    encode = _encode_function(encoder, dtype)
    with (
        filling(rows) as pending,
        progress_bar(
            rows,
            pending,
            what=f"features of {encoder.name}",
            unit="images",
            verbose=verbose,
        ) as bar,
    ):
        for shard in pending:
            places = rows.rows(shard)
            features = np.empty((len(places), encoder.width), dtype)
            for start in range(places.start, places.stop, block):
                part = range(start, min(start + block, places.stop))
                found = encode(encoder.params, images.read(part), part, block)
                features[start - places.start : part.stop - places.start] = found
                bar.update(len(part))
            rows.write(shard, features)
    return rows.open()


def _key(
    encoder: Encoder,
    images: ImageRows,
    fingerprint: str,
    dtype: np.dtype,
) -> dict[str, Any]:
    source = {
        name: value
        for name, value in encoder.source.items()
        if name not in _DESCRIPTIVE
    }
    key = {
        **_FORMAT,
        "encoder": {
            "name": encoder.name,
            "source": source,
            "weights": checksum(encoder.params),
        },
        "images": {
            "fingerprint": fingerprint,
            "count": images.count,
            "shape": list(images.shape),
            "dtype": images.dtype,
        },
        # Features could once be of augmented images; those keep their keys, too.
        "augmentation": None,
    }
    # Features were once float32 whatever the encoder; those keep their key.
    return key if dtype == np.float32 else {**key, "dtype": dtype.name}


def _encode_function(
    encoder: Encoder, dtype: np.dtype
) -> Callable[[Any, ndarray, range, int], ndarray]:
    """Compiled once: the last block is filled up with its last image."""

    # The weights are an argument: as constants they would be compiled in.
    @jax.jit
    def compiled(params: Any, images: Array) -> Array:
        if images.dtype == jnp.uint8:
            images = images.astype(dtype) / jnp.asarray(255, dtype)
        return encoder.apply(params, images)

    def encode(params: Any, images: ndarray, rows: range, block: int) -> ndarray:
        if images.dtype != np.uint8:
            images = images.astype(dtype, copy=False)
        missing = block - len(images)
        if missing:
            filler = np.broadcast_to(images[-1:], (missing, *images.shape[1:]))
            images = np.concatenate([images, filler])
        found = np.asarray(compiled(params, images), dtype)[: len(rows)]
        finite = np.isfinite(found).all(axis=1)
        if not finite.all():
            raise EncoderError(
                f"the features of image {rows.start + int(np.argmin(finite))} under "
                f"{encoder.name!r} are not finite"
            )
        return found

    return encode
