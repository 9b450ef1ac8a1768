"""The log: rows in order, none twice, always JSON."""

import json

import pytest

from ddjax.runtime.metrics import MetricsLog, read


def _write(workdir, step, rows):
    log = MetricsLog(workdir, step=step)
    for row in rows:
        log.write({"step": row, "seconds": row / 10, "loss": 1.0 / (row + 1)})
    log.close()


def test_later_rows_are_dropped(tmp_path):
    _write(tmp_path, -1, range(6))
    path = tmp_path / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 6, "los')
    assert [row["step"] for row in read(path)] == list(range(6))
    _write(tmp_path, 3, range(4, 8))
    assert [row["step"] for row in read(path)] == list(range(8))
    _write(tmp_path, -1, [0])
    assert read(path) == [{"step": 0, "seconds": 0.0, "loss": 1.0}]


def test_not_finite_is_null(tmp_path):
    log = MetricsLog(tmp_path, step=-1)
    log.write({"step": 1, "seconds": 0.0, "loss": float("inf"), "x": float("nan")})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["loss"] is None


def test_damaged_lines_are_named_and_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"loss": 2}\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2 .*\{'loss': 2\}"):
        read(path)
    with pytest.warns(UserWarning, match="line 2"):
        MetricsLog(tmp_path, step=9).close()
    assert read(path) == [{"step": 1}]
    path.write_bytes(b'{"step": 1}\n\x00\x00\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read(path)


def test_tensorboard_holds_the_scalars(tmp_path):
    _write(tmp_path, -1, range(3))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()
