import numpy as np
import pytest

from ddjax.data import DataError, MissingDataError, cifar, load
from tests.data.files import CIFAR_RECORDS, write_cifar10, write_cifar100


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar, "BATCH_RECORDS", CIFAR_RECORDS)


def test_cifar10_planes_become_channels(tmp_path):
    binary = write_cifar10(tmp_path / "cifar10")
    source = cifar.read_cifar10(tmp_path / "cifar10")
    record = np.fromfile(binary / "data_batch_2.bin", np.uint8)[3073 : 2 * 3073]
    image = source.train.read(np.array([21]))[0]
    assert source.train.count == 100 and source.test.count == 20
    assert source.train.labels[21] == record[0]
    assert image.shape == (32, 32, 3)
    assert image[2, 5, 0] == record[1 + 2 * 32 + 5]
    assert image[2, 5, 2] == record[1 + 2 * 1024 + 2 * 32 + 5]
    problem = load("cifar10", directory=tmp_path)
    assert problem.train.inputs.shape == (90, 32, 32, 3)
    assert problem.class_names[3] == "cat"


def test_cifar100_uses_the_fine_label_and_its_names(tmp_path):
    write_cifar100(tmp_path / "cifar100")
    source = cifar.read_cifar100(tmp_path / "cifar100")
    assert source.train.labels.tolist() == [i % 100 for i in range(200)]
    assert source.class_names[7] == "name7"
    problem = load("cifar100", directory=tmp_path, classes=("name3", 8))
    assert problem.class_names == ("name3", "name8")


def test_cifar100_with_other_names(tmp_path):
    names = write_cifar100(tmp_path) / "fine_label_names.txt"
    names.write_text("apple\npear\n")
    with pytest.raises(DataError, match="fine_label_names.txt: 2 names"):
        cifar.read_cifar100(tmp_path)
    names.unlink()
    assert cifar.read_cifar100(tmp_path).class_names[7] == "7"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content[:-1], "truncated: 61459 bytes, expected 61460"),
        (lambda content: content[: 19 * 3073], "truncated"),
        (lambda content: content + b"x", "too long"),
        (lambda content: b"", "truncated: 0 bytes"),
        (lambda content: b"\x0b" + content[1:], "label 11 of sample 0 is out of range"),
    ],
)
def test_broken_batches_are_named(change, message, tmp_path):
    path = write_cifar10(tmp_path / "cifar10") / "data_batch_4.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"data_batch_4.bin: {message}"):
        load("cifar10", directory=tmp_path)


def test_a_missing_batch_is_named(tmp_path):
    (write_cifar10(tmp_path / "cifar10") / "test_batch.bin").unlink()
    with pytest.raises(MissingDataError, match="test_batch.bin: no such file"):
        load("cifar10", directory=tmp_path)


@pytest.mark.parametrize("number, name", [("10", "cifar10"), ("100", "cifar100")])
def test_missing_data_say_where_to_get_them(number, name, tmp_path):
    with pytest.raises(
        MissingDataError, match=f"CIFAR-{number} binary version.*cs.toronto.edu"
    ):
        load(name, directory=tmp_path)


PICKLES = "pickles, which can run any code"


@pytest.mark.parametrize(
    "name, present, message",
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1", PICKLES),
        ("cifar10", "cifar-10-python.tar.gz", PICKLES),
        ("cifar100", "cifar-100-python/train", PICKLES),
        ("cifar10", "cifar-10-binary.tar.gz", "not unpacked"),
    ],
)
def test_other_versions_are_refused(name, present, message, tmp_path):
    path = tmp_path / name / present
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not read")
    with pytest.raises(MissingDataError, match=message):
        load(name, directory=tmp_path)
