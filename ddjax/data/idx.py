"""MNIST and Fashion-MNIST from their idx files, plain or gzip-compressed."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ddjax.data.errors import DataError, MissingDataError, one_line
from ddjax.data.source import LazyRows, Source, rows_of_array

__all__ = ["read_fashion_mnist", "read_file", "read_mnist"]

_FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_UNSIGNED_BYTE = 0x08
# Deflate cannot compress further than this, so a larger claim is false.
_LARGEST_DEFLATE_RATIO = 1032


def read_mnist(folder: Path) -> Source:
    """Reads MNIST from `folder`, its four official idx files.

    Args:
      folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same
        for `t10k`, each plain or with `.gz`.

    Returns:
      Inputs `(n, 28, 28, 1)` uint8, ten classes.

    Raises:
      DataError: a file is missing, truncated or not what its name says.
    """
    names = tuple(str(digit) for digit in range(10))
    where = "the MNIST database of handwritten digits, yann.lecun.com/exdb/mnist"
    return _read(folder, names, where)


def read_fashion_mnist(folder: Path) -> Source:
    """Reads Fashion-MNIST from files that are named as those of `read_mnist`."""
    where = "the Fashion-MNIST repository, github.com/zalandoresearch/fashion-mnist"
    return _read(folder, _FASHION_NAMES, where)


def read_file(path: Path) -> np.ndarray:
    """Reads one idx file of unsigned bytes.

    The size that the header declares is checked before anything else is read, so a
    file that lies about it costs no memory.

    Args:
      path: an idx file; `.gz` at the end of the name means gzip.

    Returns:
      The array, uint8.

    Raises:
      DataError: not an idx file of bytes, or shorter or longer than it declares.
    """
    compressed = path.suffix == ".gz"
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            shape = _read_header(file, path)
            size = int(np.prod(shape, dtype=object))
            ratio = _LARGEST_DEFLATE_RATIO if compressed else 1
            if size > ratio * path.stat().st_size:
                raise DataError(
                    f"{path}: truncated: it declares {shape}, {size} bytes, more than "
                    f"a file of {path.stat().st_size} bytes can hold"
                )
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: corrupt or truncated gzip file: {one_line(error)}"
        ) from error
    if len(content) != size:
        kind = "truncated: it" if len(content) < size else "it has more bytes than it"
        raise DataError(f"{path}: {kind} declares, {shape} of one byte each")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_header(file: BinaryIO | Any, path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[3] == 0:
        raise DataError(
            f"{path}: not an idx file: it starts with {magic!r} (an HTML page or an "
            "archive saved under this name?)"
        )
    if magic[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path}: idx type 0x{magic[2]:02x}; only unsigned bytes (0x08) are read"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: truncated in its header")
    return struct.unpack(f">{magic[3]}I", sizes)


def _read(folder: Path, class_names: tuple[str, ...], where: str) -> Source:
    return Source(
        train=_read_part(folder, "train", where),
        validation=None,
        test=_read_part(folder, "t10k", where),
        class_names=class_names,
        unit=255.0,
        origin={"reader": "idx"},
    )


def _read_part(folder: Path, part: str, where: str) -> LazyRows:
    images_path = _find(folder, part, "images", 3, where)
    labels_path = _find(folder, part, "labels", 1, where)
    images, labels = read_file(images_path), read_file(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{images_path}: shape {images.shape}; expected (n, 28, 28)")
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{labels_path}: shape {labels.shape}; expected ({len(images)},), one "
            f"label for each image of {images_path.name}"
        )
    # What can still be wrong is in the labels (out of range, a class missing), so
    # messages name their file.
    return rows_of_array(
        images[..., None], labels=labels.astype(np.int64), where=str(labels_path)
    )


def _find(folder: Path, part: str, what: str, rank: int, where: str) -> Path:
    stem = f"{part}-{what}-idx{rank}-ubyte"
    # Some copies carry a dot in the name, left by an unpacking tool.
    for name in (stem, f"{part}-{what}.idx{rank}-ubyte"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise MissingDataError(
        f"{folder / stem}: no such file (nor with .gz). Get the four idx files from "
        f"{where}, and put them into {folder}"
    )
