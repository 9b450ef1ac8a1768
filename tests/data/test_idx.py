import gzip
import struct

import numpy as np
import pytest

from ddjax.data import DataError, MissingDataError, load
from ddjax.data.idx import read_file
from tests.data.files import idx_bytes, write_mnist

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_plain_and_compressed_files_give_the_same_problem(name, tmp_path):
    write_mnist(tmp_path / "plain" / name)
    write_mnist(tmp_path / "gz" / name, compressed=True)
    plain = load(name, directory=tmp_path / "plain")
    compressed = load(name, directory=tmp_path / "gz")
    assert plain.train.inputs.shape == (50, 28, 28, 1)
    assert plain.validation.inputs.shape == (10, 28, 28, 1)
    assert plain.test.inputs.shape == (20, 28, 28, 1)
    assert plain.classes == 10
    assert plain.fingerprint == compressed.fingerprint


def test_the_folder_itself_may_be_the_directory_and_names_may_have_a_dot(tmp_path):
    folder = write_mnist(tmp_path / "mnist")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    inside = load("mnist", directory=tmp_path)
    # Files are left as they were.
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / TRAIN_IMAGES).rename(folder / "train-images.idx3-ubyte")
    assert load("mnist", directory=folder).fingerprint == inside.fingerprint


def test_missing_files_say_where_to_get_them(tmp_path):
    with pytest.raises(MissingDataError, match="yann.lecun.com/exdb/mnist"):
        load("mnist", directory=tmp_path)
    with pytest.raises(FileNotFoundError, match="zalandoresearch/fashion-mnist"):
        load("fashion_mnist", directory=tmp_path)


def broken_contents():
    good = idx_bytes(np.zeros((60, 28, 28)))
    huge = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 28)
    return {
        "truncated": (good[:-1], "truncated"),
        "too long": (good + b"x", "more bytes"),
        "header": (good[:9], "truncated in its header"),
        "empty file": (b"", "not an idx file"),
        "magic": (b"<!DOCTYPE html>", "not an idx file"),
        "type": (idx_bytes(np.zeros((60, 28, 28)), kind=0x0D), "0x0d"),
        "size": (huge + b"\0" * 100, "truncated: it declares"),
        "rank": (idx_bytes(np.zeros((60, 784))), r"\(60, 784\); expected \(n, 28"),
        "side": (idx_bytes(np.zeros((60, 27, 28))), r"\(60, 27, 28\)"),
        "count": (idx_bytes(np.zeros((59, 28, 28))), r"\(60,\); expected \(59,\)"),
    }


@pytest.mark.parametrize("case", broken_contents())
@pytest.mark.parametrize("compressed", [False, True])
def test_broken_images_are_named(case, compressed, tmp_path):
    content, message = broken_contents()[case]
    folder = write_mnist(tmp_path / "mnist", compressed=compressed)
    if compressed:
        (folder / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(content))
    else:
        (folder / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load("mnist", directory=tmp_path)
    assert "mnist/train-" in str(error.value)


@pytest.mark.parametrize("part", ["start", "middle", "end"])
def test_broken_gzip_files_are_named(part, tmp_path):
    folder = write_mnist(tmp_path / "mnist", compressed=True)
    path = folder / f"{TRAIN_IMAGES}.gz"
    content = bytearray(path.read_bytes())
    if part == "start":
        content[:2] = b"PK"
    elif part == "middle":
        content = content[: len(content) // 2]
    else:
        content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz: corrupt or truncated"):
        load("mnist", directory=tmp_path)


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "bomb.gz"
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 10, 28, 28)
    path.write_bytes(gzip.compress(header + b"\0" * 50_000_000))
    with pytest.raises(DataError, match="more bytes than it declares"):
        read_file(path)
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 10**6, 28, 28)
    path.write_bytes(gzip.compress(header))
    with pytest.raises(DataError, match="more than a file of"):
        read_file(path)


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.arange(60) % 11, "label 10 of sample 10 is out of range"),
        (np.zeros(60), "single class: every label is '0'"),
        (np.arange(60) % 9, "no sample of class '9'"),
        (np.arange(60).reshape(60, 1), r"\(60, 1\)"),
    ],
)
def test_bad_labels_are_named(labels, message, tmp_path):
    folder = write_mnist(tmp_path / "mnist")
    (folder / TRAIN_LABELS).write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match=message) as error:
        load("mnist", directory=tmp_path)
    assert TRAIN_LABELS in str(error.value)


def test_no_samples_is_an_error(tmp_path):
    folder = write_mnist(tmp_path / "mnist")
    (folder / TRAIN_IMAGES).write_bytes(idx_bytes(np.zeros((0, 28, 28))))
    (folder / TRAIN_LABELS).write_bytes(idx_bytes(np.zeros(0)))
    with pytest.raises(DataError, match=f"{TRAIN_LABELS}: empty"):
        load("mnist", directory=tmp_path)
