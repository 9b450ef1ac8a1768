"""CIFAR-10 and CIFAR-100 from their binary versions."""

from pathlib import Path

import numpy as np

from ddjax.data.errors import DataError, MissingDataError
from ddjax.data.source import LazyRows, Source, rows_of_array

__all__ = ["BATCH_RECORDS", "read_cifar10", "read_cifar100"]

# Records of each official file.
BATCH_RECORDS = {"cifar10": 10_000, "cifar100_train": 50_000, "cifar100_test": 10_000}

_CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_PIXELS = 3 * 32 * 32
_PAGE = "the page of CIFAR-10 and CIFAR-100, www.cs.toronto.edu/~kriz/cifar.html"


def read_cifar10(folder: Path) -> Source:
    """Reads the binary version of CIFAR-10.

    Args:
      folder: holds `cifar-10-batches-bin/`, as the official archive unpacks.

    Returns:
      Inputs `(50000, 32, 32, 3)` and `(10000, 32, 32, 3)` uint8, ten classes.

    Raises:
      DataError: a file is missing, truncated, or the Python (pickle) version.
    """
    binary = _binary_folder(folder, "10", "cifar-10-batches-bin")
    records = BATCH_RECORDS["cifar10"]
    parts = [
        _read_file(binary / f"data_batch_{i}.bin", records, 1, 10) for i in range(1, 6)
    ]
    train = rows_of_array(
        np.concatenate([images for images, _ in parts]),
        labels=np.concatenate([labels for _, labels in parts]),
        where=str(binary / "data_batch_*.bin"),
    )
    test_path = binary / "test_batch.bin"
    images, labels = _read_file(test_path, records, 1, 10)
    test = rows_of_array(images, labels=labels, where=str(test_path))
    return _source(train, test, _CIFAR10_NAMES)


def read_cifar100(folder: Path) -> Source:
    """Reads the binary version of CIFAR-100, with its fine labels.

    Args:
      folder: holds `cifar-100-binary/`, as the official archive unpacks.

    Returns:
      Inputs `(50000, 32, 32, 3)` and `(10000, 32, 32, 3)` uint8, a hundred classes.

    Raises:
      DataError: a file is missing, truncated, or the Python (pickle) version.
    """
    binary = _binary_folder(folder, "100", "cifar-100-binary")
    names = _read_names(binary / "fine_label_names.txt", 100)
    parts = []
    for part in ("train", "test"):
        path, records = binary / f"{part}.bin", BATCH_RECORDS[f"cifar100_{part}"]
        images, labels = _read_file(path, records, 2, 100)
        parts.append(rows_of_array(images, labels=labels, where=str(path)))
    return _source(parts[0], parts[1], names)


def _source(train: LazyRows, test: LazyRows, names: tuple[str, ...]) -> Source:
    return Source(train, None, test, names, 255.0, {"reader": "cifar"})


def _binary_folder(folder: Path, number: str, name: str) -> Path:
    if (folder / name).is_dir():
        return folder / name
    archive = f"cifar-{number}-binary.tar.gz"
    problem = "no such folder"
    if (folder / archive).is_file():
        problem = f"{archive} is there, but not unpacked (tar -xzf {archive})"
    elif any("py" in path.name for path in folder.glob(f"cifar-{number}-*")):
        problem = (
            "only the Python version is there; its files are pickles, which can run "
            "any code when they are loaded, and never are"
        )
    raise MissingDataError(
        f"{folder / name}: {problem}. Get the 'CIFAR-{number} binary version' "
        f"({archive}) from {_PAGE}, and unpack it into {folder}"
    )


def _read_file(
    path: Path, records: int, label_bytes: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images `(records, 32, 32, 3)` and labels; the last label byte is the label."""
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file, though its folder is there")
    size, expected = path.stat().st_size, records * (label_bytes + _PIXELS)
    if size != expected:
        problem = "truncated" if size < expected else "too long"
        raise DataError(
            f"{path}: {problem}: {size} bytes, expected {expected} ({records} records "
            f"of {label_bytes} label byte(s) and {_PIXELS} pixels)"
        )
    content = np.fromfile(path, np.uint8).reshape(records, -1)
    labels = content[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        row = int(np.argmax(labels >= classes))
        raise DataError(
            f"{path}: label {labels[row]} of sample {row} is out of range; labels are "
            f"0 to {classes - 1}"
        )
    planes = content[:, label_bytes:].reshape(records, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(str(label) for label in range(count))
    names = tuple(path.read_text(encoding="utf-8").split())
    if len(names) != count or len(set(names)) != count:
        raise DataError(f"{path}: {len(names)} names; expected {count} distinct ones")
    return names
