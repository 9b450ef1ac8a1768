import os

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax.data import DataError, from_arrays, load
from ddjax.data.stored import StoredInputs
from tests.data.files import write_images

RAW = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 3), np.uint8)
CHOSEN = np.array([0, 2, 3, 5, 6, 8])


def stored():
    """Inputs in files, the array that they are, and what was read of it."""
    reads = []

    def read(indices):
        assert (np.diff(indices) > 0).all()
        reads.append(indices.tolist())
        return RAW[indices]

    inputs = StoredInputs(read, CHOSEN, shape=RAW.shape[1:], unit=255.0)
    return inputs, (RAW[CHOSEN] / np.float32(255)).astype(np.float32), reads


def both(tmp_path, **settings):
    """A folder's images in memory and in their files."""
    folder = write_images(tmp_path / "images", classes=("ant", "bee"), count=20)
    keywords = dict(directory=folder, preprocessing="none", **settings)
    return (load("folder", on_device=where, **keywords) for where in (False, "files"))


@given(
    st.one_of(
        st.integers(-6, 5),
        st.slices(6),
        st.lists(st.integers(-6, 5), max_size=8).map(lambda x: np.array(x, np.int64)),
        st.lists(st.booleans(), min_size=6, max_size=6).map(np.array),
    )
)
def test_indexing_is_numpys(rows):
    inputs, array, _ = stored()
    np.testing.assert_array_equal(inputs[rows], array[rows])
    assert inputs[rows].dtype == np.float32


def test_it_looks_like_an_array():
    inputs, array, reads = stored()
    assert (inputs.shape, inputs.ndim, len(inputs)) == (array.shape, array.ndim, 6)
    assert (inputs.dtype, inputs.nbytes) == (array.dtype, array.nbytes)
    assert np.shape(inputs) == array.shape and "6, 2, 3, 3" in repr(inputs)
    assert not reads
    np.testing.assert_array_equal(np.asarray(inputs), array)
    np.testing.assert_array_equal(jax.numpy.asarray(inputs), array)
    assert np.asarray(inputs, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        inputs.__array__(copy=False)


def test_only_what_is_asked_for_is_read_and_once():
    inputs, _, reads = stored()
    inputs[np.array([4, 1, 4])]
    assert reads == [[2, 6]]
    assert inputs[:0].shape == (0, 2, 3, 3) and len(reads) == 1
    for rows in (np.zeros((2, 2), np.int64), (0, 1)):
        with pytest.raises(IndexError):
            inputs[rows]
    with pytest.raises(IndexError, match="6"):
        inputs[6]


def test_a_folder_in_its_files_is_the_folder(tmp_path):
    here, there = both(tmp_path, seed=3, limit=24)
    for split in ("train", "validation", "test"):
        one, other = getattr(here, split), getattr(there, split)
        assert isinstance(other.inputs, StoredInputs)
        np.testing.assert_array_equal(one.inputs, np.asarray(other.inputs))
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.targets is None and other.targets is None
    assert here.source == there.source and here.class_names == there.class_names
    assert there.preprocessing.kind == "none"


@pytest.mark.parametrize("x64", [False, True])
def test_inputs_are_of_the_default_float(x64, tmp_path):
    with jax.enable_x64(x64):
        here, there = (problem.test.inputs for problem in both(tmp_path))
        assert there.dtype == there[:1].dtype == (np.float64 if x64 else np.float32)
        assert there.dtype == here.dtype and there.nbytes == here.nbytes
        np.testing.assert_array_equal(here, np.asarray(there))


def test_the_fingerprint_follows_the_files(tmp_path):
    _, first = both(tmp_path)
    folder = tmp_path / "images"

    def again(**settings):
        keywords = dict(directory=folder, preprocessing="none", on_device="files")
        return load("folder", **keywords | settings).fingerprint

    assert again() == first.fingerprint
    assert again(seed=1) != first.fingerprint
    os.utime(folder / "ant" / "3.png", ns=(1, 1))
    assert again() != first.fingerprint


def test_data_in_memory_have_no_files():
    arrays = np.zeros((30, 4, 4, 3), np.uint8), np.arange(30) % 3
    with pytest.raises(DataError, match="sample by sample"):
        from_arrays(arrays, preprocessing="none", on_device="files")
    with pytest.raises(DataError, match="preprocessing 'standardize'"):
        from_arrays(arrays, on_device="files")
    with pytest.raises(DataError, match="'auto' or 'files'"):
        from_arrays(arrays, preprocessing="none", on_device="disk")


def test_a_broken_file_is_named_when_it_is_read(tmp_path):
    _, problem = both(tmp_path)
    for path in sorted((tmp_path / "images" / "bee").glob("*.png")):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"bee.*\.png: "):
        np.asarray(problem.train.inputs)
