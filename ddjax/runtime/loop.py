"""The loop: from a method and a problem to a distilled set, through interruptions."""

import contextlib
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation, Score
from ddjax.methods.base import Method
from ddjax.runtime import prepared
from ddjax.runtime.checkpoints import CheckpointStore
from ddjax.runtime.chunk import Chunk, compile_chunk, own_buffers
from ddjax.runtime.feed import Feed, feed_data, host_rows, rows_bytes
from ddjax.runtime.metrics import MetricsLog
from ddjax.runtime.progress import Progress, duration
from ddjax.runtime.signals import Interrupted, StopRequest
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["CHOICES", "Diverged", "Keys", "TrainResult", "run_keys", "train"]

CHOICES = ("best", "last")

# Chunks are kept short of this, so that progress is seen and a signal is heard.
_CHUNK_SECONDS = 1.0
# Rows of real data that the host may hold ready for one chunk.
_ROWS_BYTES = 256 * 2**20


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
      distilled: the chosen distilled set.
      step: the step it is from.
      steps: how many steps the run has done.
      validation: its scores on the validation split, scalar -> `Score` (empty without
        evaluations).
      monitor: the scalar that chose it, None if it is simply the last.
      seconds: time spent on steps and evaluations, over all resumptions.
      preparation_seconds: time before the first step (the method's preparation and the
        compilation), over all resumptions.
      resumed_from: the step this process went on from, None if from the start.
    """

    distilled: DistilledSet
    step: int
    steps: int
    validation: dict[str, Score]
    monitor: str | None
    seconds: float
    preparation_seconds: float
    resumed_from: int | None


def run_keys(seed: int) -> Keys:
    """The keys of the run with this seed."""
    root = jax.random.key(seed)
    return Keys(*(jax.random.fold_in(root, i) for i in range(len(Keys._fields))))


def train(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    steps: int,
    workdir: str | os.PathLike[str],
    chunk: int = 100,
    log_every: int = 10,
    evaluations: Sequence[Evaluation] = (),
    evaluate_every: int = 100,
    checkpoint_every: int = 100,
    keep: int = 2,
    monitor: str | None = None,
    monitor_mode: str = "max",
    choose: str = "best",
    verbose: bool = True,
) -> TrainResult:
    """Distils `problem` with `method`, or goes on where `workdir` was left.

    Everything random follows from `seed` and the step, and the compiled program is the
    same however the run is cut up: a run that was killed and started again ends with
    the same distilled set, bit by bit, on the same machine and software. A run may be
    lengthened by calling again with more steps; an evaluation at its earlier end stays
    in its log and among the candidates for the best.

    One process and one device. Hold `ddjax.runtime.exclusive(workdir)` around the call
    where a second process might work in the same folder.

    Args:
      method: what to distil with. Real data that it leaves on the host (`HostRows`) are
        fed to its steps chunk by chunk.
      problem: what to distil.
      seed: of everything random, >= 0.
      steps: how many steps to have done in the end.
      workdir: folder of the run; made if absent. Holds `checkpoints/`, `best/`,
        `prepared/`, `metrics.jsonl` and `tensorboard/`.
      chunk: the most steps in one compiled call; fewer are done where steps take long.
      log_every: metrics of every so many steps are logged (and of the first and last).
      evaluations: done on the validation split, before the first step and after.
      evaluate_every: steps between evaluations; 0 for one at the end only.
      checkpoint_every: steps between checkpoints; 0 for one at the end only.
      keep: how many of the newest checkpoints to keep; the best is kept besides.
      monitor: the validation scalar that tells the best step; by default the first one
        whose name ends in `accuracy` or is an `r2`.
      monitor_mode: `max` or `min`: which way it gets better. Of equals the later wins.
      choose: which distilled set to return: `best` by the monitor, or `last`.
      verbose: show the progress on stdout.

    Returns:
      The chosen distilled set and how it came about.

    Raises:
      ValueError: an argument out of range, or a `workdir` that holds another run.
      Diverged: a metric or the state became NaN or infinite.
      Interrupted: SIGTERM or Ctrl-C came; everything is saved.
    """
    settings = _Settings(
        seed=seed,
        steps=steps,
        log_every=log_every,
        evaluations=tuple(evaluations),
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        monitor=monitor,
        monitor_mode=monitor_mode,
        choose=choose,
        verbose=verbose,
    )
    _check(settings, chunk, keep)
    folder = Path(workdir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    keys = run_keys(seed)
    data = method.prepare(keys.prepare, problem, prepared.on_disk(folder / "prepared"))
    state = own_buffers(method.init(keys.init, problem, data))
    feed = feed_data(data)
    capacity = max(1, min(chunk, _ROWS_BYTES // max(1, rows_bytes(feed))))
    compiled = compile_chunk(method, state, feed, keys.steps, capacity=capacity)
    with contextlib.ExitStack() as closing:
        last = CheckpointStore(folder / "checkpoints", keep=keep)
        closing.callback(last.close)
        best = CheckpointStore(folder / "best", keep=1)
        closing.callback(best.close)
        loop = _Loop(
            subject=_Subject(method, problem, data),
            settings=settings,
            keys=keys,
            feed=feed,
            chunk=compiled,
            last=last,
            best=best,
        )
        loop.start(state, folder, preparation=time.perf_counter() - began)
        closing.callback(loop.close)
        loop.go()
        return loop.result()


class _Settings(NamedTuple):
    seed: int
    steps: int
    log_every: int
    evaluations: tuple[Evaluation, ...]
    evaluate_every: int
    checkpoint_every: int
    monitor: str | None
    monitor_mode: str
    choose: str
    verbose: bool


class _Subject(NamedTuple):
    method: Method
    problem: Problem
    data: Any


class _Position(NamedTuple):
    """Where a run stands besides its state; saved in every checkpoint.

    The order of the data needs no more than the seed and the step.
    """

    seed: int
    step: int = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0
    # This step's row of the log, while the evaluation that belongs in it is to be done.
    row: dict[str, Any] | None = None
    scores: dict[str, list[float]] | None = None
    monitor: str | None = None
    best: float | None = None
    best_step: int | None = None


class _Loop:
    """One process's work on a run."""

    def __init__(
        self,
        *,
        subject: _Subject,
        settings: _Settings,
        keys: Keys,
        feed: Feed,
        chunk: Chunk,
        last: CheckpointStore,
        best: CheckpointStore,
    ):
        self.subject, self.settings, self.keys = subject, settings, keys
        self.feed, self.chunk = feed, chunk
        self.last, self.best = last, best
        self.resumed_from: int | None = None
        self.saved: int | None = None
        self.step_seconds = math.inf

    def start(self, state: Any, folder: Path, preparation: float) -> None:
        """Takes up the newest checkpoint, or the initial state where there is none."""
        settings = self.settings
        found = self.last.restore({"state": state, "key": self.keys.steps})
        if found is None:
            first = settings.evaluations and settings.evaluate_every
            self.position = _Position(settings.seed, row={} if first else None)
            self.state, self.key = state, self.keys.steps
        else:
            self.position = _Position(**found.facts["position"])
            if self.position.seed != settings.seed:
                raise ValueError(
                    f"{folder} holds a run with seed {self.position.seed}, "
                    f"not {settings.seed}"
                )
            if found.step > settings.steps:
                raise ValueError(
                    f"{folder} holds a run of {found.step} steps, more than "
                    f"{settings.steps}"
                )
            self.state, self.key = found.tree["state"], found.tree["key"]
            self.resumed_from = self.saved = found.step
        self.position = self.position._replace(
            preparation_seconds=self.position.preparation_seconds + preparation
        )
        step = self.position.step
        # A row still to be written replaces one that a killed process wrote.
        written = step if self.position.row is None else step - 1
        self.log = MetricsLog(folder, step=written)
        self.progress = Progress(
            steps=settings.steps, start=step, enabled=settings.verbose
        )
        self.progress.say(f"prepared and compiled in {duration(preparation)}")
        if found is not None:
            self.progress.say(f"going on from step {step} ({found.path})")
        self.clock = time.perf_counter() - self.position.seconds

    def close(self) -> None:
        self.progress.close()
        self.log.close()

    def go(self) -> None:
        """Evaluates, saves and steps, until the last step is done."""
        with StopRequest() as stop:
            while True:
                if self.position.row is not None:
                    scores = stop.unless_asked(self._scores)
                    if scores is not None:
                        self._record(scores)
                if stop.signum is not None:
                    self._leave(stop.signum)
                if self._due(self.settings.checkpoint_every):
                    self._save()
                if self.position.step == self.settings.steps:
                    return
                self._advance()

    def result(self) -> TrainResult:
        """The chosen distilled set; the last one if the best cannot be read."""
        position = self.position
        state, step, scores = self.state, position.step, position.scores or {}
        monitor = None
        if self.settings.choose == "best" and position.best_step is not None:
            found = self.best.restore({"state": self.state})
            if found is not None and found.step == position.best_step:
                state, step, scores = (
                    found.tree["state"], found.step, found.facts["scores"],
                )  # fmt: skip
                monitor = position.monitor
            else:
                self.progress.say(
                    f"warning: the best state, of step {position.best_step}, cannot "
                    "be read; taking the last one"
                )
        subject = self.subject
        return TrainResult(
            distilled=subject.method.distilled(state, subject.problem, subject.data),
            step=step,
            steps=position.step,
            validation={
                name: Score(mean, std, int(draws))
                for name, (mean, std, draws) in scores.items()
            },
            monitor=monitor,
            seconds=position.seconds,
            preparation_seconds=position.preparation_seconds,
            resumed_from=self.resumed_from,
        )

    def _due(self, every: int) -> bool:
        step = self.position.step
        return step == self.settings.steps or bool(every and step and step % every == 0)

    def _advance(self) -> None:
        """One chunk, up to the next step at which something else is to be done."""
        start, length = self.position.step, self._length()
        began = time.perf_counter()
        rows = host_rows(
            self.feed,
            seed=self.settings.seed,
            start=start,
            length=length,
            capacity=self.chunk.capacity,
        )
        with jax.transfer_guard("disallow"):
            arguments = jax.device_put((rows, np.int32(start), np.int32(length)))
            self.state, metrics, sound = self.chunk.run(
                self.state, self.feed.device, arguments[0], self.key, *arguments[1:]
            )
            metrics, sound = jax.device_get((metrics, sound))
        self.step_seconds = (time.perf_counter() - began) / length
        step = start + length
        bad = _first_unsound(metrics, sound, length)
        rows = self._rows(metrics, start, length if bad is None else bad[0])
        held = rows.pop() if bad is None and self._evaluates(step) else None
        for row in rows:
            if self._logs(row["step"]):
                self.log.write(row)
        if bad is not None:
            raise Diverged(self._obituary(start + bad[0] + 1, bad[1]))
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
        every, steps = self.settings.evaluate_every, self.settings.steps
        due = step == steps or bool(every and step % every == 0)
        return due and bool(self.settings.evaluations)

    def _scores(self) -> dict[str, Score]:
        """The state's scores on the validation split."""
        subject, scores = self.subject, {}
        distilled = subject.method.distilled(self.state, subject.problem, subject.data)
        for i, evaluation in enumerate(self.settings.evaluations):
            # The same draws at every step, for the steps to be comparable.
            key = jax.random.fold_in(self.keys.validation, i)
            scores |= evaluation.evaluate(key, distilled, subject.problem, "validation")
        return scores

    def _record(self, scores: dict[str, Score]) -> None:
        """Writes the step's row, and the state aside if it is the best so far."""
        position = self.position
        plain = {name: [float(x) for x in score] for name, score in scores.items()}
        position = position._replace(
            row=None, scores=plain, seconds=time.perf_counter() - self.clock
        )
        if self.settings.choose == "best":
            monitor = _monitored(self.settings.monitor, scores)
            value = scores[monitor].mean
            if _as_good(value, position.best, self.settings.monitor_mode):
                self.best.save(position.step, {"state": self.state}, {"scores": plain})
                position = position._replace(
                    monitor=monitor, best=value, best_step=position.step
                )
        row = {"step": position.step, "seconds": round(position.seconds, 4)}
        self.log.write(row | (self.position.row or {}) | _score_columns(scores))
        self.position = position
        shown = ", ".join(f"{name} {score.mean:.4f}" for name, score in scores.items())
        self.progress.say(f"step {position.step}: validation {shown}")

    def _save(self) -> None:
        if self.saved == self.position.step:
            return
        # What this checkpoint calls the best must be on the disk before it is.
        self.best.wait()
        self.last.save(
            self.position.step,
            {"state": self.state, "key": self.key},
            {"position": self.position._asdict()},
        )
        self.saved = self.position.step

    def _leave(self, signum: int) -> None:
        self._save()
        self.last.wait()
        name, step = signal.Signals(signum).name, self.position.step
        raise Interrupted(
            f"stopped by {name} at step {step} of {self.settings.steps}, saved in "
            f"{self.last.latest()}; run the same command again to go on",
            signum,
        )

    def _obituary(self, step: int, what: str) -> str:
        self.last.wait()
        path = self.last.latest()
        good = f"the last good checkpoint is {path}" if path else "no checkpoint yet"
        return f"{what} at step {step} of {self.settings.steps}; {good}"


def _score_columns(scores: dict[str, Score]) -> dict[str, float]:
    columns = {}
    for name, score in scores.items():
        columns[f"validation/{name}"] = float(score.mean)
        if score.draws > 1:
            columns[f"validation/{name}/std"] = float(score.std)
    return columns


def _monitored(monitor: str | None, scores: dict[str, Score]) -> str:
    if monitor is None:
        found = [name for name in scores if name.endswith(("accuracy", "/r2"))]
        if found:
            return found[0]
    elif monitor in scores:
        return monitor
    raise ValueError(
        f"monitor={monitor!r} names no scalar to choose the best step by; the "
        f"evaluations give {', '.join(scores) or 'none'}"
    )


def _as_good(value: float, best: float | None, mode: str) -> bool:
    if not math.isfinite(value):
        return False
    return best is None or (value >= best if mode == "max" else value <= best)


def _first_unsound(
    metrics: dict[str, ndarray], sound: dict[str, ndarray], length: int
) -> tuple[int, str] | None:
    """Index of the first step with a bad number and what it was, or None."""
    flags = {name: np.isfinite(values[:length]) for name, values in metrics.items()} | {
        f"state.{name}": values[:length] for name, values in sound.items()
    }
    fine = np.logical_and.reduce(list(flags.values()))
    if fine.all():
        return None
    index = int(np.argmin(fine))
    bad = [name for name, values in flags.items() if not values[index]]
    # The loss before other metrics, those before the state.
    name = "loss" if "loss" in bad else bad[0]
    what = f"{metrics[name][index]}" if name in metrics else "not finite"
    return index, f"{name} is {what}"


def _check(settings: _Settings, chunk: int, keep: int) -> None:
    least = {"chunk": (chunk, 1), "keep": (keep, 1)} | {
        name: (getattr(settings, name), low)
        for name, low in (
            ("seed", 0),
            ("steps", 0),
            ("log_every", 1),
            ("evaluate_every", 0),
            ("checkpoint_every", 0),
        )
    }
    for name, (value, low) in least.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    for name, known in (("choose", CHOICES), ("monitor_mode", ("max", "min"))):
        if getattr(settings, name) not in known:
            raise ValueError(
                f"{name} must be one of {known}, got {getattr(settings, name)!r}"
            )
    if jax.process_count() > 1:
        raise ValueError(
            f"train works in one process, this is one of {jax.process_count()}"
        )
