"""The command itself, killed, stopped, run twice at once: nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import numpy as np
import pytest

from ddjax import synthetic
from ddjax.runtime import metrics

ROOT = Path(__file__).parent.parent
# Compiled as runs are: the tests' own shortcuts are left out.
SHORTCUTS = ("JAX_", "XLA_FLAGS")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(SHORTCUTS)}
LONG = "--config.train.steps=1000000"


def _start(workdir, *changes):
    command = [
        *(sys.executable, "-m", "experiments.launch", f"--workdir={workdir}"),
        "--config=configs/dgkip/digits.py:runlocal",
        *("--config.train.checkpoint_every=10", "--config.train.evaluate_every=20"),
        *changes,
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _run(workdir, *changes):
    process = _start(workdir, *changes)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def _wait_for_step(process, workdir, step):
    """Until the log has a row of a step that is at least `step`."""
    deadline = time.monotonic() + 240
    log = workdir / "metrics.jsonl"
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run does not get to its steps"
        if log.exists():
            rows = metrics.read(log)
            if rows and rows[-1]["step"] >= step:
                return
        time.sleep(0.005)


def _assert_same_set(one, other):
    first, second = (synthetic.load(folder / "distilled") for folder in (one, other))
    assert synthetic.digest(first) == synthetic.digest(second)
    assert first.provenance == second.provenance
    chex.assert_trees_all_equal(first.stored, second.stored)
    logs = [metrics.read(folder / "metrics.jsonl") for folder in (one, other)]
    for row in logs[0] + logs[1]:
        del row["seconds"]
    assert logs[0] == logs[1]


def test_killed_and_started_again_is_the_same_bit_by_bit(tmp_path):
    steps = "--config.train.steps=40"
    status, out, err = _run(tmp_path / "whole", steps)
    assert status == 0, err
    assert "probe_softmax/accuracy" in out
    random = np.random.default_rng()
    # Beyond step 20 the checkpoint of step 10 is on disk: the next one waits for it.
    killed_at = int(random.integers(21, 36))
    process = _start(tmp_path / "killed", steps)
    _wait_for_step(process, tmp_path / "killed", killed_at)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    status, out, err = _run(tmp_path / "killed", steps)
    assert status == 0, err
    assert "going on from step" in out
    _assert_same_set(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_two_at_once_and_sigterm(tmp_path):
    first = _start(tmp_path, LONG)
    try:
        _wait_for_step(first, tmp_path, 1)
        status, out, err = _run(tmp_path, LONG)
        assert status == 2 and err.count("\n") == 1
        assert f"in use by process {first.pid} on" in err
        first.send_signal(signal.SIGTERM)
        out, err = first.communicate(timeout=120)
    finally:
        first.kill()
    assert first.returncode == 128 + signal.SIGTERM
    assert err.startswith("stopped by SIGTERM at step")
    assert "run the same command again" in err and err.count("\n") == 1
    stopped = int(err.split("at step ")[1].split()[0])
    assert (tmp_path / "checkpoints" / str(stopped)).is_dir()
    last = metrics.read(tmp_path / "metrics.jsonl")[-1]["step"]
    assert last <= stopped < last + 20


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_killed_again_and_again(tmp_path, attempt):
    """At moments drawn from the whole life of the process, until it gets through."""
    steps = "--config.train.steps=2000"
    began = time.monotonic()
    status, _, err = _run(tmp_path / "whole", steps)
    assert status == 0, err
    life = time.monotonic() - began
    random = np.random.default_rng()
    moments = []
    while True:
        process = _start(tmp_path / "killed", steps)
        moments.append(life * random.uniform(0.1, 1.1) if len(moments) < 8 else 600)
        try:
            _, err = process.communicate(timeout=moments[-1])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        assert process.returncode == 0, (moments, err)
        break
    _assert_same_set(tmp_path / "whole", tmp_path / "killed")
