"""Time of a step and peak memory of every method as images a class grow.

    python -m experiments.compare.cost [--methods=dm,dsa] [--ipc=1,10,50] [--width=32]

Random images of 32 x 32 pixels in ten classes: neither accuracy nor data matter here.
Every method sees 64 real images a class in a step through a ConvNet-3 of `--width`
channels (KIP through an exact kernel); unrolled methods take ten inner steps, matching
of gradients trains its network ten steps between two. Every measurement is a process of
its own, one run of `ddjax.runtime.train`; memory is what the steps add to the process's
resident set (on a CPU, under Linux), without the data and what was compiled before.

One record, under `experiments/results/compare/cost`; a quarter of an hour on two cores.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

from absl import flags

from ddjax import methods
from ddjax.data.problem import Problem
from experiments import commands
from experiments.benchmarks import common
from experiments.benchmarks.memory import MEMORY, measured_run, random_problem
from experiments.commands import Cell, Measured

__all__ = ["METHODS", "main", "measure", "problem_of", "settings_of"]

CLASSES, REAL, SIDE = 10, 64, 32
METHODS = ("dd", "dc", "dsa", "dm", "idm", "mtt", "frepo", "kip", "rfad", "dgkip")
"""What is measured, in the order of the table."""

_METHODS = commands.define_choices("methods", METHODS, "To measure.")
_PER_CLASS = commands.define_integers("ipc", (1, 10, 50), "Images a class.")
_WIDTH = flags.DEFINE_integer("width", 32, "Channels of the networks.", lower_bound=1)
_STEPS = flags.DEFINE_integer("timed_steps", 3, "Timed steps, after one to warm up.")
_ONE = flags.DEFINE_string("one", None, "METHOD:IPC to measure and print.")
commands.define_record_flags()


def settings_of(name: str, *, per_class: int, width: int) -> dict[str, Any]:
    """Keywords of a method, the same work for each as far as they have it in common."""
    network = {"settings": {"width": width}}
    pool = {"settings": {"width": width}, "students": 2, "steps": 100}
    hidden = {"kind": "convolutional", "width": width}
    everything = CLASSES * REAL
    matching = {**network, "real_per_class": REAL, "outer_steps": 10}
    matching["network_steps"] = 10
    own: dict[str, dict[str, Any]] = {
        "dd": {**network, "inner_steps": 10, "batch_size": everything},
        "dc": matching,
        "dsa": matching,
        "dm": {**network, "real_per_class": REAL},
        "idm": {"pool": {**pool, "steps": 2}, "real_per_class": REAL},
        "mtt": {
            **network,
            "student_steps": 10,
            "expert_epochs": 1,
            "max_start": 0,
            "experts": {"experts": 1, "epochs": 1},
        },
        "frepo": {"pool": {**pool, "steps": 2}, "batch_size": everything},
        "kip": {"batch_size": everything},
        "rfad": {"architecture": hidden, "networks": 2, "batch_size": everything},
        "dgkip": {
            "features": {
                "kind": "random_features",
                "architecture": hidden,
                "networks": 2,
            },
            "solver_tolerance": 1e-2,
        },
    }
    return {**own[name], "per_class": per_class}


def measure(
    name: str, *, per_class: int, width: int, steps: int, problem: Problem
) -> dict[str, float]:
    """One method at one number of images a class, see `measured_run`."""
    settings = settings_of(name, per_class=per_class, width=width)
    return measured_run(methods.make(name, **settings), problem, steps=steps)


def problem_of(name: str, *, per_class: int) -> Problem:
    """Random images among which the method finds as many as its set starts from."""
    # An image of IDM's holds four.
    started = 4 * per_class if name == "idm" else per_class
    return random_problem(CLASSES, max(REAL, started), SIDE)


def _in_a_process(name: str, per_class: int) -> dict[str, float]:
    return common.in_a_process(
        "experiments.compare.cost",
        f"--one={name}:{per_class}",
        f"--width={_WIDTH.value}",
        f"--timed_steps={_STEPS.value}",
    )


def main() -> None:
    """Measures everything, or one thing and prints it."""
    if _ONE.value:
        name, _, per_class = _ONE.value.partition(":")
        found = measure(
            name,
            per_class=int(per_class),
            width=_WIDTH.value,
            steps=_STEPS.value,
            problem=problem_of(name, per_class=int(per_class)),
        )
        print(json.dumps(found))
        return

    def result(found: Mapping[str, Any]) -> Measured:
        rows = [
            {"method": name}
            | {str(each): found[f"{name}, {each}"] for each in _PER_CLASS.value}
            for name in _METHODS.value
        ]
        return Measured(
            {"per_class": _PER_CLASS.value, "rows": rows},
            f"random images of {SIDE} px in {CLASSES} classes, {REAL} real ones a "
            f"class and step, a ConvNet-3 of {_WIDTH.value} channels",
            None if _WIDTH.value >= 128 else "narrower networks than the papers' 128",
        )

    settings = {
        name: settings_of(name, per_class=1, width=_WIDTH.value)
        for name in _METHODS.value
    }
    cell = Cell(
        f"compare/cost/width{_WIDTH.value}",
        {
            "width": _WIDTH.value,
            "per_class": _PER_CLASS.value,
            "steps": _STEPS.value,
            "methods": settings,
            "memory": MEMORY,
            "seed": 0,
        },
        {
            f"{name}, {each}": functools.partial(_in_a_process, name, each)
            for name in _METHODS.value
            for each in _PER_CLASS.value
        },
        result,
    )
    commands.measure([cell], tables=["compare_growth"])


if __name__ == "__main__":
    commands.run(main)
