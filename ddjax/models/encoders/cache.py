"""Features of real images on disk: computed once, checked whenever they are opened.

A frozen encoder sees the same real images in every run; its features are far smaller
than what it takes to compute them. They are kept in one `.npy` file, in shards of
consecutive rows, each with its own checksum:

    DIRECTORY/KEY/features.npy     float32 (rows, p)
    DIRECTORY/KEY/manifest.json    what they are features of; a sha256 for each shard

KEY is a digest of everything that determines the features but the code: the encoder's
name, weights and options, the images' fingerprint, size and type, and the augmentation.
What changes any of those makes another folder; nothing stale can be found.
"""

import hashlib
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy import ndarray

from ddjax.models.encoders.base import Encoder, EncoderError
from ddjax.storage import atomic
from ddjax.storage.checksum import checksum
from ddjax.storage.lock import exclusive

__all__ = ["Augmentation", "cached_features"]

_FORMAT = {"format": "ddjax.features", "version": 1}
# What an encoder's source says that does not change its features: the weights are
# known by their own checksum.
_DESCRIPTIVE = ("file", "licence", "original", "repository", "sha256")
_ROWS, _MANIFEST = "features.npy", "manifest.json"
_PLAIN_INTERVAL, _MOVING_INTERVAL = 15.0, 0.2


class Augmentation(NamedTuple):
    """Random views of every image instead of the image itself.

    Attributes:
      apply: `(key, images (b, h, w, 3)) -> images`, the sizes may differ.
      recipe: name and settings of `apply` (JSON-able): the cache knows it by these.
      views: how many of each image.
      seed: of the draws, >= 0.
    """

    apply: Callable[[PRNGKeyArray, Float[Array, "b h w 3"]], Float[Array, "b i j 3"]]
    recipe: Mapping[str, Any]
    views: int = 1
    seed: int = 0


def cached_features(
    encoder: Encoder,
    inputs: Any,
    *,
    directory: str | os.PathLike[str],
    fingerprint: str | None = None,
    count: int | None = None,
    augmentation: Augmentation | None = None,
    block: int = 64,
    shard_rows: int = 1024,
    verbose: bool = True,
) -> Float[ndarray, "n p"]:
    """Features of images from the disk; what is not there yet is computed and stored.

    A build that is killed goes on, the next time, after its last finished shard. A
    shard whose bytes are not those that were written, that is cut off or that holds
    NaN, is computed again, with a warning. Row r of `views` views of n images is view
    `r // n` of image `r % n`; it depends on the seed, r and its image alone.

    Args:
      encoder: the frozen encoder.
      inputs: RGB images `(n, h, w, 3)`, an array or memory map, `uint8` or floats in
        [0, 1]; or an iterable of such blocks of any length, read once from its start.
      directory: where caches are kept; one folder each is made in it.
      fingerprint: what identifies the images, for instance a problem's fingerprint and
        the name of the split. None: the sha256 of the array.
      count: number of images, for an iterable only.
      augmentation: random views instead of the images; arrays only.
      block: images through the encoder at once.
      shard_rows: rows of a shard: what a killed build can lose.
      verbose: show images a second and the time that is left, on stderr.

    Returns:
      The features `(n * views, p)` float32, memory-mapped and read-only.

    Raises:
      EncoderError: images that the encoder cannot take, features that are not finite
        (naming the image), or arguments that do not fit together.
      ddjax.storage.WorkdirInUse: another process is building the same cache.
    """
    reader = _reader(inputs, count, augmentation)
    if block < 1 or shard_rows < 1:
        raise EncoderError(
            f"block={block}, shard_rows={shard_rows}; both are at least 1"
        )
    key = {
        **_FORMAT,
        "encoder": {
            "name": encoder.name,
            "source": {
                name: value
                for name, value in encoder.source.items()
                if name not in _DESCRIPTIVE
            },
            "weights": checksum(encoder.params),
        },
        "images": {
            "fingerprint": _fingerprint(inputs) if fingerprint is None else fingerprint,
            "count": reader.count,
            "shape": list(reader.shape),
            "dtype": reader.dtype,
        },
        "augmentation": augmentation
        and {**augmentation._asdict(), "apply": None, "recipe": augmentation.recipe},
        "shard_rows": shard_rows,
    }
    name = hashlib.sha256(_dumps(key)).hexdigest()[:32]
    views = augmentation.views if augmentation else 1
    store = _Store(
        Path(directory) / name, key, (reader.count * views, encoder.width), shard_rows
    )
    if not store.pending(warn=False):
        return store.open()
    store.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(store.folder):
        pending = store.pending(warn=True)
        encode = _encode_function(encoder, augmentation)
        with _progress(store, pending, encoder.name, verbose) as bar:
            for shard in pending:
                rows = store.rows(shard)
                features = np.empty((len(rows), encoder.width), np.float32)
                for start in range(rows.start, rows.stop, block):
                    part = range(start, min(start + block, rows.stop))
                    found = encode(encoder.params, reader.read(part), part, block)
                    features[start - rows.start : part.stop - rows.start] = found
                    bar.update(len(part))
                store.write(shard, features)
    return store.open()


class _Reader(NamedTuple):
    """Images by row: a range of rows -> uint8 or float32 images."""

    read: Callable[[range], ndarray]
    count: int
    shape: tuple[int, ...]
    dtype: str


def _reader(inputs: Any, count: int | None, augmentation: Any) -> _Reader:
    if augmentation is not None and (augmentation.views < 1 or augmentation.seed < 0):
        raise EncoderError(
            f"views={augmentation.views}, seed={augmentation.seed}; at least 1 view "
            "and a seed >= 0 are needed"
        )
    if hasattr(inputs, "shape"):
        if count is not None and count != len(inputs):
            raise EncoderError(f"count={count} for an array of {len(inputs)} images")
        number = len(inputs)

        def read(rows: range) -> ndarray:
            # Views follow each other: row r shows image r % n.
            first, last = rows.start % number, (rows.stop - 1) % number
            if last - first == len(rows) - 1:
                return _pixels(inputs[first : last + 1], first)
            return _pixels(inputs[np.asarray(rows) % number], first)

        _check_images(np.asarray(inputs[:1]), 0)
        return _Reader(read, number, tuple(inputs.shape[1:]), str(inputs.dtype))
    if augmentation is not None:
        raise EncoderError("augmented views need the images as an array, not as blocks")
    if count is None or count < 1:
        raise EncoderError(f"blocks of images need their number: count={count}")
    blocks = iter(inputs)
    start = next(blocks, None)
    if start is None:
        raise EncoderError(f"no blocks of images, but count={count}")
    start = _check_images(np.asarray(start), 0)
    following = _sequential(itertools.chain([start], blocks), count)
    return _Reader(following, count, start.shape[1:], str(start.dtype))


def _sequential(blocks: Iterable[Any], count: int) -> Callable[[range], ndarray]:
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
        return _pixels(joined[rows.start - at : rows.stop - at], rows.start)

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


def _pixels(images: Any, row: int) -> ndarray:
    images = _check_images(np.asarray(images), row)
    return images if images.dtype == np.uint8 else images.astype(np.float32, copy=False)


def _fingerprint(inputs: Any) -> str:
    if not hasattr(inputs, "shape"):
        raise EncoderError("blocks of images need a fingerprint: they are read once")
    digest = hashlib.sha256(f"{inputs.dtype} {inputs.shape}".encode())
    for start in range(0, len(inputs), 256):
        digest.update(np.asarray(inputs[start : start + 256], order="C").data)
    return digest.hexdigest()


def _encode_function(
    encoder: Encoder, augmentation: Augmentation | None
) -> Callable[[Any, ndarray, range, int], ndarray]:
    """Compiled once: the last block is filled up with its last image."""

    def seen(images: Array, rows: Array) -> Array:
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / jnp.float32(255)
        if augmentation is None:
            return images
        apply, root = augmentation.apply, jax.random.key(augmentation.seed)
        keys = jax.vmap(lambda row: jax.random.fold_in(root, row))(rows)
        return jax.vmap(lambda key, image: apply(key, image[None])[0])(keys, images)

    # The weights are an argument: as constants they would be compiled in.
    compiled = jax.jit(
        lambda params, images, rows: encoder.apply(params, seen(images, rows))
    )

    def encode(params: Any, images: ndarray, rows: range, block: int) -> ndarray:
        missing = block - len(images)
        if missing:
            filler = np.broadcast_to(images[-1:], (missing, *images.shape[1:]))
            images = np.concatenate([images, filler])
        positions = np.arange(rows.start, rows.start + block, dtype=np.uint32)
        found = np.asarray(compiled(params, images, positions), np.float32)[: len(rows)]
        finite = np.isfinite(found).all(axis=1)
        if not finite.all():
            raise EncoderError(
                f"the features of image {rows.start + int(np.argmin(finite))} under "
                f"{encoder.name!r} are not finite"
            )
        return found

    return encode


class _Store:
    """The files of one cache."""

    def __init__(
        self, folder: Path, key: dict[str, Any], shape: tuple[int, int], shard_rows: int
    ):
        self.folder, self._shape, self._shard_rows = folder, shape, shard_rows
        self._key = json.loads(_dumps(key))
        self._header = _npy_header(shape)
        self._checksums: dict[int, str] = {}

    @property
    def count(self) -> int:
        return self._shape[0]

    def rows(self, shard: int) -> range:
        start = shard * self._shard_rows
        return range(start, min(start + self._shard_rows, self.count))

    def pending(self, *, warn: bool) -> list[int]:
        """Shards that are not on the disk as they were written."""
        shards = range(-(-self.count // self._shard_rows))
        self._checksums = self._read_manifest(warn)
        if not self._checksums:
            return list(shards)
        missing = []
        with open(self.folder / _ROWS, "rb") as file:
            for shard in shards:
                if shard not in self._checksums:
                    missing.append(shard)
                elif not self._is_whole(file, shard):
                    missing.append(shard)
                    del self._checksums[shard]
                    if warn:
                        rows = self.rows(shard)
                        warnings.warn(
                            f"{file.name}: rows {rows.start} to {rows.stop - 1} are "
                            "not what was written; computing them again",
                            stacklevel=3,
                        )
        return missing

    def _read_manifest(self, warn: bool) -> dict[int, str]:
        """Checksum by shard; empty where there is nothing to go on from."""
        path = self.folder / _MANIFEST
        try:
            document = json.loads(path.read_bytes())
            with open(self.folder / _ROWS, "rb") as file:
                sound = file.read(len(self._header)) == self._header
            if not sound or document["key"] != self._key:
                raise ValueError("it is of other features")
            return {int(shard): str(sum_) for shard, sum_ in document["shards"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if warn:
                warnings.warn(
                    f"{path}: {error}; computing everything again", stacklevel=4
                )
            return {}

    def _place(self, rows: range) -> int:
        return len(self._header) + 4 * self._shape[1] * rows.start

    def _is_whole(self, file: Any, shard: int) -> bool:
        rows = self.rows(shard)
        file.seek(self._place(rows))
        data = file.read(4 * self._shape[1] * len(rows))
        same = hashlib.sha256(data).hexdigest() == self._checksums[shard]
        return same and bool(np.isfinite(np.frombuffer(data, "<f4")).all())

    def write(self, shard: int, features: ndarray) -> None:
        path, rows = self.folder / _ROWS, self.rows(shard)
        if not self._checksums:
            # The first shard of a new cache; an open map of an older file stays whole.
            atomic.sweep(self.folder, r"features\.npy|manifest\.json")
            atomic.replace_file(path, self._header)
        data = np.ascontiguousarray(features, "<f4").tobytes()
        # A map would meet a full disk with a signal instead of an error.
        with open(path, "r+b") as file:
            file.seek(self._place(rows))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._checksums[shard] = hashlib.sha256(data).hexdigest()
        shards = {str(each): self._checksums[each] for each in sorted(self._checksums)}
        document = {"key": self._key, "shards": shards}
        atomic.replace_file(self.folder / _MANIFEST, _dumps(document))

    def open(self) -> ndarray:
        path, offset = self.folder / _ROWS, len(self._header)
        return np.memmap(path, "<f4", mode="r", offset=offset, shape=self._shape)


def _npy_header(shape: tuple[int, int]) -> bytes:
    import io

    file = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def _dumps(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()


def _progress(store: _Store, pending: list[int], name: str, verbose: bool) -> Any:
    from tqdm import tqdm

    left = sum(len(store.rows(shard)) for shard in pending)
    return tqdm(
        desc=f"features of {name}",
        total=store.count,
        initial=store.count - left,
        unit=" images",
        disable=not verbose,
        mininterval=_MOVING_INTERVAL if sys.stderr.isatty() else _PLAIN_INTERVAL,
    )
