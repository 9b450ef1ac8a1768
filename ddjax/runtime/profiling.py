"""A trace of a few steps, for TensorBoard and Perfetto."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from ddjax.checks import check_counts

__all__ = ["FOLDER", "STEP", "StepProfiler", "check_profile"]

FOLDER = "profile"
"""Where a run's folder holds its traces."""

STEP = "step"
"""The name of a step's event; its argument `step_num` is the step that it makes."""


def check_profile(
    profile: int | None, steps: int, workdir: str | os.PathLike[str] | None
) -> None:
    """Refuses a trace of `profile` steps that a run has no steps or no place for.

    Raises:
      ValueError: no step to trace, a run that is too short, or one without a folder.
    """
    if profile is None:
        return
    check_counts(profile=profile)
    if profile >= steps:
        raise ValueError(
            f"profile={profile} steps are to be traced after a first one, but the run "
            f"has {steps}; at most {max(0, steps - 1)} can be"
        )
    if workdir is None:
        raise ValueError(
            f"profile={profile} writes into the run's folder: give workdir"
        )


class StepProfiler:
    """Traces steps of a process, from the second call of the compiled steps on.

    The first call warms up: memory is taken, programs are loaded. While the profiler is
    `active`, each step is to be a call of its own, so that it is an event of its own.
    What is done between the steps (checkpoints, evaluations) is in the trace, too.
    """

    def __init__(self, workdir: Path | None, profile: int | None):
        """Traces `profile` steps into `workdir/profile`; none for None."""
        self._workdir, self._left = workdir, profile or 0
        self._warm = self._tracing = False

    def expect(self, left: int) -> None:
        """Warns where a run that goes on has too few steps left."""
        if self._left and self._left >= left:
            warnings.warn(
                f"profile={self._left}: the run has {left} steps left, of which "
                f"{max(0, left - 1)} are traced",
                stacklevel=4,
            )

    @property
    def active(self) -> bool:
        """Whether the next call is to be traced, and is to do one step."""
        return self._warm and self._left > 0

    @contextlib.contextmanager
    def traced(self, step: int) -> Iterator[None]:
        """Around a call of the compiled steps, the last of which makes `step`."""
        if not self.active:
            yield
            self._warm = True
            return
        if not self._tracing:
            self._start()
        with jax.profiler.StepTraceAnnotation(STEP, step_num=step):
            yield
        self._left -= 1
        if not self._left:
            self.close()

    def close(self) -> None:
        """Ends the trace and writes it, if there is one."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()

    def _start(self) -> None:
        assert self._workdir is not None
        options = jax.profiler.ProfileOptions()
        # Every call of a Python function would be an event, and slower for it.
        options.python_tracer_level = 0
        jax.profiler.start_trace(
            self._workdir / FOLDER,
            create_perfetto_trace=True,
            profiler_options=options,
        )
        self._tracing = True
