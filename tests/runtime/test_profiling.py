"""Traces of steps: whole, of the steps that were asked for, and without a trace."""

import functools
import gzip
import json

import jax
import numpy as np
import pytest

from ddjax.runtime import Diverged
from ddjax.runtime.profiling import FOLDER, STEP
from tests.runtime import fakes

_train = functools.partial(fakes.train, steps=12, checkpoint_every=4)


def _traced(workdir) -> list[list[int]]:
    """The steps of each trace in a folder, oldest first."""
    found = []
    for path in sorted((workdir / FOLDER).glob("plugins/profile/*")):
        # TensorBoard reads this one, and Perfetto the other.
        (planes,) = path.glob("*.xplane.pb")
        for_tensorboard = [
            int(dict(event.stats)["step_num"])
            for plane in jax.profiler.ProfileData.from_file(str(planes)).planes
            for line in plane.lines
            for event in line.events
            if event.name == STEP
        ]
        with gzip.open(path / "perfetto_trace.json.gz") as file:
            events = json.load(file)["traceEvents"]
        steps = [event for event in events if event.get("name") == STEP]
        assert all(event["dur"] > 0 for event in steps)
        found.append(sorted(int(event["args"]["step_num"]) for event in steps))
        assert sorted(for_tensorboard) == found[-1]
    return found


def test_a_trace_changes_nothing_of_a_run(tmp_path):
    plain = tmp_path / "plain"
    result = _train(plain)
    assert not (plain / FOLDER).exists()
    # It is interrupted, as it were, and goes on without: no part of what the run is.
    workdir = tmp_path / "traced"
    _train(workdir, steps=6, profile=4)
    assert _traced(workdir) == [[2, 3, 4, 5]]
    profiled = _train(workdir)
    np.testing.assert_array_equal(
        fakes.inputs(profiled.distilled), fakes.inputs(result.distilled)
    )
    run = (workdir / "run.json").read_text()
    assert run == (plain / "run.json").read_text() and "profile" not in run
    assert len(_traced(workdir)) == 1
    # Nothing is left to trace.
    with pytest.warns(UserWarning, match="profile=2: the run has 0 steps left"):
        _train(workdir, profile=2)


def test_a_run_that_breaks_off_leaves_its_trace(tmp_path):
    with pytest.raises(Diverged):
        _train(tmp_path, method=fakes.quadratic(blow_up_at=4), profile=9)
    assert _traced(tmp_path) == [[2, 3, 4]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"profile": 0}, "profile must be at least 1, got 0"),
        ({"profile": True}, "profile must be at least 1, got True"),
        ({"profile": 12}, "profile=12 steps .* the run has 12; at most 11"),
        ({"profile": 3, "workdir": None}, "profile=3 writes into .* give workdir"),
    ],
)
def test_what_cannot_be_traced_is_refused(tmp_path, settings, said):
    with pytest.raises(ValueError, match=said):
        _train(**({"workdir": tmp_path} | settings))
    assert not list(tmp_path.iterdir())
