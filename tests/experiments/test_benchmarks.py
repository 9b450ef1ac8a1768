"""The benchmarks run, agree with each other and leave records; nothing is timed."""

import importlib.util

import numpy as np
import pytest

from experiments import records
from experiments.benchmarks import (
    blocked_gram,
    common,
    condensation_step,
    encoder_step,
    paired_steps,
    student_step,
    torch_encoders,
)
from tests.experiments import in_process

against_libraries, against_torch, gram, ridge, unrolled = (
    in_process.load(f"benchmarks.{name}")
    for name in ("against_libraries", "against_torch", "gram", "ridge", "unrolled")
)


def recorded(name, folder, capsys, *given, command=None):
    """The record of that name that a benchmark leaves at toy size."""
    toy = ("--toy", "--repeats=1", f"--directory={folder}", *given)
    ended = in_process.run(f"benchmarks.{command or name}", *toy, capsys=capsys)
    assert ended.status == 0 and f"\nTable {name}:\n\n| " in ended.out
    (record,) = records.read_records(folder)
    assert record["name"] == f"benchmarks/{name}"
    assert record["reduced"] == "toy shapes"
    return record


def test_contenders_take_turns():
    calls = []
    timings = common.time_in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repeats=3,
        warmups=2,
    )
    assert calls == ["a", "b"] * 5
    assert [t.repeats for t in timings.values()] == [3, 3]
    assert all(t.fastest <= t.median <= t.slowest for t in timings.values())
    assert common.ratios(timings, base="a")["a"] == 1.0
    with pytest.raises(ValueError, match="repeats is 0"):
        common.time_in_turns({}, repeats=0)


def test_matrix_products_count_their_operations():
    for work in common.matrix_products(size=8).values():
        assert work.operations == 1024
        assert np.shape(work.call()) == (8, 8)


def test_ridge_contenders_agree_and_leave_a_record(tmp_path, capsys):
    entries = recorded("ridge", tmp_path, capsys)["results"]["entries"]
    assert {(e["problem"], e["quantity"]) for e in entries} == {
        (problem, quantity)
        for problem in ("features", "kernel")
        for quantity in ("solution", "gradient")
    }
    for entry in entries:
        assert set(entry["seconds"]) == {"ddjax", "jnp.linalg.solve", "lineax", "scipy"}
        assert entry["disagreement"] < 1e-4, entry
        assert entry["times_ours"]["ddjax"] == 1.0


def test_solvers_and_kernels_agree_with_other_libraries(tmp_path, capsys, monkeypatch):
    for cases in (against_libraries.SOLVERS, against_libraries.KERNELS):
        for name in list(cases)[1:]:
            monkeypatch.delitem(cases, name)
    solver, kernel = recorded("against_libraries", tmp_path, capsys)["results"][
        "entries"
    ]
    assert set(solver["times_ours"]) == {"ddjax", "scikit-learn"}
    assert all(-1e-12 < far <= 1e-5 for far in solver["from_the_optimum"].values())
    assert set(kernel["times_ours"]) == {"ddjax", "neural-tangents"}
    assert kernel["disagreement"] < 1e-3


def test_gram_leaves_a_record(tmp_path, capsys, monkeypatch):
    in_a_process = gram.peak

    def peak(form, rows):
        # One process is enough to see that it can be asked.
        if form == "kernel":
            return in_a_process(form, rows)
        return blocked_gram.measure(rows=rows, form=form)

    monkeypatch.setattr(gram, "peak", peak)
    record = recorded("gram", tmp_path, capsys)
    rates = record["results"]["rates"]
    assert {"jnp.matmul", "np.matmul"} <= set(rates)
    assert len(rates) == 6
    assert all(rate["fraction"] > 0 for rate in rates.values())
    memory = record["results"]["memory"]
    assert [(e["form"], e["rows"]) for e in memory] == [
        ("statistics", 600),
        ("kernel", 600),
        ("in_one_piece", 600),
    ]
    assert all(e["peak_mib"] >= e["before_mib"] > 0 for e in memory)
    assert memory[0]["checksum"] == pytest.approx(memory[2]["checksum"], rel=1e-5)


def test_feature_operations_by_hand():
    fully_connected = gram.random_features.fully_connected(depth=2, width=3)
    assert gram._feature_operations(fully_connected, 5, 7) == 2 * 5 * 7 * (784 * 3 + 9)
    convolutional = gram.random_features.convolutional(depth=2, width=3)
    taps = 9 * (28 * 28 * 1 * 3 + 14 * 14 * 3 * 3)
    assert gram._feature_operations(convolutional, 5, 1) == 2 * 5 * taps


def test_unrolled_forms_agree_and_leave_a_record(tmp_path, capsys):
    results = recorded("unrolled", tmp_path, capsys)["results"]
    sizes = unrolled.TOY
    entries = results["against_steps"]
    assert [(e["draws"], e["steps"]) for e in entries] == [
        *((1, steps) for steps in sizes.steps),
        *((sizes.draws, steps) for steps in sizes.steps_with_draws),
    ]
    for entry in entries:
        assert set(entry["seconds"]) == {"scan", "doubling", "spectral"}
        assert entry["disagreement"] < 1e-5, entry
        assert entry["scan_over"]["doubling"] > 0
    assert [e["rows"] for e in results["against_rows"]] == list(sizes.rows)
    assert results["against_rows"][0]["seconds_from_rows"]["repeats"] == 1
    assert results["against_rows"][1]["seconds_from_rows"] is None
    assert set(results["most_over_least_steps"]) == {"scan", "doubling", "spectral"}


def test_statistics_and_rows_give_the_same_step():
    sizes = unrolled.TOY
    key = unrolled.jax.random.key(3)
    n = sizes.rows_in_memory[0]
    statistics = unrolled.ridge.streamed_statistics(unrolled._blocks(key, n, sizes))
    rows = [
        np.concatenate(part)
        for part in zip(*unrolled._blocks(key, n, sizes), strict=True)
    ]
    assert len(rows[0]) == n == int(statistics.count)
    distilled, starts, step_size = unrolled._start(sizes, 1, 0)
    (mine, value), (other, wanted) = (
        unrolled._compiled("doubling", loss)(
            distilled, starts, data, step_size, unrolled.jnp.asarray(sizes.inner)
        )
        for data, loss in (
            (statistics, unrolled._loss_from_statistics),
            (tuple(rows), unrolled._loss_from_rows),
        )
    )
    assert float(value) == pytest.approx(float(wanted), rel=1e-4)
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_blocked_peak_does_not_grow_with_n():
    cases = [(form, rows) for form in blocked_gram.FORMS for rows in (20_000, 80_000)]
    peak = {each: gram.peak(*each)["peak_mib"] for each in cases}
    for form in ("statistics", "kernel"):
        # The allocator keeps a little more of what was freed; the rows do not stay.
        assert peak[form, 80_000] < 1.15 * peak[form, 20_000]
    assert peak["in_one_piece", 80_000] > 2 * peak["statistics", 80_000]


@pytest.mark.torch
@pytest.mark.parametrize("method", student_step.METHODS)
def test_pytorch_takes_the_same_steps(method, monkeypatch):
    pytest.importorskip("torch")
    # In float32 the published ridge, 1e-6 of the trace, leaves few digits to compare.
    monkeypatch.setattr(student_step, "_RIDGE", 1e-2)
    toy = student_step.TOY["toy"]
    runs = {form: student_step.run(form, method, toy) for form in paired_steps.FORMS}
    apart = paired_steps.disagreement(runs, steps=1)
    assert apart["loss"] < 1e-5
    assert apart["learned"] < 1e-4
    assert apart["students"] < 1e-6
    # Later steps see what the first ones learned.
    later = paired_steps.disagreement(runs, steps=2)
    assert later["loss"] < 1e-2 and later["learned"] < 1e-3


@pytest.mark.torch
@pytest.mark.parametrize(
    ("steps", "method"),
    [
        *((condensation_step, method) for method in condensation_step.METHODS),
        *((encoder_step, method) for method in encoder_step.METHODS),
    ],
)
def test_steps_agree_with_pytorch(steps, method):
    pytest.importorskip("torch")
    toy = steps.TOY["toy"]
    runs = {form: steps.run(form, method, toy) for form in paired_steps.FORMS}
    apart = paired_steps.disagreement(runs, steps=1)
    assert apart["loss"] < 1e-4 and apart["learned"] < 1e-4


@pytest.mark.torch
@pytest.mark.parametrize("encoder", torch_encoders.ENCODERS)
def test_encoders_agree_with_pytorch(encoder):
    pytest.importorskip("torch")
    sizes = encoder_step.Sizes(32, classes=1, encoder=encoder)
    runs = {
        form: encoder_step.run(form, "to_pixels", sizes) for form in paired_steps.FORMS
    }
    apart = paired_steps.disagreement(runs, steps=1)
    # Pixels of which a ReLU's input is rounding error have another derivative.
    assert apart["loss"] < 1e-4 and apart["learned"] < 1e-2


@pytest.mark.torch
@pytest.mark.parametrize("name", list(against_torch.STEPS))
def test_comparisons_with_pytorch_leave_a_record(name, tmp_path, capsys):
    pytest.importorskip("torch")
    steps = f"--steps={name}"
    record = recorded(name, tmp_path, capsys, steps, command="against_torch")
    for entry in record["results"]["entries"]:
        assert set(entry["seconds"]) == set(entry["memory"]) == {"ddjax", "PyTorch"}
        assert entry["times_ours"]["ddjax"] == 1.0


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="torch is installed"
)
def test_without_pytorch_the_comparison_says_so(tmp_path, capsys):
    ended = in_process.run(
        "benchmarks.against_torch",
        "--steps=students",
        f"--directory={tmp_path}",
        capsys=capsys,
    )
    assert ended.status != 0
    assert "pip install torch" in ended.err
    assert not any(tmp_path.iterdir())
