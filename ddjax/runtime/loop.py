"""The loop: from a method and a problem to a distilled set, through interruptions."""

import collections
import contextlib
import math
import operator
import os
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, SupportsIndex

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_names
from ddjax.data.problem import Problem, identity
from ddjax.evaluation.base import Evaluation, Score
from ddjax.evaluation.wording import is_diagnostic, is_quality, number, trained_on
from ddjax.methods.base import Method
from ddjax.runtime import workdir as folders
from ddjax.runtime.best import BestResults, RunResult, on_host
from ddjax.runtime.checkpoints import CheckpointStore
from ddjax.runtime.chunk import Chunk, compile_chunk, copied
from ddjax.runtime.feed import Feed, RowReader, feed_data, rows_bytes
from ddjax.runtime.memory import (
    StepMemory,
    enough_memory,
    refuse_too_large,
    step_memory,
)
from ddjax.runtime.metrics import MemoryLog, MetricsLog
from ddjax.runtime.profiling import StepProfiler, check_profile
from ddjax.runtime.progress import Progress, duration
from ddjax.runtime.signals import Interrupted, StopRequest
from ddjax.storage import cache as caches
from ddjax.storage.cache import Cache
from ddjax.storage.lock import exclusive
from ddjax.storage.writing import writing
from ddjax.synthetic.origin import provenance

__all__ = [
    "Diverged",
    "Keys",
    "TrainResult",
    "check_types",
    "checked_evaluations",
    "memory_of_steps",
    "run_keys",
    "run_record",
    "train",
    "whole_number",
]

_CHOICES = ("best", "last")

_GROWING = ("steps",)
_LARGEST_SEED = 2**32 - 1
# Chunks are kept short of this, so that progress is seen and a signal is heard.
_CHUNK_SECONDS = 1.0
# Rows of real data that the host may hold ready for one chunk.
_ROWS_BYTES = 256 * 2**20
# What evaluations may keep in memory between two of them.
_EVALUATION_BYTES = 2**30


class Diverged(Exception):
    """A metric or the state became NaN or infinite; the message says when and what."""


class Keys(NamedTuple):
    """The random keys of a run, one for each purpose, from one seed."""

    prepare: PRNGKeyArray
    init: PRNGKeyArray
    steps: PRNGKeyArray
    validation: PRNGKeyArray
    test: PRNGKeyArray


class TrainResult(NamedTuple):
    """What `train` leaves.

    Attributes:
      distilled: the chosen distilled set, its provenance complete; of a method that
        trains a network, that `ddjax.models.trained.TrainedNetwork`.
      start: what it was before the first step, the same in a run that was resumed.
      step: the step it is from.
      steps: how many steps the run has done.
      validation: its scores on the validation split, scalar -> `Score` (empty without
        evaluations).
      monitor: the scalar that chose it, None if it is simply the last.
      seconds: time spent on steps and evaluations, over all resumptions.
      preparation_seconds: time before the first step (the method's preparation and the
        compilation), over all resumptions.
      resumed_from: the step this process went on from, None if from the start.
      seconds_per_step: median over this process's chunks, the first left out where
        there are more; None without steps.
      history: rows of the log, in order: `step`, `seconds`, the metrics of steps and,
        of evaluated ones, `validation/...`.
    """

    distilled: Any
    start: Any
    step: int
    steps: int
    validation: dict[str, Score]
    monitor: str | None
    seconds: float
    preparation_seconds: float
    resumed_from: int | None
    seconds_per_step: float | None
    history: list[dict[str, Any]]


def run_keys(seed: int) -> Keys:
    """The keys of the run with this seed."""
    root = jax.random.key(seed)
    return Keys(*(jax.random.fold_in(root, i) for i in range(len(Keys._fields))))


def train(
    method: Method,
    problem: Problem,
    *,
    steps: SupportsIndex,
    seed: SupportsIndex = 0,
    workdir: str | os.PathLike[str] | None = None,
    cache: Cache | None = None,
    chunk: SupportsIndex = 100,
    log_every: SupportsIndex = 10,
    evaluations: Sequence[Evaluation] = (),
    evaluate_every: SupportsIndex = 100,
    checkpoint_every: SupportsIndex = 100,
    keep: SupportsIndex = 2,
    monitor: str | None = None,
    choose: str = "best",
    config: Mapping[str, Any] | None = None,
    verbose: bool = True,
    profile: SupportsIndex | None = None,
) -> TrainResult:
    """Distils `problem` with `method`, or goes on where `workdir` was left.

    Everything random follows from `seed` and the step, and the compiled program is the
    same however the run is cut up: a run that was killed and started again ends with
    the same distilled set, bit by bit, on the same machine and software.

    A folder belongs to one run: before the first step it is written there (`run.json`)
    which method with which settings, which data, which seed, and which evaluations
    choose; another one is refused, and so is a second process. What goes wrong before
    that leaves the folder free. A run may be lengthened by calling again with more
    steps; an evaluation at its earlier end stays in its log and among the candidates
    for the best. Where steps depend on the run's length, a lengthened run is not what
    the longer run would have been: a warning says so, and the provenance too.

    One process and one device.

    Args:
      method: what to distil with.
      problem: what to distil.
      steps: how many steps to have done in the end.
      seed: of everything random, in [0, 2^32).
      workdir: folder of the run; made if absent. Holds `run.json`, `checkpoints/`,
        `best/`, `prepared/`, `metrics.jsonl` and `tensorboard/`. None keeps nothing on
        disk.
      cache: where results of the preparation and of evaluations are kept; None keeps
        the former in the folder, if there is one, and the latter in memory.
      chunk: the most steps in one compiled call; fewer are done where steps take long.
      log_every: metrics of every so many steps are logged (and of the first and last).
      evaluations: done on the validation split, before the first step and after.
      evaluate_every: steps between evaluations; 0 for one at the end only.
      checkpoint_every: steps between checkpoints; 0 for one at the end only.
      keep: how many of the newest checkpoints to keep; the best sets are kept besides.
      monitor: the validation scalar that tells the best step, the larger the better; by
        default the first accuracy or R2 of the set itself. Of equals the later wins.
      choose: which distilled set to return: `best` by the monitor, or `last`.
      config: what the caller was configured with, for the provenance (JSON-able).
      verbose: show the progress on stdout.
      profile: how many steps to trace into `workdir/profile`, after the first call of
        the compiled steps; less than `steps`. No part of what the run is: it changes
        no number, and the run may go on without it.

    Returns:
      The chosen distilled set and how it came about.

    Raises:
      ValueError: an argument of another type or out of range, or a `workdir` that holds
        another run.
      ddjax.storage.WorkdirInUse: another process works in the folder.
      ddjax.storage.CannotWrite: a full or read-only disk; the same call goes on from
        the last checkpoint when there is room again.
      NotEnoughMemory: the run does not fit in memory.
      Diverged: a metric or the state became NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C came; everything is saved.
    """
    check_types(
        method=method, problem=problem, workdir=workdir, cache=cache, config=config
    )
    settings = _Settings(
        seed=whole_number("seed", seed, 0),
        steps=whole_number("steps", steps, 0),
        log_every=whole_number("log_every", log_every, 1),
        evaluations=checked_evaluations(evaluations),
        evaluate_every=whole_number("evaluate_every", evaluate_every, 0),
        checkpoint_every=whole_number("checkpoint_every", checkpoint_every, 0),
        keep=whole_number("keep", keep, 1),
        monitor=monitor,
        choose=choose,
        verbose=verbose,
    )
    chunk = whole_number("chunk", chunk, 1)
    profile = None if profile is None else whole_number("profile", profile, 1)
    _check(settings)
    check_profile(profile, settings.steps, workdir)
    began = time.perf_counter()
    with contextlib.ExitStack() as closing:
        closing.enter_context(enough_memory())
        folder = None
        if workdir is not None:
            closing.enter_context(writing(workdir))
            folder = folders.open_workdir(workdir)
            closing.enter_context(exclusive(folder))
        record = run_record(
            method,
            problem,
            seed=settings.seed,
            steps=settings.steps,
            evaluations=settings.evaluations,
            monitor=monitor,
            config=config,
        )
        length = _earlier_length(folder, record)
        keys = run_keys(settings.seed)
        prepared = cache
        if prepared is None:
            in_folder = folder and caches.on_disk(folder / "prepared")
            prepared = in_folder or caches.no_cache
        ready = _made_ready(method, problem, keys, chunk=chunk, cache=prepared)
        refuse_too_large(step_memory(ready.chunk))
        loop = _Loop(
            ready,
            settings,
            keys,
            folder=folder,
            record=record,
            cache=cache or caches.in_memory(limit=_EVALUATION_BYTES),
            profiler=StepProfiler(folder, profile),
        )
        closing.callback(loop.close)
        loop.start(length, preparation=time.perf_counter() - began)
        loop.go()
        return loop.result()


def memory_of_steps(
    method: Method,
    problem: Problem,
    *,
    seed: SupportsIndex = 0,
    chunk: SupportsIndex = 100,
) -> StepMemory | None:
    """What the steps of a run need in memory, as they are compiled for this device.

    Prepares and compiles as `train` does, of which the arguments are, does no step and
    keeps nothing. Evaluations come on top.

    Returns:
      Bytes, None where the compiler does not say.

    Raises:
      ValueError: an argument of another type or out of range.
      NotEnoughMemory: the preparation itself does not fit.
    """
    check_types(method=method, problem=problem)
    keys = run_keys(whole_number("seed", seed, 0))
    chunk = whole_number("chunk", chunk, 1)
    with enough_memory():
        ready = _made_ready(method, problem, keys, chunk=chunk, cache=caches.no_cache)
        return step_memory(ready.chunk)


class _Ready(NamedTuple):
    """All that the first step needs."""

    method: Method
    problem: Problem
    data: Any
    state: Any
    feed: Feed
    chunk: Chunk


def _made_ready(
    method: Method, problem: Problem, keys: Keys, *, chunk: int, cache: Cache
) -> _Ready:
    data = method.prepare(keys.prepare, problem, cache)
    state = copied(method.init(keys.init, problem, data))
    feed = feed_data(data)
    capacity = max(1, min(chunk, _ROWS_BYTES // max(1, rows_bytes(feed))))
    compiled = compile_chunk(method, state, feed, keys.steps, capacity=capacity)
    return _Ready(method, problem, data, state, feed, compiled)


class _Settings(NamedTuple):
    seed: int
    steps: int
    log_every: int
    evaluations: tuple[Evaluation, ...]
    evaluate_every: int
    checkpoint_every: int
    keep: int
    monitor: str | None
    choose: str
    verbose: bool


class _Position(NamedTuple):
    """Where a run stands besides its state; saved in every checkpoint.

    The order of the data needs no more than the seed and the step.
    """

    step: int = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0
    # This step's row of the log, while the evaluation that belongs in it is to be done.
    row: dict[str, Any] | None = None
    scores: dict[str, list[float]] | None = None
    monitor: str | None = None
    best: float | None = None
    best_step: int | None = None
    best_scores: dict[str, list[float]] | None = None
    # Lengths that the run had before it was lengthened, where steps depend on it.
    lengthened_from: Sequence[int] = ()


def run_record(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    steps: int,
    evaluations: Sequence[Evaluation],
    monitor: str | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a run is, for its file; the arguments are those of `train`.

    The configuration is there to be read: what it means for the run is in the others.
    """
    return {
        "method": {"name": method.name, "settings": method.settings},
        "data": {
            "name": problem.name,
            "fingerprint": problem.fingerprint,
            "identity": identity(problem),
        },
        "seed": seed,
        "steps": steps,
        "evaluations": [
            {"name": each.name, "settings": each.settings} for each in evaluations
        ],
        "monitor": monitor,
        "config": None if config is None else dict(config),
    }


def _earlier_length(folder: Path | None, record: dict[str, Any]) -> int | None:
    """How long the run in the folder was to be, None for a new one."""
    if folder is None:
        return None
    held = folders.refuse_another(
        folder / folders.RUN_FILE, record, growing=_GROWING, free=_may_differ
    )
    if held is None and (folder / "checkpoints").is_dir():
        raise ValueError(
            f"{folder} holds checkpoints but no {folders.RUN_FILE}, which says what "
            "they are of; give a new or empty folder"
        )
    return held["steps"] if held else None


def _may_differ(key: str) -> bool:
    """Whether a resumed run may have another value of this entry of its record."""
    return key.split(".")[0] == "config"


class _Loop:
    """One process's work on a run."""

    def __init__(
        self,
        ready: _Ready,
        settings: _Settings,
        keys: Keys,
        *,
        folder: Path | None,
        record: dict[str, Any],
        cache: Cache,
        profiler: StepProfiler,
    ):
        self.method, self.problem, self.data, self.state, self.feed, self.chunk = ready
        self.settings, self.keys, self.profiler = settings, keys, profiler
        self.folder, self.record, self.cache = folder, record, cache
        self.reader = RowReader(
            self.feed,
            seed=settings.seed,
            capacity=self.chunk.capacity,
            steps=settings.steps,
        )
        self.last: CheckpointStore | None = None
        self.log: MetricsLog | MemoryLog = MemoryLog()
        self.owns_folder = False
        self.progress = Progress(steps=settings.steps, enabled=settings.verbose)
        self.best = BestResults(folder and folder / "best")
        # What the checkpoints that are kept call the best.
        self.best_steps: collections.deque[int | None] = collections.deque(
            maxlen=settings.keep + 1
        )
        self.resumed_from: int | None = None
        self.saved: int | None = None
        self.step_seconds = math.inf
        self.chunk_seconds: list[float] = []

    def start(self, length: int | None, preparation: float) -> None:
        """Takes up the newest checkpoint, or stays at the start without one.

        Args:
          length: how many steps the run in the folder was to have, None for a new one.
          preparation: seconds that it took.
        """
        settings = self.settings
        # Of a run that goes on too: `init` gives the same state every time.
        self.first = on_host(self._distilled())
        found = None
        if length is not None:
            self.last = self._checkpoints()
            found = self.last.restore({"state": self.state, "key": self.keys.steps})
        if found is None:
            first = settings.evaluations and settings.evaluate_every
            self.position = _Position(row={} if first else None)
            self.key = self.keys.steps
        else:
            self.position = _Position(**found.facts["position"])
            if found.step > settings.steps:
                raise ValueError(
                    f"{self.folder} holds a run of {found.step} steps, more than "
                    f"{settings.steps}"
                )
            self.state, self.key = found.tree["state"], found.tree["key"]
            self.resumed_from = self.saved = found.step
            self.best_steps.append(self.position.best_step)
        self.position = self.position._replace(
            preparation_seconds=self.position.preparation_seconds + preparation
        )
        self._tell_of_lengthening(length)
        step = self.position.step
        self.profiler.expect(settings.steps - step)
        self.progress.say(f"prepared and compiled in {duration(preparation)}")
        if found is not None:
            self.progress.say(f"going on from step {step} ({found.path})")
        self.clock = time.perf_counter() - self.position.seconds

    def _tell_of_lengthening(self, length: int | None) -> None:
        steps, position = self.settings.steps, self.position
        longer = length is not None and length < steps and position.step
        if not longer or not self.method.follows_length:
            return
        self.position = position._replace(
            lengthened_from=[*position.lengthened_from, length]
        )
        warnings.warn(
            f"this run was begun as one of {length} steps and is now one of {steps}, "
            "but its steps depend on its length (a learning rate that decays, say): "
            f"the {position.step} that are done went as in a run of {length}, and the "
            f"rate now goes on at {position.step / steps:.0%} of the schedule. What "
            f"comes out is not what {steps} steps from the start give; for that, give "
            "a new folder",
            stacklevel=3,
        )

    def close(self) -> None:
        with contextlib.ExitStack() as closing:
            ends = (self.reader, self.last, self.log, self.progress, self.profiler)
            for each in ends:
                if each is not None:
                    closing.callback(each.close)

    def go(self) -> None:
        """Evaluates, saves and steps, until the last step is done."""
        with StopRequest() as stop:
            while True:
                evaluated = None
                if self.position.row is not None:
                    evaluated = stop.run_unless_stopped(self._evaluated)
                self._take_folder()
                if evaluated is not None:
                    self._record(*evaluated)
                if stop.signum is not None:
                    self._leave(stop.signum)
                if self._due(self.position.step, self.settings.checkpoint_every):
                    self._save()
                if self.position.step == self.settings.steps:
                    return
                self._advance()

    def _take_folder(self) -> None:
        """Writes what the run is, when there is nothing left that a mistake could stop.

        Until then a new run leaves no trace but prepared results.
        """
        if self.folder is None or self.owns_folder:
            return
        folders.write_json(self.folder / folders.RUN_FILE, self.record)
        self.last = self.last or self._checkpoints()
        # A row still to be written replaces one that a killed process wrote.
        written = self.position.step - (self.position.row is not None)
        self.log = MetricsLog(self.folder, step=written)
        self.owns_folder = True

    def _checkpoints(self) -> CheckpointStore:
        assert self.folder is not None
        return CheckpointStore(self.folder / "checkpoints", keep=self.settings.keep)

    def result(self) -> TrainResult:
        """The chosen distilled set; the last one if the best cannot be read."""
        position = self.position
        step, scores, monitor = position.step, position.scores, None
        distilled = None
        if self.settings.choose == "best" and position.best_step is not None:
            distilled = self.best.find(position.best_step)
            if distilled is None:
                self.progress.say(
                    f"warning: the best set, of step {position.best_step}, cannot be "
                    "read; taking the last one"
                )
            else:
                step, scores = position.best_step, position.best_scores
                monitor = position.monitor
        if distilled is None:
            distilled = self._distilled()
        return TrainResult(
            distilled=distilled._replace(
                provenance={**distilled.provenance, **self._provenance()}
            ),
            start=self.first,
            step=step,
            steps=position.step,
            validation={
                name: Score(mean, std, int(draws))
                for name, (mean, std, draws) in (scores or {}).items()
            },
            monitor=monitor,
            seconds=position.seconds,
            preparation_seconds=position.preparation_seconds,
            resumed_from=self.resumed_from,
            seconds_per_step=(
                statistics.median(self.chunk_seconds[1:] or self.chunk_seconds)
                if self.chunk_seconds
                else None
            ),
            history=self.log.rows(),
        )

    def _distilled(self) -> RunResult:
        return self.method.distilled(
            self.keys.prepare, self.state, self.problem, self.data
        )

    def _provenance(self) -> dict[str, Any]:
        found = provenance(
            self.problem,
            method=self.method.name,
            settings=self.method.settings,
            seeds={"run": self.settings.seed},
            config=self.record["config"],
        )
        found["steps"] = self.position.step
        if self.position.lengthened_from:
            found["lengthened_from"] = list(self.position.lengthened_from)
        return found

    def _due(self, step: int, every: int) -> bool:
        return step == self.settings.steps or bool(every and step and step % every == 0)

    def _advance(self) -> None:
        """One chunk, up to the next step at which something else is to be done."""
        start, length = self.position.step, self._length()
        counts = np.int32(start), np.int32(length), np.int32(self.settings.steps)
        with self.profiler.traced(start + length):
            began = time.perf_counter()
            rows = self.reader.take(start, length)
            with jax.transfer_guard("disallow"):
                rows, *counts = jax.device_put((rows, *counts))
                self.state, metrics, finite = self.chunk.run(
                    self.state, self.feed.device, rows, self.key, *counts
                )
                metrics, finite = jax.device_get((metrics, finite))
            self.step_seconds = (time.perf_counter() - began) / length
        self.chunk_seconds.append(self.step_seconds)
        step = start + length
        bad = _first_not_finite(metrics, finite, length)
        rows = self._rows(metrics, start, length if bad is None else bad[0])
        held = rows.pop() if bad is None and self._evaluates(step) else None
        for row in rows:
            if self._logs(row["step"]):
                self.log.write(row)
        if bad is not None:
            raise Diverged(self._divergence_message(start + bad[0] + 1, bad[1]))
        self.position = self.position._replace(
            step=step, seconds=time.perf_counter() - self.clock, row=held
        )
        self.progress.update(
            step, float(metrics["loss"][length - 1]), self.step_seconds
        )

    def _length(self) -> int:
        step, settings = self.position.step, self.settings
        stops = [settings.steps]
        for every in (settings.checkpoint_every, settings.evaluate_every):
            if every:
                stops.append((step // every + 1) * every)
        if self.profiler.active:
            return 1
        # The first chunk is one step, to see how long a step takes.
        paced = max(1, int(_CHUNK_SECONDS / self.step_seconds))
        return min(self.chunk.capacity, paced, min(stops) - step)

    def _rows(
        self, metrics: dict[str, ndarray], start: int, length: int
    ) -> list[dict[str, Any]]:
        seconds = round(time.perf_counter() - self.clock, 4)
        return [
            {"step": start + i + 1, "seconds": seconds}
            | {name: values[i].item() for name, values in metrics.items()}
            for i in range(length)
        ]

    def _logs(self, step: int) -> bool:
        return step in (1, self.settings.steps) or step % self.settings.log_every == 0

    def _evaluates(self, step: int) -> bool:
        settings = self.settings
        return bool(settings.evaluations) and self._due(step, settings.evaluate_every)

    def _evaluated(self) -> tuple[RunResult, dict[str, Score], str | None]:
        """The state's result, its validation scores, and the score that chooses.

        The last is None where no score chooses.
        """
        distilled: Any = self._distilled()
        scores = {}
        for i, evaluation in enumerate(self.settings.evaluations):
            # The same draws at every step, for the steps to be comparable.
            key = jax.random.fold_in(self.keys.validation, i)
            scores |= evaluation.evaluate(
                key, distilled, self.problem, "validation", self.cache
            )
        return distilled, scores, self._monitor(scores)

    def _monitor(self, scores: dict[str, Score]) -> str | None:
        settings = self.settings
        if settings.choose != "best":
            return None
        try:
            return _monitored(settings.monitor, scores)
        except ValueError as error:
            if settings.evaluate_every:
                raise
            # The only evaluation is the one at the end: no reason to lose the run.
            if settings.monitor is not None:
                warnings.warn(f"{error}; taking the last set", stacklevel=2)
            return None

    def _record(
        self, distilled: RunResult, scores: dict[str, Score], monitor: str | None
    ) -> None:
        """Writes the step's row, and keeps the set if it is the best so far."""
        position = self.position
        plain = {name: [float(x) for x in score] for name, score in scores.items()}
        position = position._replace(
            row=None, scores=plain, seconds=time.perf_counter() - self.clock
        )
        if monitor is not None:
            value = scores[monitor].mean
            if _as_good(value, position.best):
                self.best.keep(position.step, distilled)
                position = position._replace(
                    monitor=monitor,
                    best=value,
                    best_step=position.step,
                    best_scores=plain,
                )
        row = {"step": position.step, "seconds": round(position.seconds, 4)}
        self.log.write(row | (self.position.row or {}) | _score_columns(scores))
        self.position = position
        shown = ", ".join(
            f"{name} {number(score.mean)}"
            for name, score in scores.items()
            if not is_diagnostic(name)
        )
        self.progress.say(f"step {position.step}: validation {shown}")

    def _save(self) -> None:
        if self.last is None or self.saved == self.position.step:
            return
        self.last.save(
            self.position.step,
            {"state": self.state, "key": self.key},
            {"position": self.position._asdict()},
        )
        self.saved = self.position.step
        # The sets that an older checkpoint, should the newest be damaged, speaks of
        # stay too.
        self.best_steps.append(self.position.best_step)
        self.best.drop_all_but({step for step in self.best_steps if step is not None})

    def _leave(self, signum: int) -> None:
        name, step = signal.Signals(signum).name, self.position.step
        stopped = f"stopped by {name} at step {step} of {self.settings.steps}"
        if self.last is None:
            raise Interrupted(f"{stopped}; without a folder nothing is saved", signum)
        self._save()
        self.last.wait()
        raise Interrupted(
            f"{stopped}, saved in {self.last.latest()}; run the same command again to "
            "go on",
            signum,
        )

    def _divergence_message(self, step: int, what: str) -> str:
        found = f"{what} at step {step} of {self.settings.steps}"
        if self.last is None:
            return found
        self.last.wait()
        path = self.last.latest()
        good = f"the last good checkpoint is {path}" if path else "no checkpoint yet"
        return f"{found}; {good}"


def _score_columns(scores: dict[str, Score]) -> dict[str, float]:
    columns = {}
    for name, score in scores.items():
        columns[f"validation/{name}"] = float(score.mean)
        if score.draws > 1:
            columns[f"validation/{name}/std"] = float(score.std)
    return columns


def _monitored(monitor: str | None, scores: dict[str, Score]) -> str:
    if monitor is None:
        # Of the set: what other data are worth says nothing about the step.
        found = [name for name in scores if is_quality(name)]
        own = [name for name in found if trained_on(name) == "distilled"]
        if found:
            return (own or found)[0]
    elif monitor in scores:
        return monitor
    raise ValueError(
        f"monitor={monitor!r} names no scalar to choose the best step by; the "
        f"evaluations give {', '.join(scores) or 'none'}"
    )


def _as_good(value: float, best: float | None) -> bool:
    return math.isfinite(value) and (best is None or value >= best)


def _first_not_finite(
    metrics: dict[str, ndarray], finite: dict[str, ndarray], length: int
) -> tuple[int, str] | None:
    """Index of the first step with a bad number and what it was, or None."""
    flags = {name: np.isfinite(values[:length]) for name, values in metrics.items()} | {
        f"state.{name}": values[:length] for name, values in finite.items()
    }
    all_finite = np.logical_and.reduce(list(flags.values()))
    if all_finite.all():
        return None
    index = int(np.argmin(all_finite))
    bad = [name for name, values in flags.items() if not values[index]]
    # The loss before other metrics, those before the state.
    name = "loss" if "loss" in bad else bad[0]
    what = f"{metrics[name][index]}" if name in metrics else "not finite"
    return index, f"{name} is {what}"


def whole_number(name: str, value: Any, least: int) -> int:
    """A whole number of whatever kind (NumPy's too) as Python's."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return number


def check_types(**given: Any) -> None:
    """Raises a `ValueError` unless these arguments of `train` have its types."""
    kinds: dict[str, tuple[Any, str]] = {
        "method": (Method, "what ddjax.methods.make(name, ...) makes"),
        "problem": (Problem, "what ddjax.data.load(name, ...) makes"),
        "workdir": (str | os.PathLike | None, "a path"),
        "cache": (
            (Callable, NoneType),
            "what ddjax.storage.cache.on_disk(folder) makes",
        ),
        "config": (Mapping | None, "a dict"),
    }
    for name, value in given.items():
        kind, known_as = kinds[name]
        if not isinstance(value, kind):
            raise ValueError(
                f"{name} is a {type(value).__name__}: {str(value)[:40]!r}; give "
                f"{known_as}"
            )


def checked_evaluations(evaluations: Any) -> tuple[Evaluation, ...]:
    """The evaluations; raises a `ValueError` where they are something else."""
    if isinstance(evaluations, Evaluation):
        raise ValueError(
            f"evaluations takes a list, got the evaluation {evaluations.name!r}; give "
            "[evaluation]"
        )
    if isinstance(evaluations, Iterable) and not isinstance(evaluations, str):
        found = tuple(evaluations)
        if all(isinstance(each, Evaluation) for each in found):
            return found
    raise ValueError(
        "evaluations takes a list of what ddjax.evaluation.make(name, ...) makes, got "
        f"{str(evaluations)[:60]!r}"
    )


def _check(settings: _Settings) -> None:
    if settings.seed > _LARGEST_SEED:
        raise ValueError(
            f"seed must be in [0, 2^32), got {settings.seed}: larger ones would count "
            "modulo 2^32"
        )
    if settings.monitor is not None and not settings.evaluations:
        raise ValueError(
            f"monitor={settings.monitor!r} needs evaluations to choose by, got none"
        )
    check_names(choose=(settings.choose, _CHOICES))
    if jax.process_count() > 1:
        raise ValueError(
            f"train works in one process, this is one of {jax.process_count()}"
        )
