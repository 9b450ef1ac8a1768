"""Images in folders: a subfolder per class, or images without labels."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.errors import DataError, MissingDataError, one_line
from ddjax.data.source import LazyRows, Source, identities

__all__ = ["BROKEN", "read", "read_cub50", "read_imagenette"]

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

BROKEN = ("refuse", "skip")
"""What may be done about images that cannot be decoded."""

# Files that a message names.
_MOST_NAMES = 10
# Folders of more images are not looked through when a broken one is met.
_MOST_CHECKED = 20_000
# Images that are decoded side by side before the next are asked for.
_AT_ONCE = 4096

_VALIDATION_NAMES = ("val", "valid", "validation")
# Pillow hands EPS to Ghostscript, an interpreter of programs, and the others to
# readers that are not installed.
_UNREAD_FORMATS = ("BUFR", "EPS", "GRIB", "HDF5", "WMF")


class _Files(NamedTuple):
    """Files of a part: images, what is passed over, and the images' labels or None."""

    images: list[Path]
    others: list[Path]
    labels: np.ndarray | None = None


class _BrokenImageError(DataError):
    """An image that cannot be decoded, and why."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def read(
    folder: Path,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
    broken: str = "refuse",
) -> Source:
    """Reads a folder of images in any format that Pillow reads.

    Either `folder/CLASS/*` or `folder/train/CLASS/*` with `test` or `val` (or both)
    beside `train`. With both, `val` is the validation data; with one, it is the test
    data; with none, `load` cuts the test data out. Class names are the subfolders'
    names, sorted. Images without subfolders (`folder/*`, or `folder/train/*` with
    `folder/test/*` and so on) are data without labels. Hidden files and folders are
    passed over. So is what is not named like an image that Pillow reads, what lies in
    folders within a class folder, and images beside the class folders; that is warned
    of, and counted in the source's origin.

    EXIF orientation is applied, what is transparent shows white behind it, and of an
    animation the first frame is taken. Images are decoded when they are asked for.

    Args:
      folder: the folder.
      image_size: (height, width): each image is cropped about its centre to this
        aspect and resized (bicubic, antialiased). None: all have the same size.
      channels: 1 or 3.
      broken: what is done about images that cannot be decoded. `refuse`: an error,
        once one is met, that names all of them. `skip`: every image is decoded first,
        and the broken ones are left out, warned of, and counted in the source's origin.

    Returns:
      The source: uint8 images.

    Raises:
      DataError: broken images, images of several sizes, classes that differ between
        the parts.
      MissingDataError: no such folder, or no images in it.
    """
    if broken not in BROKEN:
        raise DataError(f"broken={broken!r}; known: {', '.join(BROKEN)}")
    if not folder.is_dir():
        raise MissingDataError(
            f"{folder}: no such folder; it should hold a subfolder of images per class "
            "(or train/ and test/ with those)"
        )
    roots = _part_folders(folder)
    names = tuple(path.name for path in _subfolders(roots["train"])) or None
    if names is None and not _listed(roots["train"]).images:
        raise MissingDataError(
            f"{roots['train']}: 0 class folders, and no images"
            + _found_instead(_listed(roots["train"]).others)
        )
    if names is not None and len(names) < 2:
        raise DataError(
            f"{roots['train']}: {len(names)} class folder(s), {list(names)}; at least "
            "2 are needed"
        )
    listed = {part: _files(root, names) for part, root in roots.items()}
    origin: dict[str, Any] = {
        "reader": "folder",
        "folder": folder.name,
        "image_size": image_size,
        "channels": channels,
    }
    others = [path for files in listed.values() for path in files.others]
    if others:
        origin["passed_over"] = _counted(others)
        warnings.warn(
            f"{folder}: {_shown(folder, others)} passed over: not named like an image "
            "that Pillow reads here, or not where images are looked for",
            stacklevel=2,
        )
    every = [path for files in listed.values() for path in files.images]
    if broken == "skip":
        bad = list(_broken(every))
        if bad:
            first = [path.relative_to(folder).as_posix() for path in bad[:_MOST_NAMES]]
            origin["broken_skipped"] = {"count": len(bad), "first": first}
            warnings.warn(
                f"{folder}: {_shown(folder, bad)} broken, skipped", stacklevel=2
            )
        listed = {
            part: _without(files, set(bad), roots[part], names)
            for part, files in listed.items()
        }

    def explained(found: dict[Path, str]) -> DataError:
        return _all_broken(folder, every, found)

    size = image_size or _size(listed["train"].images[0], explained)
    parts = {
        part: _rows(files, roots[part], size, image_size is None, channels, explained)
        for part, files in listed.items()
    }
    return Source(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=names,
        unit=255.0,
        origin=origin,
    )


def read_imagenette(
    folder: Path, *, image_size: tuple[int, int] | None = None, **options: Any
) -> Source:
    """Imagenette, ten classes of ImageNet: `train` and `val`, by WordNet id.

    Args:
      folder: the unpacked archive.
      image_size: see `read`; None: 128 x 128.
      **options: `channels` and `broken`, see `read`.

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
    source = _read_named_set(folder, "train", get, image_size, options)
    if source.class_names != tuple(_IMAGENETTE):
        raise DataError(f"{folder}: not the ten classes of Imagenette. {get}")
    return source._replace(class_names=tuple(_IMAGENETTE.values()))


def read_cub50(
    folder: Path, *, image_size: tuple[int, int] | None = None, **options: Any
) -> Source:
    """The first 50 classes of CUB-200-2011: `folder/train` and `folder/test`, by class.

    Args:
      folder: where they lie.
      image_size: see `read`; None: 128 x 128.
      **options: `channels` and `broken`, see `read`.

    Raises:
      DataError: see `read`, or another number of classes.
      MissingDataError: no such files, with where to get them.
    """
    get = (
        "Get CUB_200_2011 from vision.caltech.edu/datasets/cub_200_2011 and put the "
        "images of classes 001 to 050 there: train/ and test/ as train_test_split.txt "
        "says, with a folder per class"
    )
    source = _read_named_set(folder, "test", get, image_size, options)
    if len(source.class_names or ()) != _CUB50_CLASSES:
        raise DataError(f"{folder}: not the first {_CUB50_CLASSES} classes. {get}")
    return source


def _read_named_set(
    folder: Path,
    held_out: str,
    get: str,
    image_size: tuple[int, int] | None,
    options: Mapping[str, Any],
) -> Source:
    for part in ("train", held_out):
        if not (folder / part).is_dir():
            raise MissingDataError(f"{folder / part}: no such folder. {get}")
    return read(folder, image_size=image_size or (_SIDE, _SIDE), **options)


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
    shown = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(path for path in shown if path.is_dir())


def _listed(folder: Path) -> _Files:
    """What a folder holds: files named like images, and the rest, each sorted."""
    suffixes, found = _suffixes(), _Files([], [])
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = folder / entry.name
            if not entry.name.startswith("."):
                like_image = path.suffix.lower() in suffixes and not entry.is_dir()
                (found.images if like_image else found.others).append(path)
    return found


def _files(root: Path, names: tuple[str, ...] | None) -> _Files:
    """Image files class by class with their labels, or without where there are none."""
    found = tuple(path.name for path in _subfolders(root))
    if found != (names or ()):
        differing = sorted(set(found) ^ set(names or ()))
        raise DataError(
            f"{root}: its class folders differ from those of the training data: "
            f"{differing[0]!r} is only in one"
        )
    if names is None:
        files = _listed(root)
        if not files.images:
            raise MissingDataError(
                f"{root}: no images in this folder{_found_instead(files.others)}"
            )
        return files
    # Beside class folders lie read-me files and the like; images there are a mistake.
    images, others, labels = [], _listed(root).images, []
    for label, name in enumerate(names):
        inside = _listed(root / name)
        if not inside.images:
            raise MissingDataError(
                f"{root / name}: no images in this class folder"
                f"{_found_instead(inside.others)}"
            )
        images += inside.images
        others += inside.others
        labels += [label] * len(inside.images)
    return _Files(images, others, np.array(labels, dtype=np.int64))


def _found_instead(others: Sequence[Path]) -> str:
    """What there is in place of images, for messages that end in it."""
    if not others:
        return ""
    kinds = ", ".join(_counted(others))
    return f", but {len(others)} other(s) ({kinds}); Pillow reads no such files here"


def _counted(files: Sequence[Path]) -> dict[str, int]:
    """How many there are of each ending (folders under `folder`), most first."""
    kinds = [
        "folder" if path.is_dir() else path.suffix.lower() or "without ending"
        for path in files
    ]
    return dict(Counter(kinds).most_common())


def _shown(folder: Path, files: Sequence[Path]) -> str:
    """How many, and the names of the first."""
    names = ", ".join(str(path.relative_to(folder)) for path in files[:_MOST_NAMES])
    more = ", ..." if len(files) > _MOST_NAMES else ""
    return f"{len(files)} file{'s' * (len(files) > 1)} ({names}{more})"


def _without(
    files: _Files, bad: set[Path], root: Path, names: tuple[str, ...] | None
) -> _Files:
    """The images that are not broken."""
    kept = np.array([path not in bad for path in files.images])
    images = [path for path in files.images if path not in bad]
    if files.labels is None:
        if not images:
            raise DataError(f"{root}: every image is broken")
        return files._replace(images=images)
    labels = files.labels[kept]
    for label, name in enumerate(names or ()):
        if label not in labels:
            raise DataError(f"{root / name}: every image of this class is broken")
    return files._replace(images=images, labels=labels)


def _rows(
    files: _Files,
    root: Path,
    size: tuple[int, int],
    keep_size: bool,
    channels: int,
    explained: Callable[[dict[Path, str]], DataError],
) -> LazyRows:
    def decode(index: int) -> np.ndarray | _BrokenImageError:
        try:
            return _decode(files.images[index], size, keep_size, channels)
        except _BrokenImageError as error:
            return error

    def read_images(indices: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = list(pool.map(decode, indices.tolist()))
        broken = {e.path: e.reason for e in images if isinstance(e, _BrokenImageError)}
        if broken:
            raise explained(broken)
        return np.stack(images)  # type: ignore

    def identity(indices: np.ndarray) -> bytes:
        return identities([files.images[index] for index in indices.tolist()], root)

    count = len(files.images)
    return LazyRows(count, files.labels, None, read_images, str(root), identity)


def _all_broken(folder: Path, every: list[Path], found: dict[Path, str]) -> DataError:
    """One error for all broken images, those beside the ones that were met included.

    Of large folders only those met are named: to decode the rest takes long.
    """
    if len(every) <= _MOST_CHECKED:
        found = _broken(every)
    reasons = [
        f"{path.relative_to(folder)}: {reason}"
        for path, reason in list(found.items())[:_MOST_NAMES]
    ]
    count = f"{len(found)} of {len(every)} images"
    if len(every) > _MOST_CHECKED:
        count = f"at least {count}"
    more = "; ..." if len(found) > _MOST_NAMES else ""
    return DataError(
        f"{folder}: {count} cannot be decoded: {'; '.join(reasons)}{more}. Mend or "
        "remove them, or leave them out with broken='skip'"
    )


def _broken(files: Sequence[Path]) -> dict[Path, str]:
    """The images that cannot be decoded, and why; decodes them all."""

    def reason(path: Path) -> str | None:
        try:
            _picture(path, 3)
        except _BrokenImageError as error:
            return error.reason
        # What is whole and refused for another reason is reported when it is read.
        except DataError:
            pass
        return None

    found: dict[Path, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _AT_ONCE):
            chosen = files[start : start + _AT_ONCE]
            for path, why in zip(chosen, pool.map(reason, chosen), strict=True):
                if why is not None:
                    found[path] = why
    return found


def _decode(
    path: Path, size: tuple[int, int], keep_size: bool, channels: int
) -> np.ndarray:
    """One image, `(height, width, channels)` uint8."""
    from PIL import Image, ImageOps

    height, width = size
    image = _picture(path, channels)
    if not keep_size:
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    elif image.size != (width, height):
        raise DataError(
            f"{path}: {image.height} x {image.width} pixels, others have {height} x "
            f"{width}; pass image_size to bring them to one size"
        )
    return np.asarray(image).reshape(height, width, channels)


def _picture(path: Path, channels: int) -> Any:
    """One image as Pillow has it, in 8-bit grey or colour."""
    from PIL import ImageOps

    with _open(path) as opened:
        try:
            image = ImageOps.exif_transpose(opened)
            image = _on_white(_eight_bits(image, path))
            return image.convert("L" if channels == 1 else "RGB")
        except DataError:
            raise
        # Decoders raise all sorts of things at broken files.
        except Exception as error:
            reason = f"broken or truncated image: {one_line(error)}"
            raise _BrokenImageError(path, reason) from error


def _open(path: Path) -> Any:
    """Opens an image without decoding it."""
    from PIL import Image, UnidentifiedImageError

    formats = [name for name in Image.OPEN if name not in _UNREAD_FORMATS]
    try:
        # To open a pipe would wait for ever for somebody to write into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _BrokenImageError(path, "a pipe, a socket or a device, not a file")
        image = Image.open(path, formats=formats)
    except UnidentifiedImageError as error:
        reason = "not a readable image: of no format that Pillow knows"
        raise _BrokenImageError(path, reason) from error
    except DataError:
        raise
    except Exception as error:
        reason = f"not a readable image: {one_line(error)}"
        raise _BrokenImageError(path, reason) from error
    limit = Image.MAX_IMAGE_PIXELS
    pixels = image.width * image.height
    problem = "" if pixels else "an image without pixels"
    if limit is not None and pixels > limit:
        problem = (
            f"{image.height} x {image.width} pixels, over Pillow's limit of {limit} "
            "(PIL.Image.MAX_IMAGE_PIXELS)"
        )
    if problem:
        image.close()
        raise _BrokenImageError(path, problem)
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


def _on_white(image: Any) -> Any:
    """What is transparent shows white, not the colour that was left behind it."""
    from PIL import Image

    if (
        image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
        or "transparency" in image.info
        or (image.mode == "P" and image.palette.mode == "RGBA")
    ):
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colours)
    return image


def _size(
    path: Path, explained: Callable[[dict[Path, str]], DataError]
) -> tuple[int, int]:
    """(height, width) of an image."""
    try:
        image = _picture(path, 3)
    except _BrokenImageError as error:
        raise explained({path: error.reason}) from error
    return image.height, image.width


def _suffixes() -> frozenset[str]:
    from PIL import Image

    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _UNREAD_FORMATS
    )
