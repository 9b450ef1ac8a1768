"""The benchmark of the inner iterate runs, its forms agree, and it leaves a record."""

import numpy as np
import pytest

from experiments import records
from experiments.benchmarks import unrolled


def test_unrolled_forms_agree_and_leave_a_record(tmp_path, capsys):
    path = unrolled.main(["--toy", "--repeats=1", f"--directory={tmp_path}"])
    assert path == tmp_path / "benchmarks" / "unrolled.json"
    (record,) = records.read_records(tmp_path)
    results, sizes = record["results"], unrolled.TOY
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
    assert record["reduced"] == "toy shapes"
    assert "scan / doubling" in capsys.readouterr().out


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
