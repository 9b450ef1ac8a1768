import numpy as np
import pytest

from ddjax.data import DataError, MissingDataError, from_arrays, load

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
LABELS = np.arange(40) % 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_arrays_of_a_file_are_those_from_memory(save, tmp_path):
    save(
        tmp_path / "x.npz",
        x_train=IMAGES,
        y_train=LABELS,
        x_test=IMAGES[:9],
        y_test=LABELS[:9],
        class_names=np.array(["no", "yes"]),
    )
    problem = load("npz:x.npz", directory=tmp_path)
    same = from_arrays(
        (IMAGES, LABELS), (IMAGES[:9], LABELS[:9]), class_names=("no", "yes")
    )
    assert problem.fingerprint == same.fingerprint
    assert problem.class_names == ("no", "yes")


def test_without_test_data_they_are_cut_out_and_without_labels_there_are_none(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=IMAGES, y_train=LABELS)
    problem = load(f"npz:{tmp_path / 'x.npz'}")
    assert problem.classes == 2 and len(problem.test.inputs) == 8
    np.savez(tmp_path / "x.npz", x_train=IMAGES)
    problem = load("npz:x.npz", directory=tmp_path)
    assert problem.class_names is None and problem.train.labels is None


@pytest.mark.parametrize(
    "content, message",
    [
        (dict(y_train=LABELS), "no array 'x_train'"),
        (dict(x_train=IMAGES, y_test=LABELS), "'y_test' without 'x_test'"),
        (dict(x_train=IMAGES, labels=LABELS), "unknown array 'labels'"),
        (dict(x_train=np.array([{}, 1], object)), "Python objects"),
        (dict(x_train=IMAGES * np.nan, y_train=LABELS), "sample 0 has NaN"),
    ],
)
def test_wrong_contents_are_named(content, message, tmp_path):
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(DataError, match=f"x.npz.*{message}"):
        load("npz:x.npz", directory=tmp_path)


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x_train=IMAGES, y_train=LABELS)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", b"PK\3\4", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="x.npz: not an .npz file, or a broken one"):
            load("npz:x.npz", directory=tmp_path)
    with pytest.raises(MissingDataError, match="y.npz: no such file"):
        load("npz:y.npz", directory=tmp_path)
    np.save(path.with_suffix(".npy"), IMAGES)
    with pytest.raises(DataError, match="a single array"):
        load("npz:x.npy", directory=tmp_path)


def test_floats_that_could_be_classes_need_the_task(tmp_path):
    path = tmp_path / "x.npz"
    names = np.array([b"no", "já".encode()])
    np.savez(path, x_train=IMAGES, y_train=LABELS.astype(np.float32))
    with pytest.raises(DataError, match="x.npz: train.*task='classification' or task"):
        load("npz:x.npz", directory=tmp_path)
    numbers = load("npz:x.npz", directory=tmp_path, task="regression")
    assert numbers.class_names is None and numbers.train.targets.shape == (29, 1)
    with pytest.raises(DataError, match="task is only for npz; 'digits' takes no task"):
        load("digits", task="classification")
    np.savez(path, x_train=IMAGES, y_train=LABELS / 1.0, class_names=names)
    classes = load("npz:x.npz", directory=tmp_path, task="classification")
    assert classes.class_names == ("no", "já")
