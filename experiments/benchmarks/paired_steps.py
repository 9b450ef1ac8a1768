"""Steps of methods here and in PyTorch: the same numbers, in turns, side by side.

The modules of steps are `student_step`, `condensation_step` and `encoder_step`, which
`experiments.benchmarks.against_torch` measures. Their PyTorch forms were written for
these comparisons, from the equations, in PyTorch's ordinary manner.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.methods.base import Method, Progress, keys_of_step
from ddjax.runtime.devices import peak_memory_mib
from experiments.benchmarks import common

__all__ = [
    "FORMS",
    "Run",
    "Steps",
    "disagreement",
    "key_of_step",
    "our_steps",
    "print_peak",
    "times",
    "with_torchs_names",
]

FORMS = ("ddjax", "PyTorch")


class Run(NamedTuple):
    """A run that can be stepped.

    Attributes:
      step: takes one step and returns the loss before it.
      learned: what is learned now, by name.
      students: parameters now of the networks that the run trains, by name, in
        PyTorch's layout; none where it trains none.
    """

    step: Callable[[], Any]
    learned: Callable[[], dict[str, ndarray]]
    students: Callable[[], list[dict[str, ndarray]]]


class Steps(NamedTuple):
    """What a module of steps offers.

    Attributes:
      module: its name; run as a command it calls `print_peak`.
      methods: whose steps it has.
      sizes: how large everything is, by name.
      toy: the same, for tests.
      run: `(form, method, sizes) -> Run`, from the same numbers in both forms.
      scale: says in a record what some sizes are.
    """

    module: str
    methods: Sequence[str]
    sizes: Mapping[str, Any]
    toy: Mapping[str, Any]
    run: Callable[[str, str, Any], Run]
    scale: Callable[[Mapping[str, Any]], str]


def key_of_step(seed: int, step: int) -> PRNGKeyArray:
    """What a method's step is given."""
    return keys_of_step(jax.random.key(seed), jnp.asarray(step))[1]


def our_steps(
    method: Method,
    state: Any,
    batch: Any,
    *,
    seed: int,
    length: int,
    learned: Callable[[Any], dict[str, ndarray]],
    students: Callable[[Any], list[dict[str, ndarray]]] = lambda state: [],
) -> Run:
    """A method of ours, at the start of a run of some length, on the same batch.

    `learned` and `students` are of a state, see `Run`.
    """
    step = jax.jit(method.step)
    held: dict[str, Any] = {"state": state, "step": 0}
    progress = Progress(jnp.asarray(0), jnp.asarray(length))

    def one() -> Any:
        key = key_of_step(seed, held["step"])
        held["state"], metrics = step(held["state"], batch, key, progress)
        held["step"] += 1
        return metrics["loss"]

    return Run(one, lambda: learned(held["state"]), lambda: students(held["state"]))


def with_torchs_names(params: Mapping[str, Any]) -> dict[str, ndarray]:
    """Flax parameters of a ConvNet, named and laid out as PyTorch's."""
    found: dict[str, ndarray] = {}
    for layer, values in params.items():
        kind, place = layer.strip("_").rsplit("_", 1)
        for name, value in values.items():
            array = np.asarray(value)
            axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
            what = "bias" if name == "bias" else "weight"
            found[f"{kind}{place}.{what}"] = array.transpose(axes)
    return found


def times(steps: Steps, method: str, sizes: Any, *, repeats: int) -> dict[str, Any]:
    """Seconds of a step in both forms, and how far their results are apart."""
    runs = {form: steps.run(form, method, sizes) for form in FORMS}
    apart = disagreement(runs, steps=1)
    timings = common.time_in_turns(
        {form: each.step for form, each in runs.items()}, repeats=repeats
    )
    return {
        "seconds": timings,
        "times_ours": common.ratios(timings, base="ddjax"),
        "disagreement": apart,
    }


def disagreement(runs: Mapping[str, Run], *, steps: int) -> dict[str, float]:
    """How far losses, what is learned and the students are apart after some steps.

    Mean differences over the mean size of each array. Adam divides by the size of the
    gradient: numbers whose gradient is rounding error go one step size either way.
    """
    losses = {
        form: [float(one.step()) for _ in range(steps)] for form, one in runs.items()
    }
    ended = {form: (one.learned(), one.students()) for form, one in runs.items()}
    (learned, students), (others, other_students) = (ended[form] for form in FORMS)
    ours, theirs = (np.asarray(losses[form]) for form in FORMS)
    return {
        "loss": float(np.max(np.abs(ours - theirs) / theirs)),
        "learned": max(_apart(learned[name], others[name]) for name in others),
        "students": max(
            _apart(student[name], other[name])
            for student, other in zip(students, other_students, strict=True)
            for name in other
        )
        if other_students
        else 0.0,
    }


def print_peak(steps: Steps) -> None:
    """Prints the memory of three steps as one line of JSON: a step module's command.

    With it the processor time of the first step, which compiles what is compiled.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {steps.module}")
    parser.add_argument("--form", choices=FORMS, required=True)
    parser.add_argument("--method", choices=list(steps.methods), required=True)
    sizes = {**steps.sizes, **steps.toy}
    parser.add_argument("--sizes", choices=list(sizes), required=True)
    options = parser.parse_args()
    run = steps.run(options.form, options.method, sizes[options.sizes])
    before, began = peak_memory_mib(), time.process_time()
    jax.block_until_ready(run.step())
    first = time.process_time() - began
    for _ in range(2):
        jax.block_until_ready(run.step())
    found = {"before_mib": before, "peak_mib": peak_memory_mib(), "first_step_s": first}
    print(json.dumps(found), flush=True)


def _apart(mine: ndarray, other: ndarray) -> float:
    return float(np.abs(mine - other).mean() / np.abs(other).mean())
