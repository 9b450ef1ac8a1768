"""Full and read-only disks: one error of one line, whoever met them."""

import errno
import os

import numpy as np
import pytest

from ddjax.storage import CannotWrite, atomic
from ddjax.storage.cache import on_disk
from ddjax.storage.shards import NotEnoughSpace
from ddjax.storage.writing import writing


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EROFS, os.strerror(errno.EROFS), "run/metrics.jsonl"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        PermissionError(errno.EACCES, "Permission denied", "run/best/step-1"),
        # As safetensors and TensorStore say it.
        RuntimeError("I/O error: No space left on device (os error 28)"),
        ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_line(error):
    with pytest.raises(CannotWrite, match="^run cannot be written: ") as caught:
        with writing("run"):
            raise error
    assert "\n" not in str(caught.value) and "[Errno" not in str(caught.value)


def test_what_is_behind_an_error_counts():
    with pytest.raises(CannotWrite, match="No space left"), writing("run"):
        try:
            _full()
        except OSError as error:
            raise ValueError("checkpoint failed") from error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such step"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "run/x"),
        PermissionError(errno.EACCES, "Permission denied", "/data/mnist/train.gz"),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, writing("/runs/run"):
        raise error
    assert caught.value is error


def test_files_name_themselves_and_stay_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    atomic.replace_file(path, b"old")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(CannotWrite, match="run.json cannot be written: No space left"):
        atomic.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    cache = on_disk(tmp_path / "cache")
    monkeypatch.setattr("safetensors.numpy.save_file", _full)
    with pytest.raises(CannotWrite, match=r"cache/x-\w+.safetensors cannot be written"):
        cache("x", {}, lambda: {"a": np.zeros(3)})
    assert not list((tmp_path / "cache").glob("*x*"))


def test_too_little_space_is_of_the_same_kind():
    assert issubclass(NotEnoughSpace, CannotWrite)
