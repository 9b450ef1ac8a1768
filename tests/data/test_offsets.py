"""Columns far from zero: what varies keeps its digits, or a warning says that not."""

import warnings

import numpy as np
import pytest

from ddjax import data, synthetic
from ddjax.data import Columns, from_arrays, preprocess
from ddjax.evaluation.matching import matched_problem, same_preprocessing

GENERATOR = np.random.default_rng(0)
VARYING = GENERATOR.normal(size=(60, 2))
LABELS = np.arange(60) % 2
COLUMNS = Columns(("time", "b"), ("y",), {})


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def shifted(offset, kind):
    if kind == "csv":
        return offset + np.round(VARYING, 3)
    whole = np.dtype(kind).kind == "i"
    return (offset + (np.rint(100 * VARYING) if whole else VARYING)).astype(kind)


@pytest.mark.parametrize("kind", [np.float64, np.longdouble, np.int32, np.int64, "csv"])
def test_offsets_cost_no_digits(kind, tmp_path):
    near, far = shifted(0, kind), shifted(1e8, kind)
    if kind == "csv":
        path = tmp_path / "a.csv"
        rows = np.c_[far, far[:, :1]].tolist()
        text = "\n".join(",".join(map(repr, row)) for row in rows)
        path.write_text(f"time,b,y\n{text}\n")
        problem = data.load(f"table:{path}", table={"target": "y"})
    else:
        problem = from_arrays((far, far[:, :1]), task="regression", columns=COLUMNS)
    expected = from_arrays((near, near[:, :1]), task="regression")
    for one, other in zip(problem[1:4], expected[1:4], strict=True):
        np.testing.assert_allclose(one.inputs, other.inputs, atol=2e-5)
        np.testing.assert_allclose(one.targets, other.targets, atol=2e-5)
    assert problem.source["preprocessing"]["constant_channels"] == []
    # Back in natural units, of inputs and of targets.
    back = preprocess.invert(problem.preprocessing, np.asarray(problem.train.inputs))
    gaps = np.abs(back[:, None] - far.astype(np.float64)).max(axis=2)
    assert gaps.min(axis=1).max() < 1e-6 * VARYING.std() * 100
    targets = preprocess.invert(
        problem.targets_preprocessing, np.asarray(problem.train.targets)
    )
    np.testing.assert_allclose(targets[:, 0], back[:, 0], rtol=1e-14, atol=1e-4)


def test_what_is_left_without_digits_is_warned_of():
    far = 1e8 + VARYING
    with pytest.warns(UserWarning, match=r"'time' \(varies by 0.*float32.*'standard"):
        problem = from_arrays(
            (np.c_[far[:, 0], VARYING[:, 0]], VARYING[:, :1]),
            preprocessing="none",
            columns=COLUMNS,
        )
    (record,) = problem.source["preprocessing"]["coarse_channels"]
    assert record["channel"] == 0 and record["dtype"] == "float32"
    with pytest.warns(UserWarning, match="target 0 .*standardize_targets=True"):
        from_arrays((VARYING, far[:, 0]), standardize_targets=False)
    with pytest.warns(UserWarning, match="feature 1 .*give it as float64"):
        far32 = np.c_[VARYING[:, 0], 1e7 + VARYING[:, 1]].astype(np.float32)
        from_arrays((far32, LABELS))
    stamps = 1_700_000_000_000_000_000 + (1000 * VARYING).astype(np.int64)
    with pytest.warns(UserWarning, match="feature 0 .*feature 1 .*float64 keeps fewer"):
        from_arrays((stamps, LABELS))
    with pytest.warns(UserWarning, match="feature 4 .* and 4 more: float32 keeps"):
        from_arrays((np.repeat(far[:, :1], 9, axis=1), LABELS), preprocessing="none")


@pytest.mark.parametrize("kind", preprocess.KINDS)
def test_usual_columns_are_not_warned_of(kind):
    years = np.c_[2000 + 5 * VARYING[:, 0], 1e-3 * VARYING[:, 1]]
    from_arrays((years, LABELS), preprocessing=kind)
    from_arrays((np.c_[years, np.full(60, 1e8)], LABELS), preprocessing=kind)


def test_a_constant_column_far_from_zero_is_constant():
    values = np.c_[VARYING[:, 0], np.full(60, 1e15 / 3)]
    problem = from_arrays((values, LABELS))
    assert problem.source["preprocessing"]["constant_channels"] == [1]
    assert not np.asarray(problem.train.inputs)[:, 1].any()


def table(offset):
    far = offset + VARYING
    return from_arrays((far, far[:, :1]), columns=COLUMNS)


def distilled(problem):
    return synthetic.distilled_set(
        {
            "inputs": np.asarray(problem.train.inputs[:5]),
            "targets": np.asarray(problem.train.targets[:5]),
        },
        synthetic.pixels(),
        problem,
        recipe={"targets_kind": "regression"},
        labels=None,
    )


def test_a_saved_set_keeps_the_digits(tmp_path):
    found = distilled(table(1e8))
    loaded = synthetic.load(synthetic.save(tmp_path / "set", found))
    near = distilled(table(0.0))
    for one, other in (
        (synthetic.natural_inputs(loaded), synthetic.natural_inputs(near)),
        (
            synthetic.natural_regression_targets(loaded),
            synthetic.natural_regression_targets(near),
        ),
    ):
        np.testing.assert_allclose(one - 1e8, other, atol=1e-5)
    path = synthetic.to_csv(tmp_path / "a.csv", loaded)
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    np.testing.assert_allclose(
        rows[:, :2] - 1e8, synthetic.natural_inputs(near), atol=1e-5
    )
    from safetensors.numpy import load_file

    tensors = load_file(synthetic.to_torch_safetensors(tmp_path / "a.st", loaded))
    np.testing.assert_array_equal(tensors["mean"], found.preprocessing.mean)
    assert tensors["inputs"].dtype == np.float32


def test_means_that_differ_by_less_than_float32_holds_are_told_apart():
    one, other = table(1e8), table(1e8 + 5)
    assert not same_preprocessing(one.preprocessing, other.preprocessing)
    assert same_preprocessing(one.preprocessing, table(1e8).preprocessing)
    rounded = one.preprocessing._replace(mean=np.float32(one.preprocessing.mean))
    assert same_preprocessing(one.preprocessing, rounded)
    mapped = matched_problem(distilled(one), other, "test")
    np.testing.assert_allclose(
        np.asarray(mapped.test.inputs),
        np.asarray(one.test.inputs) + 5 / one.preprocessing.std,
        rtol=1e-5,
    )
