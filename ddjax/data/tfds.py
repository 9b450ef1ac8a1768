"""Data sets that TensorFlow Datasets has prepared on this machine."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax.data.errors import DataError, MissingDataError, one_line
from ddjax.data.source import LazyRows, Source, identities, rows_of_array

__all__ = ["read"]


class _Keys(NamedTuple):
    """Which features of a data set are used.

    Attributes:
      inputs: the name of the inputs.
      known: the name of the labels or targets, None where there are none.
      is_image: whether the inputs are images.
      class_names: one name per label, None where `known` are no labels.
    """

    inputs: str
    known: str | None
    is_image: bool
    class_names: tuple[str, ...] | None


def read(
    name: str, *, directory: Path | None, image_size: tuple[int, int] | None
) -> Source:
    """Reads a prepared TFDS data set; nothing is downloaded or prepared.

    Its supervised keys (else `image` and, where it is there, `label`) say what the
    inputs are and what is known about them: class labels, floats to fit, or nothing.
    Labels that are withheld are -1; a data set of nothing else has no classes. `test`
    is the test data and `validation` the validation data; with no `test`, or one whose
    labels are withheld, `validation` is the test data. Data in ArrayRecord files are
    read at random access and without TensorFlow; other formats are read through
    TensorFlow, into memory.

    Args:
      name: `NAME`, `NAME/CONFIG`, or either with `:VERSION` (default: the newest).
      directory: TFDS's data directory; None: `TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`.
      image_size: (height, width) that images are cropped (about the centre, to this
        aspect) and resized to; None: as they are, all of one size.

    Raises:
      DataError: no `tensorflow-datasets` package, or features that cannot be used.
      MissingDataError: not prepared here.
    """
    path = _prepared(name, directory)
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"reading {name!r} needs tensorflow-datasets: pip install 'ddjax[tfds]'"
        ) from error
    with _naming(str(path)):
        builder = tensorflow_datasets.builder_from_directory(path)
    keys = _keys(builder.info, path)
    available = {str(part): info for part, info in builder.info.splits.items()}
    if "train" not in available or not available["train"].num_examples:
        raise DataError(
            f"{path}: no samples in split 'train'; it has {', '.join(available)}"
        )
    parts = {
        part: _rows(builder, part, keys, image_size, f"{path}: split {part}")
        for part in ("train", "validation", "test")
        if part in available and available[part].num_examples
    }
    if _withheld(parts["train"]):
        keys = keys._replace(class_names=None)
        parts = {part: rows._replace(labels=None) for part, rows in parts.items()}
    if "test" not in parts or _withheld(parts["test"]):
        parts.pop("test", None)
        if "validation" in parts:
            parts["test"] = parts.pop("validation")
    train = parts["train"]
    return Source(
        train=train,
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=keys.class_names,
        unit=_unit(train, keys),
        origin={
            "reader": "tfds",
            "name": name,
            "version": path.name,
            "image_size": image_size,
            "inputs": keys.inputs,
            "targets": keys.known,
        },
    )


def _prepared(name: str, directory: Path | None) -> Path:
    """The folder of the data set's newest (or named) version."""
    default = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    root = Path(directory or default)
    stem, _, version = name.partition(":")
    folder = root / stem
    inside = folder.iterdir() if folder.is_dir() else ()
    found = {
        _version(path.name): path
        for path in inside
        if (path / "dataset_info.json").is_file() and _version(path.name)
    }
    if version:
        found = {key: found[key] for key in found if key == _version(version)}
    if not found:
        raise MissingDataError(_not_prepared(root, stem, version))
    return found[max(found)]


def _not_prepared(root: Path, stem: str, version: str) -> str:
    described = (root / stem).glob("*/*/dataset_info.json")
    configs = sorted({str(p.parent.parent.relative_to(root)) for p in described})
    hint = f" It has configurations: {', '.join(configs)}." if configs else ""
    return (
        f"{root / stem}: no prepared TFDS data set{f' {version}' if version else ''}."
        f"{hint} Prepare it with TensorFlow Datasets, for example "
        f"tensorflow_datasets.builder({stem!r}, data_dir={str(root)!r}, "
        "file_format='array_record').download_and_prepare()"
    )


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split(".")
    return tuple(map(int, numbers)) if all(n.isdigit() for n in numbers) else ()


def _keys(info: Any, path: Path) -> _Keys:
    from tensorflow_datasets import features as kinds

    pair = info.supervised_keys
    if pair is None and "image" in info.features:
        pair = ("image", "label" if "label" in info.features else None)
    if not (isinstance(pair, Sequence) and len(pair) == 2):
        raise DataError(
            f"{path}: it does not say what its inputs and targets are (supervised "
            f"keys); its features are {', '.join(info.features)}"
        )
    inputs, known = pair
    is_image = isinstance(info.features[inputs], kinds.Image)
    if not is_image and not isinstance(info.features[inputs], kinds.Tensor):
        raise DataError(f"{path}: inputs {inputs!r} are neither images nor tensors")
    if known is None:
        return _Keys(inputs, None, is_image, None)
    feature = info.features[known]
    if isinstance(feature, kinds.ClassLabel):
        return _Keys(inputs, known, is_image, tuple(feature.names))
    if np.issubdtype(feature.np_dtype, np.floating) and len(feature.shape) <= 1:
        return _Keys(inputs, known, is_image, None)
    raise DataError(
        f"{path}: targets {known!r} are neither class labels nor floats (a scalar or "
        "a vector a sample)"
    )


def _rows(
    builder: Any, part: str, keys: _Keys, image_size: Any, where: str
) -> LazyRows:
    arranged = _arranger(keys, image_size, where)
    try:
        source = builder.as_data_source(split=part)
    except NotImplementedError:
        return _rows_through_tensorflow(builder, part, keys, arranged, where)
    values = []
    if keys.known is not None:
        light = builder.as_data_source(split=part, decoders=_skip_decoding(keys))
        with _naming(where):
            values = [light[i][keys.known] for i in range(len(light))]

    def read_inputs(indices: np.ndarray) -> np.ndarray:
        with _naming(where):
            samples = (source[int(i)][keys.inputs] for i in indices)
            return np.stack([arranged(sample) for sample in samples])

    files = sorted(map(Path, builder.info.splits[part].filepaths))

    def identity(indices: np.ndarray) -> bytes:
        del indices  # a file holds many samples
        return identities(files, files[0].parent)

    labels, targets = _labels_and_targets(values, keys)
    return LazyRows(len(source), labels, targets, read_inputs, where, identity)


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Names the part in what TFDS raises at broken files, whatever that is."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{where}: broken or truncated files: {one_line(error)}"
        ) from error


def _skip_decoding(keys: _Keys) -> Any:
    """Decoders that leave images encoded, for a pass over the labels alone."""
    if not keys.is_image:
        return None
    from tensorflow_datasets import decode

    return {keys.inputs: decode.SkipDecoding()}


def _rows_through_tensorflow(
    builder: Any,
    part: str,
    keys: _Keys,
    arranged: Callable[[Any], np.ndarray],
    where: str,
) -> LazyRows:
    import tensorflow_datasets

    inputs, values = [], []
    try:
        # One file after the other: the order of samples is part of the splits.
        data = builder.as_dataset(
            split=part,
            shuffle_files=False,
            read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1),
        )
        with _naming(where):
            for sample in tensorflow_datasets.as_numpy(data):
                inputs.append(arranged(sample[keys.inputs]))
                if keys.known is not None:
                    values.append(sample[keys.known])
    except ImportError as error:
        raise DataError(
            f"{where}: its files are not ArrayRecord, so reading them needs "
            "TensorFlow: pip install tensorflow, or prepare the data set with "
            "file_format='array_record'"
        ) from error
    labels, targets = _labels_and_targets(values, keys)
    return rows_of_array(np.stack(inputs), labels=labels, targets=targets, where=where)


def _arranger(
    keys: _Keys, image_size: tuple[int, int] | None, where: str
) -> Callable[[Any], np.ndarray]:
    """What brings one sample's inputs to their final shape."""
    if not keys.is_image:
        return lambda sample: np.asarray(sample).reshape(-1)
    first: list[tuple[int, ...]] = []

    def arrange(sample: Any) -> np.ndarray:
        image = np.asarray(sample)
        if image_size is not None:
            return _resized(image, image_size, where)
        if not first:
            first.append(image.shape)
        if image.shape != first[0]:
            raise DataError(
                f"{where}: images of shapes {first[0]} and {image.shape}; pass "
                "image_size to bring them to one size"
            )
        return image

    return arrange


def _resized(image: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    from PIL import Image, ImageOps

    if image.dtype != np.uint8 or image.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"{where}: images of {image.dtype} with {image.shape[-1]} channels; "
            "image_size is for uint8 images of 1, 3 or 4 channels"
        )
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    fitted = ImageOps.fit(picture, (size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(*size, image.shape[-1])


def _labels_and_targets(
    values: list[Any], keys: _Keys
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What is known about the samples, as labels or as targets."""
    if keys.known is None:
        return None, None
    if keys.class_names is not None:
        return np.array(values, dtype=np.int64), None
    return None, np.array(values, dtype=np.float64).reshape(len(values), -1)


def _withheld(rows: LazyRows) -> bool:
    """Whether a part's labels are withheld (all -1, as TFDS does)."""
    return rows.labels is not None and bool((rows.labels < 0).all())


def _unit(train: LazyRows, keys: _Keys) -> float:
    dtype = train.read(np.arange(1)).dtype
    integer = keys.is_image and np.issubdtype(dtype, np.unsignedinteger)
    return float(np.iinfo(dtype).max) if integer else 1.0
