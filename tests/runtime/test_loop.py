"""The loop: exact, compiled once, resumable from anywhere, and plain about trouble."""

import functools
import inspect
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddjax import synthetic
from ddjax.data.feed import rows_of_step
from ddjax.data.problem import Split
from ddjax.evaluation.base import Evaluation, Score
from ddjax.methods.base import Progress, keys_of_step
from ddjax.runtime import (
    CannotWrite,
    Diverged,
    Interrupted,
    memory,
    metrics,
    run_keys,
    train,
)
from ddjax.storage.cache import in_memory, no_cache
from tests.runtime import fakes

_train = functools.partial(
    fakes.train,
    steps=23,
    log_every=4,
    checkpoint_every=6,
    evaluations=[fakes.spread()],
    evaluate_every=8,
)


def _assert_same(one, other):
    """Two runs have made the same set, bit by bit, from the same start."""
    for a, b in ((one.start, other.start), (one.distilled, other.distilled)):
        np.testing.assert_array_equal(fakes.inputs(a), fakes.inputs(b))


def _counted(calls):
    """The method with the calls of its preparation counted."""
    return fakes.QUADRATIC._replace(prepare=fakes.quadratic(calls=calls).prepare)


def _rows(result):
    return [{**row, "seconds": 0.0} for row in result.history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, _train(workdir, choose="last")


def test_log_holds_each_step_once(whole):
    workdir, result = whole
    rows = metrics.read(workdir / "metrics.jsonl")
    steps = [row["step"] for row in rows]
    assert steps == [0, 1, 4, 8, 12, 16, 20, 23]
    evaluated = [row["step"] for row in rows if "validation/spread/accuracy" in row]
    assert evaluated == [0, 8, 16, 23]
    assert [row["count"] for row in rows[1:]] == steps[1:]
    # The run gives its length to the method.
    assert {row["steps"] for row in rows[1:]} == {23}
    assert all(row["loss"] > 0 for row in rows[1:])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert rows[0]["validation/spread/accuracy/std"] == 0.01
    assert len({row["validation/spread/draw"] for row in rows if row["step"] in (0, 8)})
    assert result.step == result.steps == 23 and result.resumed_from is None
    assert result.validation["spread/accuracy"].draws == 3
    assert list((workdir / "tensorboard").iterdir())


def test_matches_plain_python(whole):
    """Step t draws keys and rows by itself, whatever the chunks."""
    keys, method, problem = run_keys(3), fakes.QUADRATIC, fakes.problem()
    data = method.prepare(keys.prepare, problem)
    state = method.init(keys.init, problem, data)
    np.testing.assert_array_equal(fakes.inputs(whole[1].start), state.learned["inputs"])
    for t in range(23):
        chosen = rows_of_step(data["rows"], seed=3, step=t)
        rows = Split(problem.train.inputs[chosen], problem.train.labels[chosen])
        sample_key, step_key = keys_of_step(keys.steps, jnp.int32(t))
        batch = method.sample(sample_key, {**data, "rows": rows})
        progress = Progress(jnp.int32(t), jnp.int32(23))
        state, _ = method.step(state, batch, step_key, progress)
    expected = fakes.inputs(method.distilled(keys.prepare, state, problem, data))
    np.testing.assert_allclose(
        fakes.inputs(whole[1].distilled), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk": 1, "checkpoint_every": 0},
        {"chunk": 100, "checkpoint_every": 5},
        # Whole numbers of NumPy are whole numbers.
        {"seed": np.uint8(3), "steps": np.int32(23)},
    ],
)
def test_cutting_changes_no_bit(whole, tmp_path, settings):
    _assert_same(_train(tmp_path, choose="last", **settings), whole[1])


def test_one_trace_and_one_compilation(tmp_path):
    """Through chunks of several lengths, evaluations, checkpoints; so on resuming."""
    calls, compiled = {}, []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for runs, steps in enumerate((23, 31), start=1):
            _train(tmp_path, method=fakes.quadratic(calls=calls), steps=steps)
            assert calls["step"] == runs
            assert compiled.count("jit(chunk_of_steps)") == runs
    finally:
        jax.monitoring.clear_event_listeners()


def test_goes_on_from_the_checkpoint(whole, tmp_path):
    calls = {}
    method = _counted(calls)
    _train(tmp_path, method=method, steps=13, choose="last")
    lines = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 14}\n{"step": 15, "lo')
    result = _train(tmp_path, method=method, choose="last")
    assert result.resumed_from == 13
    assert calls["prepare"] == 2 and calls["computed"] == 1
    _assert_same(result, whole[1])
    steps = [row["step"] for row in metrics.read(tmp_path / "metrics.jsonl")]
    assert steps == [0, 1, 4, 8, 12, 13, 16, 20, 23]
    again = _train(tmp_path, choose="last")
    assert again.resumed_from == 23 and again.seconds == pytest.approx(
        result.seconds, rel=1e-6
    )
    _assert_same(again, result)


def _scaled(problem):
    preprocessing = problem.preprocessing._replace(kind="standardize", std=2.0)
    return problem._replace(preprocessing=preprocessing)


@pytest.mark.parametrize(
    "other,message",
    [
        ({"steps": 10}, "steps is 23 there, 10 here"),
        ({"seed": 4}, "of another run: seed is 3 there, 4 here"),
        # It gave the old set under the new provenance.
        (
            {"method": fakes.quadratic(learning_rate=0.5)},
            "learning_rate is 0.05 there, 0.5 here",
        ),
        # It went on with other weights that lay under the same path.
        (
            {"method": fakes.quadratic(weights="bb")},
            "encoder.0.sha256 is 'aa' there, 'bb' here",
        ),
        (
            {"problem": fakes.problem()._replace(fingerprint="1" * 64)},
            "of another run: data.fingerprint",
        ),
        # It took up results that were prepared for other inputs.
        ({"problem": _scaled(fakes.problem())}, "of another run: data.identity"),
        # Scores of other evaluations, or of another scalar, do not compare.
        (
            {"evaluations": [fakes.spread()._replace(settings={"ridge": 1.0})]},
            "evaluations.0.settings.ridge is 'nothing'",
        ),
        ({"monitor": "spread/size"}, "monitor is None there, 'spread/size' here"),
    ],
)
def test_a_folder_belongs_to_one_run(whole, other, message):
    with pytest.raises(ValueError, match=message):
        _train(whole[0], **other)


def test_a_folder_without_its_record_is_refused(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        _train(tmp_path / "run")


def test_a_mistake_leaves_the_folder_free(tmp_path):
    """Seen before the first step: nothing is written, the next try may be another."""

    def wrong(key, distilled, problem, split, cache=no_cache):
        raise ValueError("loss 'hinge' takes two classes")

    for mistake, message in (
        ({"monitor": "spread/acc"}, "monitor='spread/acc'.*spread/accuracy"),
        ({"evaluations": [Evaluation("x", {}, wrong)]}, "two classes"),
    ):
        with pytest.raises(ValueError, match=message):
            _train(tmp_path / "run", steps=1, **mistake)
        names = {path.name for path in (tmp_path / "run").iterdir()}
        assert names == {".lock", "prepared"}

    def refuse(key, problem, cache):
        raise ValueError("no such problem")

    with pytest.raises(ValueError, match="no such problem"):
        _train(tmp_path / "run", method=fakes.QUADRATIC._replace(prepare=refuse))
    assert not (tmp_path / "run" / "run.json").exists()
    _train(tmp_path / "run", steps=1, method=fakes.QUADRATIC._replace(settings={}))


def test_one_evaluation_at_the_end_has_nothing_to_choose(tmp_path):
    settings = {"steps": 2, "evaluate_every": 0, "checkpoint_every": 0}
    with pytest.warns(UserWarning, match="monitor='spread/acc'.*taking the last set"):
        result = _train(tmp_path, monitor="spread/acc", **settings)
    assert (result.step, result.monitor) == (2, None)


def test_a_full_disk_loses_nothing(whole, tmp_path, monkeypatch):
    usage, saved = shutil.disk_usage(tmp_path), []

    def filling_up(path):
        saved.append(path)
        return usage._replace(free=usage.free if len(saved) <= 2 else 1000)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", filling_up)
        with pytest.raises(CannotWrite, match="a checkpoint takes up to") as caught:
            _train(tmp_path, choose="last")
    assert "\n" not in str(caught.value) and "MiB left" in str(caught.value)
    result = _train(tmp_path, choose="last")
    assert result.resumed_from == 12
    _assert_same(result, whole[1])


def test_a_disk_that_is_full_elsewhere_is_said_of_the_folder(tmp_path, monkeypatch):
    def full(log, row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.MetricsLog, "write", full)
    with pytest.raises(CannotWrite, match=f"{tmp_path} cannot be written: No space"):
        _train(tmp_path)


def test_a_run_larger_than_memory_is_refused_before_its_first_step(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "free_memory", lambda: 1)
    with pytest.raises(memory.NotEnoughMemory, match="a step takes .* MiB, 0.0 MiB"):
        _train(tmp_path, steps=1)
    assert not (tmp_path / "run.json").exists()


def test_without_a_folder_it_is_the_same_and_nothing_is_kept(
    whole, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = _train(None, choose="last")
    _assert_same(result, whole[1])
    assert not list(tmp_path.iterdir())
    assert _rows(result) == _rows(whole[1])
    assert result.distilled.provenance == whole[1].distilled.provenance
    assert result.seconds_per_step > 0


def test_provenance_says_what_the_launcher_says(whole):
    provenance = whole[1].distilled.provenance
    assert provenance["method"] == "quadratic"
    assert provenance["settings"] == fakes.QUADRATIC.settings
    assert provenance["seeds"] == {"run": 3}
    assert provenance["data"]["fingerprint"] == "0" * 64
    assert "config" not in provenance
    configured = _train(None, steps=1, config={"data": {"name": "toy"}})
    assert configured.distilled.provenance["config"] == {"data": {"name": "toy"}}


@pytest.mark.parametrize("follows_length", [False, True])
def test_lengthening_is_told_where_it_matters(tmp_path, recwarn, follows_length):
    method = fakes.QUADRATIC._replace(follows_length=follows_length)
    _train(tmp_path, method=method, steps=1)
    result = _train(tmp_path, method=method, steps=2)
    told = [w for w in recwarn if "begun as one of 1 steps" in str(w.message)]
    assert len(told) == follows_length
    lengths = result.distilled.provenance.get("lengthened_from")
    assert lengths == ([1] if follows_length else None)


def test_results_are_shared_through_a_cache(tmp_path):
    calls, cache = {}, in_memory()
    method = _counted(calls)
    for _ in range(2):
        _train(None, steps=1, method=method, cache=cache)
    assert calls["prepare"] == 2 and calls["computed"] == 1


def test_best_is_kept_beside_the_last(tmp_path):
    """Accuracy 1 at step 8 only: its set comes back although the run went on."""
    states = []

    def evaluate(key, distilled, problem, split, cache=no_cache):
        states.append(fakes.inputs(distilled))
        return {"x/accuracy": Score(float(len(states) == 2), 0.0, 1)}

    evaluations = [Evaluation("x", {}, evaluate)]
    result = _train(tmp_path, evaluations=evaluations)
    assert (result.step, result.steps, result.monitor) == (8, 23, "x/accuracy")
    np.testing.assert_array_equal(fakes.inputs(result.distilled), states[1])
    assert not np.array_equal(states[1], states[-1])
    kept = synthetic.load(tmp_path / "best" / "step-8")
    np.testing.assert_array_equal(fakes.inputs(kept), states[1])
    # What the state held besides is not kept.
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == ["step-8"]
    states.clear()
    without = _train(None, evaluations=evaluations)
    assert without.step == 8
    np.testing.assert_array_equal(fakes.inputs(without.distilled), states[1])
    states.clear()
    last = _train(tmp_path / "last", evaluations=evaluations, choose="last")
    assert (last.step, last.monitor) == (23, None)


@pytest.mark.parametrize("poison,what", [("loss", "loss is nan"), ("state", "state.")])
def test_not_finite_stops_with_step_and_checkpoint(tmp_path, poison, what):
    method = fakes.quadratic(blow_up_at=15, poison=poison)
    with pytest.raises(Diverged, match=f"{what}.* at step 15 of 23") as caught:
        _train(tmp_path, method=method)
    assert f"the last good checkpoint is {tmp_path}/checkpoints/12" in str(caught.value)
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert rows[-1]["step"] == 12
    with pytest.raises(Diverged, match="at step 15 of 23; no checkpoint yet"):
        _train(tmp_path / "none", method=method, checkpoint_every=0)


def test_rows_are_the_same_wherever_the_data_lie(whole, tmp_path):
    """Data on the host are fed ahead of time, and resume exactly."""
    problem = fakes.problem(host=True)
    _train(tmp_path, problem=problem, steps=9, choose="last")
    cut = _train(tmp_path, problem=problem, chunk=3, choose="last")
    _assert_same(cut, whole[1])


def test_a_broken_file_stops_the_run(tmp_path):
    class Broken:
        shape, dtype, nbytes = (24, 3, 3, 1), np.dtype(np.float32), 864

        def __len__(self):
            return 24

        def __getitem__(self, rows):
            if np.ndim(rows) and 7 in np.asarray(rows):
                raise OSError("image 7 cannot be read")
            return np.zeros((len(rows), 3, 3, 1), np.float32)

    problem = fakes.problem(host=True)
    broken = problem.train._replace(inputs=Broken())
    with pytest.raises(OSError, match="image 7 cannot be read"):
        _train(tmp_path, problem=problem._replace(train=broken), evaluations=())


def test_signal_in_an_evaluation_does_it_over_again(whole, tmp_path):
    done = []

    def evaluate(key, distilled, problem, split, cache=no_cache):
        done.append(1)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return fakes.spread().evaluate(key, distilled, problem, split)

    settings = dict(evaluations=[Evaluation("x", {}, evaluate)], choose="last")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM at step 8 of 23") as caught:
        _train(tmp_path, **settings)
    assert caught.value.signum == signal.SIGTERM
    assert "run the same command again" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) is before
    result = _train(tmp_path, **settings)
    assert result.resumed_from == 8
    _assert_same(result, whole[1])
    assert _rows(result) == _rows(whole[1])


def test_ctrl_c_between_chunks(tmp_path, monkeypatch):
    """The chunk is finished, the state saved; a second Ctrl-C would end at once."""
    write = metrics.MetricsLog.write

    def interrupted_write(log, row):
        write(log, row)
        if row["step"] == 12:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(metrics.MetricsLog, "write", interrupted_write)
    with pytest.raises(Interrupted, match="SIGINT at step (12|13|14|15|16) of 23"):
        _train(tmp_path)


def test_no_steps_at_all(tmp_path):
    result = _train(tmp_path, steps=0)
    assert result.steps == 0 and "spread/accuracy" in result.validation


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"steps": True}, "steps must be at least 0, got True"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"evaluate_every": -1}, "evaluate_every must be at least 0, got -1"),
        ({"choose": "first"}, "unknown choose 'first'"),
        ({"seed": 2**32}, r"seed must be in \[0, 2\^32\), got 4294967296"),
        ({"steps": 2.5}, "steps must be a whole number, got 2.5"),
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"method": "dgkip"}, r"method is a str: 'dgkip'.*ddjax.methods.make"),
        ({"problem": np.zeros(3)}, "problem is a ndarray.*ddjax.data.load"),
        ({"evaluations": fakes.spread()}, r"give \[evaluation\]"),
        ({"evaluations": "probe"}, "evaluations takes a list.*got 'probe'"),
        ({"evaluations": 3}, "evaluations takes a list.*got '3'"),
        ({"cache": "folder"}, "cache is a str: 'folder'.*on_disk"),
        ({"config": [1]}, "config is a list"),
        ({"workdir": 3}, "workdir is a int: '3'"),
        ({"evaluations": (), "monitor": "x/accuracy"}, "needs evaluations"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, wrong, message):
    """As without the annotations checked, which only the tests do."""
    given = {
        "method": fakes.QUADRATIC,
        "problem": fakes.problem(),
        "steps": 1,
        "workdir": tmp_path / "run",
    } | wrong
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(train)(given.pop("method"), given.pop("problem"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_file_is_no_workdir(tmp_path, place):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ValueError, match="/file is a file; a run needs a folder"):
        _train(tmp_path / place)


@pytest.mark.parametrize("text", ['{"seed": 3, "st', "[]", "\xff"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="run.json.*give a new folder") as caught:
        _train(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metrics,message",
    [
        ({"count": 1.0}, "must hold 'loss'"),
        ({"loss": 1.0, "each": np.zeros(18)}, r"'each' has shape \(18,\)"),
    ],
)
def test_metrics_must_be_scalars_with_a_loss(tmp_path, metrics, message):
    def step(state, batch, key, progress):
        return state, jax.tree.map(jnp.asarray, metrics)

    with pytest.raises(ValueError, match=message):
        _train(tmp_path, method=fakes.QUADRATIC._replace(step=step))
