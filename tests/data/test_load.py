import doctest
import importlib
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddjax import data
from ddjax.data import DataError, preprocess
from ddjax.data.options import Options, check_options
from tests.data.files import write_mnist
from tests.memory import peak_of

GENERATOR = np.random.default_rng(0)


def row_numbers(count, labels, **options):
    """Which rows are in which split: the inputs are their own numbers."""
    rows = np.arange(count, dtype=np.float32)[:, None]
    problem = data.from_arrays((rows, labels), **options)
    back = [
        np.asarray(preprocess.invert(problem.preprocessing, np.asarray(split.inputs)))
        for split in (problem.train, problem.validation, problem.test)
    ]
    return problem, [np.round(b[:, 0]).astype(int) for b in back]


def test_digits_are_always_there():
    problem = data.load("digits")
    assert problem.name == "digits" and problem.classes == 10
    assert problem.train.inputs.shape == (1294, 8, 8, 1)
    assert problem.validation.inputs.shape == (144, 8, 8, 1)
    assert problem.test.inputs.shape == (359, 8, 8, 1)
    assert isinstance(problem.train.inputs, jax.Array)
    assert problem.train.inputs.dtype == jnp.float32
    assert problem.train.labels.dtype == jnp.int32 and problem.train.targets is None
    natural = preprocess.invert(problem.preprocessing, problem.train.inputs)
    assert -1e-6 <= natural.min() and natural.max() <= 1 + 1e-6
    # The statistics are those of the training split alone.
    assert abs(float(problem.train.inputs.mean())) < 1e-5
    assert abs(float(problem.train.inputs.std()) - 1) < 1e-5
    assert abs(float(problem.test.inputs.mean())) > 1e-5


def test_the_digits_splits_do_not_move():
    # Golden: stored results refer to this fingerprint.
    assert data.load("digits").fingerprint.startswith("ac8ee554e8642bc4")


def test_the_linear_problem_is_drawn_from_its_seed():
    natural = {"preprocessing": "none", "standardize_targets": False}
    one, again, other = (
        data.load(name, **natural) for name in ("linear", "linear:0", "linear:1")
    )
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert one.train.inputs.shape == (800, 100) and one.test.targets.shape == (200, 1)
    fitted = np.linalg.lstsq(one.train.inputs, one.train.targets)[0]
    residual = np.asarray(one.test.targets) - np.asarray(one.test.inputs) @ fitted
    assert 0.09 < residual.std() < 0.12
    with pytest.raises(DataError, match="linear:SEED.*'x'"):
        data.load("linear:x")


@given(
    st.lists(st.integers(5, 25), min_size=2, max_size=4),
    st.floats(0.05, 0.6),
    st.integers(0, 2**40),
)
def test_splits_are_disjoint_complete_and_hold_every_class(sizes, validation, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(sizes)), sizes))
    problem, rows = row_numbers(len(labels), labels, validation=validation, seed=seed)
    assert sorted(np.concatenate(rows)) == list(range(len(labels)))
    for split, chosen in zip(problem[1:4], rows, strict=True):
        assert np.array_equal(labels[chosen], split.labels)
        assert set(np.asarray(split.labels).tolist()) == set(range(len(sizes)))


def test_the_seed_moves_validation_and_not_test():
    labels = np.arange(100) % 4
    _, first = row_numbers(100, labels, seed=0)
    _, second = row_numbers(100, labels, seed=1)
    assert np.array_equal(first[2], second[2])
    assert not np.array_equal(first[1], second[1])


def test_splits_and_fingerprint_do_not_depend_on_the_preprocessing():
    problems = [data.load("digits", preprocessing=kind) for kind in preprocess.KINDS]
    assert len({p.fingerprint for p in problems}) == 1
    for problem in problems[1:]:
        for split, other in zip(problem[1:4], problems[0][1:4], strict=True):
            assert np.array_equal(split.labels, other.labels)
            natural = preprocess.invert(problem.preprocessing, split.inputs)
            np.testing.assert_allclose(natural, other.inputs, atol=1e-5)


def test_the_fingerprint_depends_on_data_splits_and_classes():
    base = data.load("digits").fingerprint
    options = [{"seed": 1}, {"limit": 500}, {"classes": (0, 1)}, {"validation": 0.2}]
    assert len({base, *(data.load("digits", **o).fingerprint for o in options)}) == 5
    images, labels = GENERATOR.random((30, 4)), np.arange(30) % 2
    changed = images.copy()
    changed[29, 3] += 1e-3
    first = data.from_arrays((images, labels)).fingerprint
    assert data.from_arrays((images, labels)).fingerprint == first
    assert data.from_arrays((changed, labels)).fingerprint != first
    assert data.from_arrays((images, 1 - labels)).fingerprint != first


def test_blocks_do_not_change_the_result(monkeypatch):
    whole = data.load("digits", preprocessing="zca")
    monkeypatch.setattr(preprocess, "_BLOCK_BYTES", 100 * 64 * 8)
    blocks = data.load("digits", preprocessing="zca")
    assert whole.fingerprint == blocks.fingerprint
    np.testing.assert_allclose(whole.test.inputs, blocks.test.inputs, atol=1e-5)


def test_class_subsets_are_relabelled_in_the_order_given():
    problem = data.load("digits", classes=(7, "3"))
    assert problem.class_names == ("7", "3") and problem.classes == 2
    every = data.load("digits", preprocessing="none")
    assert set(np.asarray(problem.train.labels).tolist()) == {0, 1}
    sevens = preprocess.invert(problem.preprocessing, problem.test.inputs)[
        np.asarray(problem.test.labels) == 0
    ]
    expected = np.asarray(every.test.inputs)[np.asarray(every.test.labels) == 7]
    np.testing.assert_allclose(sevens, expected, atol=1e-6)


@pytest.mark.parametrize("limit", [20, 100, 5000])
def test_limit_bounds_training_and_test(limit):
    problem = data.load("digits", limit=limit)
    used = len(problem.train.inputs) + len(problem.validation.inputs)
    assert used == min(limit, 1438) and len(problem.test.inputs) == min(limit, 359)
    for split in problem[1:4]:
        assert set(np.asarray(split.labels).tolist()) == set(range(10))


def test_the_source_is_recorded_as_json():
    problem = data.load("digits", classes=(0, 1), preprocessing="zca", zca_ridge=0.2)
    record = json.loads(json.dumps(problem.source))
    assert record["classes"] == [0, 1] and record["seed"] == 0
    assert record["preprocessing"]["kind"] == "zca"
    assert record["preprocessing"]["zca_ridge"] == 0.2
    assert record["counts"]["train"] == len(problem.train.inputs)


def test_where_the_arrays_live():
    assert isinstance(data.load("digits", on_device=True).train.inputs, jax.Array)
    host = data.load("digits", on_device=False)
    assert isinstance(host.train.inputs, np.ndarray)
    assert host.train.inputs.dtype == np.float32
    assert isinstance(host.train.labels, np.ndarray)
    assert host.train.labels.dtype == np.int32
    small = data.load("digits", device_budget=1797 * 64 * 4 - 1)
    assert isinstance(small.test.inputs, np.ndarray)
    assert isinstance(
        data.load("digits", device_budget=1797 * 64 * 4).test.inputs, jax.Array
    )


def test_scratch_files_hold_what_does_not_fit_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "_BLOCK_BYTES", 2**17)
    labels = np.arange(4000) % 2
    inputs = np.lib.format.open_memmap(
        tmp_path / "x.npy", "w+", np.float32, (4000, 512)
    )
    inputs[:] = GENERATOR.random((4000, 512), np.float32)

    def make(count):
        pair, scratch = (inputs[:count], labels[:count]), tmp_path / "scratch"
        return data.from_arrays(pair, on_device=False, scratch=scratch)

    _, small = peak_of(lambda: make(500))
    problem, large = peak_of(lambda: make(4000))
    assert isinstance(problem.train.inputs, np.memmap)
    assert large < small + 1_000_000 < 4000 * 512 * 4 / 3
    in_memory = data.from_arrays((np.asarray(inputs), labels))
    np.testing.assert_array_equal(problem.test.inputs, in_memory.test.inputs)
    assert problem.fingerprint == in_memory.fingerprint


def test_the_directory_comes_from_the_environment(tmp_path, monkeypatch):
    write_mnist(tmp_path / "here" / "mnist")
    monkeypatch.setenv("DDJAX_DATA_DIR", str(tmp_path / "here"))
    assert data.load("mnist").classes == 10
    monkeypatch.delenv("DDJAX_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.MissingDataError, match="local_data/mnist"):
        data.load("mnist")


ERRORS = {
    "typo": ("mnits", "did you mean 'mnist'.*Known: .*cifar10"),
    "dash": ("Fashion-MNIST", "did you mean 'fashion_mnist'"),
    "unknown": ("imagenet21k_full", "Known: .*cifar10, cifar100, .*digits, .*fashion"),
    "arrays": ("arrays", "from_arrays"),
    "argument": ("mnist:x", "did you mean 'mnist'"),
    "no argument": ("npz", "'npz:NAME'"),
    "image_size": ("digits", "image_size is only for folder, tfd", {"image_size": 8}),
    "bad size": ("folder", r"image_size=\(8, 0\)", {"image_size": (8, 0)}),
    "channels": ("digits", "channels is only for folder", {"channels": 1}),
    "two channels": ("folder", "channels=2; it is 1", {"channels": 2}),
    "class": ("digits", r"no class 10 in .*0 \(0\), 1 \(1\)", {"classes": (0, 10)}),
    "negative": ("digits", "no class -1", {"classes": (0, -1)}),
    "one class": ("digits", "at least two different", {"classes": (3,)}),
    "repeated": ("digits", "at least two different", {"classes": (3, "3")}),
    "string": ("digits", "give a sequence", {"classes": "01"}),
    "none held out": ("digits", r"validation=0.0; .*\(0, 1\)", {"validation": 0.0}),
    "all held out": ("digits", "validation=1.0", {"validation": 1.0}),
    "limit": ("digits", "limit=0; it is a positive integer", {"limit": 0}),
    "small limit": ("digits", "it must be at least 20", {"limit": 19}),
    "seed": ("digits", "seed=-1", {"seed": -1}),
    "kind": ("digits", "known: none, standardize, zca", {"preprocessing": "pca"}),
    "ridge": (
        "digits",
        "zca_ridge is -1.0",
        {"preprocessing": "zca", "zca_ridge": -1.0},
    ),
    "device": ("digits", "True, False, 'auto' or 'files'", {"on_device": "gpu"}),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_value_and_what_is_allowed(case, tmp_path):
    name, message, *options = ERRORS[case]
    with pytest.raises(DataError, match=message):
        data.load(name, directory=tmp_path, **dict(*options))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"classes": 2}, "give a sequence"),
        ({"validation": "0.1"}, "validation='0.1'"),
        ({"limit": 1e3}, "limit=1000.0"),
        ({"limit": True}, "limit=True"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"zca_ridge": "a"}, "zca_ridge='a'; it is a positive number"),
        ({"device_budget": "1"}, "device_budget='1'; it is a number of bytes"),
        ({"seed": 2**64}, r"an integer from 0 to 2\*\*64 - 1"),
    ],
)
def test_options_of_the_wrong_type(wrong, message):
    right = Options(None, 0.1, 0, "none", 0.1, None, "auto", 0, None)
    found = check_options(right._replace(seed=np.int64(0), limit=np.int32(20)))
    assert found == right._replace(limit=20) and type(found.limit) is int
    with pytest.raises(DataError, match=message):
        check_options(right._replace(**wrong))


def test_regression_has_no_classes_to_choose():
    with pytest.raises(DataError, match="has no classes"):
        data.from_arrays((np.ones((9, 2)), np.arange(9.0)), classes=(0, 1))


def test_nothing_is_ever_unpickled(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    trap = pickle.dumps(Trap())
    names = ["mnist/train-images-idx3-ubyte", "x.npz", "cifar10/cifar-10-batches-py/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(trap)
    for name in ("mnist", "npz:x.npz", "cifar10"):
        with pytest.raises(DataError):
            data.load(name, directory=tmp_path)


def test_doctests():
    module = importlib.import_module("ddjax.data.load")
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0
