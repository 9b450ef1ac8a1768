"""Makes small data sets in the official file formats."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

CIFAR_RECORDS = {"cifar10": 20, "cifar100_train": 200, "cifar100_test": 100}


def idx_bytes(array: np.ndarray, kind: int = 0x08) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, compressed=False) -> Path:
    """Four idx files; labels are 0, 1, ..., 9, 0, ...; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count) % 10
        for name, array in (
            (f"{part}-images-idx3-ubyte", images),
            (f"{part}-labels-idx1-ubyte", labels),
        ):
            content = idx_bytes(array)
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def write_cifar10(folder: Path) -> Path:
    """Six binary batches of 20 records; returns the folder that holds them."""
    binary = folder / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    generator = np.random.default_rng(1)
    for name in names:
        records = generator.integers(0, 256, (20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        records.tofile(binary / name)
    return binary


def write_cifar100(folder: Path) -> Path:
    """Two binary files of 200 and 100 records, with names; returns their folder."""
    binary = folder / "cifar-100-binary"
    binary.mkdir(parents=True)
    generator = np.random.default_rng(2)
    for name, count in (("train.bin", 200), ("test.bin", 100)):
        records = generator.integers(0, 256, (count, 3074), np.uint8)
        records[:, 0] = 99
        records[:, 1] = np.arange(count) % 100
        records.tofile(binary / name)
    names = "\n".join(f"name{i}" for i in range(100))
    (binary / "fine_label_names.txt").write_text(names + "\n\n")
    return binary


def write_images(root: Path, *, classes=("cat", "dog"), count=6, size=(8, 8)) -> Path:
    """Class subfolders of PNG images of `size` (height, width)."""
    generator = np.random.default_rng(3)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root
