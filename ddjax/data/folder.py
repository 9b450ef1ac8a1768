"""Images in folders: a subfolder per class, or images without labels."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.source import LazyRows, Source, identities

__all__ = ["read", "read_cub50", "read_imagenette"]

# The side that the images of the named data sets are brought to.
_SIDE = 128
_IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
_CUB50_CLASSES = 50

_VALIDATION_NAMES = ("val", "valid", "validation")
# Pillow hands EPS to Ghostscript, an interpreter of programs, and the others to
# readers that are not installed.
_UNREAD_FORMATS = ("BUFR", "EPS", "GRIB", "HDF5", "WMF")


def read(folder: Path, *, image_size: tuple[int, int] | None, channels: int) -> Source:
    """Reads a folder of images in any format that Pillow reads.

    Either `folder/CLASS/*` or `folder/train/CLASS/*` with `test` or `val` (or both)
    beside `train`. With both, `val` is the validation data; with one, it is the test
    data; with none, `load` cuts the test data out. Class names are the subfolders'
    names, sorted. Images without subfolders (`folder/*`, or `folder/train/*` with
    `folder/test/*` and so on) are data without labels. Files that are not named like
    images are passed over; hidden files and folders too. EXIF orientation is applied;
    of an animation, the first frame is taken. Images are decoded when they are asked
    for.

    Args:
      folder: the folder.
      image_size: (height, width): each image is cropped about its centre to this
        aspect and resized (bicubic, antialiased). None: all have the same size.
      channels: 1 or 3.

    Returns:
      The source: uint8 images.

    Raises:
      DataError: a broken image, images of several sizes, classes that differ between
        the parts.
      MissingDataError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise MissingDataError(
            f"{folder}: no such folder; it should hold a subfolder of images per class "
            "(or train/ and test/ with those)"
        )
    roots = _part_folders(folder)
    names = tuple(path.name for path in _subfolders(roots["train"])) or None
    if names is None and not _images(roots["train"]):
        raise MissingDataError(f"{roots['train']}: 0 class folders, and no images")
    if names is not None and len(names) < 2:
        raise DataError(
            f"{roots['train']}: {len(names)} class folder(s), {list(names)}; at least "
            "2 are needed"
        )
    size = image_size
    parts: dict[str, LazyRows] = {}
    for part, root in roots.items():
        files, labels = _files(root, names)
        size = size or _size(files[0])
        parts[part] = _rows(files, labels, size, image_size is not None, channels, root)
    return Source(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=names,
        unit=255.0,
        origin={
            "reader": "folder",
            "folder": folder.name,
            "image_size": image_size,
            "channels": channels,
        },
    )


def read_imagenette(
    folder: Path, *, image_size: tuple[int, int] | None = None, channels: int = 3
) -> Source:
    """Imagenette, ten classes of ImageNet: `train` and `val`, by WordNet id.

    Args:
      folder: the unpacked archive.
      image_size: see `read`; None: 128 x 128.
      channels: 1 or 3.

    Returns:
      The source; `val` is the test data, the classes have their English names.

    Raises:
      DataError: see `read`, or other classes.
      MissingDataError: no such files, with where to get them.
    """
    get = (
        "Get imagenette2 (any size) from github.com/fastai/imagenette and unpack it "
        "there: train/ and val/ with a folder per WordNet id"
    )
    source = _named(folder, "train", get, image_size, channels)
    if source.class_names != tuple(_IMAGENETTE):
        raise DataError(f"{folder}: not the ten classes of Imagenette. {get}")
    return source._replace(class_names=tuple(_IMAGENETTE.values()))


def read_cub50(
    folder: Path, *, image_size: tuple[int, int] | None = None, channels: int = 3
) -> Source:
    """The first 50 classes of CUB-200-2011: `folder/train` and `folder/test`, by class.

    Args:
      folder: where they lie.
      image_size: see `read`; None: 128 x 128.
      channels: 1 or 3.

    Returns:
      The source.

    Raises:
      DataError: see `read`, or another number of classes.
      MissingDataError: no such files, with where to get them.
    """
    get = (
        "Get CUB_200_2011 from vision.caltech.edu/datasets/cub_200_2011 and put the "
        "images of classes 001 to 050 there: train/ and test/ as train_test_split.txt "
        "says, with a folder per class"
    )
    source = _named(folder, "test", get, image_size, channels)
    if len(source.class_names or ()) != _CUB50_CLASSES:
        raise DataError(f"{folder}: not the first {_CUB50_CLASSES} classes. {get}")
    return source


def _named(
    folder: Path,
    held_out: str,
    get: str,
    image_size: tuple[int, int] | None,
    channels: int,
) -> Source:
    for part in ("train", held_out):
        if not (folder / part).is_dir():
            raise MissingDataError(f"{folder / part}: no such folder. {get}")
    return read(folder, image_size=image_size or (_SIDE, _SIDE), channels=channels)


def _part_folders(folder: Path) -> dict[str, Path]:
    train = folder / "train"
    if not train.is_dir():
        return {"train": folder}
    roots = {"train": train}
    validation = [folder / name for name in _VALIDATION_NAMES]
    validation = [path for path in validation if path.is_dir()]
    if len(validation) > 1:
        raise DataError(f"{folder}: both {validation[0].name} and {validation[1].name}")
    if (folder / "test").is_dir():
        roots["test"] = folder / "test"
        if validation:
            roots["validation"] = validation[0]
    elif validation:
        roots["test"] = validation[0]
    return roots


def _subfolders(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def _images(folder: Path) -> list[Path]:
    """The files in a folder that are named like images, sorted."""
    suffixes = _suffixes()
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _files(
    root: Path, names: tuple[str, ...] | None
) -> tuple[list[Path], np.ndarray | None]:
    """Image files class by class with their labels, or without where there are none."""
    found = tuple(path.name for path in _subfolders(root))
    if found != (names or ()):
        differing = sorted(set(found) ^ set(names or ()))
        raise DataError(
            f"{root}: its class folders differ from those of the training data: "
            f"{differing[0]!r} is only in one"
        )
    if names is None:
        files = _images(root)
        if not files:
            raise MissingDataError(f"{root}: no images in this folder")
        return files, None
    files, labels = [], []
    for label, name in enumerate(names):
        inside = _images(root / name)
        if not inside:
            raise MissingDataError(f"{root / name}: no images in this class folder")
        files += inside
        labels += [label] * len(inside)
    return files, np.array(labels, dtype=np.int64)


def _rows(
    files: Sequence[Path],
    labels: np.ndarray | None,
    size: tuple[int, int],
    resize: bool,
    channels: int,
    root: Path,
) -> LazyRows:
    def decode(index: int) -> np.ndarray:
        return _decode(files[index], size, resize, channels)

    def read_images(indices: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(decode, indices.tolist())))

    def identity(indices: np.ndarray) -> bytes:
        return identities([files[index] for index in indices.tolist()], root)

    return LazyRows(len(files), labels, None, read_images, str(root), identity)


def _decode(
    path: Path, size: tuple[int, int], resize: bool, channels: int
) -> np.ndarray:
    """One image, `(height, width, channels)` uint8."""
    from PIL import ImageOps

    height, width = size
    with _open(path) as opened:
        try:
            image = ImageOps.exif_transpose(opened)
            image = _eight_bits(image, path).convert("L" if channels == 1 else "RGB")
        except DataError:
            raise
        # Decoders raise all sorts of things at broken files.
        except Exception as error:
            raise DataError(f"{path}: broken or truncated image: {error}") from error
    if resize:
        image = ImageOps.fit(image, (width, height), _bicubic())
    elif image.size != (width, height):
        raise DataError(
            f"{path}: {image.height} x {image.width} pixels, others have {height} x "
            f"{width}; pass image_size to bring them to one size"
        )
    return np.asarray(image).reshape(height, width, channels)


def _open(path: Path) -> Any:
    """Opens an image without decoding it."""
    from PIL import Image

    formats = [name for name in Image.OPEN if name not in _UNREAD_FORMATS]
    try:
        image = Image.open(path, formats=formats)
    except Exception as error:
        raise DataError(f"{path}: not a readable image: {error}") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise DataError(
            f"{path}: {image.height} x {image.width} pixels, over Pillow's limit of "
            f"{limit} (PIL.Image.MAX_IMAGE_PIXELS)"
        )
    return image


def _eight_bits(image: Any, path: Path) -> Any:
    """16-bit grey to 8 bits (Pillow's own conversion clips at 255)."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path}: 32-bit pixels (mode {image.mode}), whose range is unknown; load "
            "such images as float arrays"
        )
    return image


def _size(path: Path) -> tuple[int, int]:
    from PIL import ImageOps

    with _open(path) as image:
        try:
            image = ImageOps.exif_transpose(image)
        except Exception as error:
            raise DataError(f"{path}: broken or truncated image: {error}") from error
        return image.height, image.width


def _suffixes() -> frozenset[str]:
    from PIL import Image

    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _UNREAD_FORMATS
    )


def _bicubic() -> Any:
    from PIL import Image

    return Image.Resampling.BICUBIC
