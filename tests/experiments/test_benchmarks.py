"""The benchmarks run, agree with each other and leave records; nothing is timed."""

import json

import numpy as np
import pytest

from experiments import records
from experiments.benchmarks import common, gram, ridge


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


def test_table_aligns():
    text = common.table(["name", "x"], [("long name", 0.12345), ("s", 12)])
    assert text.splitlines() == [
        "name       x    ",
        "long name  0.123",
        "s          12   ",
    ]


def test_matrix_products_count_their_operations():
    for work in common.matrix_products(size=8).values():
        assert work.operations == 1024
        assert np.shape(work.call()) == (8, 8)


def test_ridge_contenders_agree_and_leave_a_record(tmp_path, capsys):
    path = ridge.main(["--toy", "--repeats=1", f"--directory={tmp_path}"])
    assert path == tmp_path / "benchmarks" / "ridge.json"
    (record,) = records.read_records(tmp_path)
    entries = record["results"]["entries"]
    assert {(e["problem"], e["quantity"]) for e in entries} == {
        (problem, quantity)
        for problem in ("features", "kernel")
        for quantity in ("solution", "gradient")
    }
    for entry in entries:
        assert set(entry["seconds"]) == {
            "ddjax",
            "jnp.linalg.solve",
            "lineax",
            "scipy",
        }
        assert entry["disagreement"] < 1e-4, entry
        assert entry["times_ours"]["ddjax"] == 1.0
    assert record["reduced"] == "toy shapes"
    assert "jnp.linalg.solve / ours" in capsys.readouterr().out


def test_gram_leaves_a_record(tmp_path, capsys):
    path = gram.main(["--toy", "--repeats=1", f"--directory={tmp_path}"])
    (record,) = records.read_records(tmp_path)
    assert json.loads(path.read_text()) == record
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
    assert "peak MiB" in capsys.readouterr().out


def test_feature_operations_by_hand():
    fully_connected = gram.random_features.fully_connected(depth=2, width=3)
    assert gram._feature_operations(fully_connected, 5, 7) == 2 * 5 * 7 * (784 * 3 + 9)
    convolutional = gram.random_features.convolutional(depth=2, width=3)
    taps = 9 * (28 * 28 * 1 * 3 + 14 * 14 * 3 * 3)
    assert gram._feature_operations(convolutional, 5, 1) == 2 * 5 * taps


@pytest.mark.slow
def test_blocked_peak_does_not_grow_with_n():
    sizes = gram.TOY._replace(rows=(20_000, 80_000), in_one_piece=(80_000,))
    peak = {(e["form"], e["rows"]): e["peak_mib"] for e in gram.peaks(sizes)}
    for form in ("statistics", "kernel"):
        # The allocator keeps a little more of what was freed; the rows do not stay.
        assert peak[form, 80_000] < 1.15 * peak[form, 20_000]
    assert peak["in_one_piece", 80_000] > 2 * peak["statistics", 80_000]
