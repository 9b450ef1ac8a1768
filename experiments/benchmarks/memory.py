"""What the steps of a run add to the memory of their process."""

import ctypes
import gc

import jax.numpy as jnp
import numpy as np

from ddjax import runtime
from ddjax.data import preprocess
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.base import Evaluation, score
from ddjax.methods.base import Method
from ddjax.runtime.devices import peak_memory_mib, reset_peak_memory

__all__ = ["MEMORY", "measured_run", "random_problem", "resident_memory"]

MEMORY = "what the steps add to the process's resident set"
"""How memory is measured, for the record."""


def measured_run(method: Method, problem: Problem, *, steps: int) -> dict[str, float]:
    """A run of one step to warm up and some that are timed, one at a time.

    Returns:
      `seconds_per_step` (median); `step_mib`, what the steps add to the process's
      memory; `peak_mib` of the process during the steps; `preparation_seconds`,
      compilation included.
    """
    result = runtime.train(
        method,
        problem,
        steps=steps + 1,
        chunk=1,
        evaluations=[resident_memory()],
        evaluate_every=steps + 1,
        choose="last",
        verbose=False,
    )
    assert result.seconds_per_step is not None
    before, *_, after = (
        {name.rpartition("/")[2]: value for name, value in row.items()}
        for row in result.history
    )
    return {
        "seconds_per_step": result.seconds_per_step,
        "step_mib": after["peak_mib"] - before["resident_mib"],
        "peak_mib": after["peak_mib"],
        "preparation_seconds": result.preparation_seconds,
    }


def random_problem(classes: int, per_class: int, side: int) -> Problem:
    """Colour images of uniform noise, whose numbers change no cost."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    images = generator.random((len(labels), side, side, 3), np.float32)
    split = Split(jnp.asarray(images), jnp.asarray(labels))
    return Problem(
        name="random",
        train=split,
        validation=split,
        test=split,
        preprocessing=preprocess.identity(),
        class_names=tuple(map(str, range(classes))),
        fingerprint="random",
        source={},
    )


def resident_memory() -> Evaluation:
    """What the process holds now, and held at most since this was last asked.

    Scalars: `resident_memory/peak_mib` and `resident_memory/resident_mib`. As an
    evaluation it is asked by the loop between preparation and the first step.
    """

    def evaluate(key, distilled, problem, split, cache=None):
        del key, distilled, problem, split, cache
        peak = peak_memory_mib()
        _give_back()
        if not reset_peak_memory():
            raise OSError("this system cannot reset the peak of a process's memory")
        # The peak that begins here is what is resident now.
        return {
            "resident_memory/peak_mib": score([peak]),
            "resident_memory/resident_mib": score([peak_memory_mib()]),
        }

    return Evaluation("resident_memory", {}, evaluate)


def _give_back() -> None:
    """Returns freed memory to the system, which the steps would otherwise use first."""
    gc.collect()
    # A function of glibc; other C libraries hold little back.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
