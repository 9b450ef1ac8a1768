"""Time of one step against images per class: DGKIP in both forms, KIP and RFAD.

    python -m experiments.dgkip.step_time --data_dir=DIR

All methods on one machine, on the same problem and the same networks, taking turns: the
median over several runs of each run's median over its chunks. The paper's claim is that
DGKIP's cost stays low as images are added; its gradient-norm form needs no m x m kernel
and should grow no faster than linearly.

Writes `experiments/results/dgkip/step_time/`, which `--again` measures anew, on your
machine; the committed record took a minute and a half on two cores.
"""

import functools
import statistics
from collections.abc import Mapping
from typing import Any

from absl import flags

from ddjax import methods, runtime
from ddjax.data.problem import Problem
from ddjax.methods.base import Method
from ddjax.storage.cache import Cache, in_memory
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.data_flag import define_data_dir
from experiments.dgkip import common

__all__ = ["contenders", "measure"]

define_data_dir()
_DATASET = flags.DEFINE_enum("dataset", "mnist", common.DATASETS, "Data set.")
_PER_CLASS = commands.define_integers(
    "per_class", (1, 10, 50, 100), "Images per class."
)
_NETWORKS = flags.DEFINE_integer("networks", 30, "Random networks; the paper's: 30.")
_WIDTH = flags.DEFINE_integer("width", 1024, "Units a layer; the paper's: 1024.")
_BATCH = flags.DEFINE_integer(
    "batch_size", 1024, "Real samples a step of KIP and RFAD."
)
_RUNS = flags.DEFINE_integer("runs", 3, "Runs of each method, in turns.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed chunks a run, after a first step.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps a chunk.")
commands.define_record_flags()


def contenders(
    architecture: dict, networks: int, batch_size: int, per_class: int
) -> dict[str, Method]:
    """The methods that are timed, by name."""
    features = {"architecture": architecture, "networks": networks}
    # A step costs the same however well the real problem is solved.
    dgkip = {"per_class": per_class, "features": features, "solver_tolerance": 0.1}
    return {
        "dgkip, gradient norm": methods.dgkip(**dgkip, gap_space="features"),
        "dgkip, kernel form": methods.dgkip(**dgkip, gap_space="kernel"),
        "kip, fixed random features": methods.kip(
            per_class=per_class, features=features, batch_size=batch_size
        ),
        "rfad": methods.rfad(
            per_class=per_class,
            architecture=architecture,
            networks=networks,
            batch_size=batch_size,
        ),
    }


def measure(
    contenders: Mapping[str, Method],
    problem: Problem,
    *,
    runs: int,
    chunks: int,
    steps: int,
    cache: Cache,
) -> dict[str, float]:
    """Median seconds a step of each method.

    They take turns, so that a machine that slows down does so for all of them. A run
    is a step to warm up and so many timed chunks; through the cache only steps are
    repeated.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, method in contenders.items():
            result = runtime.train(
                method,
                problem,
                steps=1 + chunks * steps,
                chunk=steps,
                cache=cache,
                checkpoint_every=0,
                evaluate_every=0,
                verbose=False,
            )
            assert result.seconds_per_step is not None
            seconds[name].append(result.seconds_per_step)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Times every method at every size."""
    dataset, networks, width = _DATASET.value, _NETWORKS.value, _WIDTH.value
    architecture = {"kind": "fully_connected", "depth": 3, "width": width}
    load = functools.cache(lambda: common.load(dataset, seed=0, classes=(0, 1)))
    cache = in_memory()

    def row(count: int) -> dict[str, Any]:
        seconds = measure(
            contenders(architecture, networks, _BATCH.value, count),
            load(),
            runs=_RUNS.value,
            chunks=_REPEATS.value,
            steps=_STEPS.value,
            cache=cache,
        )
        return {"per_class": count, "seconds_per_step": seconds}

    cell = Cell(
        f"dgkip/step_time/{dataset}",
        {
            "dataset": dataset,
            "classes": [0, 1],
            "seed": 0,
            "architecture": architecture,
            "networks": networks,
            "batch_size": _BATCH.value,
            "runs": _RUNS.value,
            "repeats": _REPEATS.value,
            "steps": _STEPS.value,
        },
        {
            f"{count} a class": functools.partial(row, count)
            for count in _PER_CLASS.value
        },
        lambda found: Measured(
            {"rows": list(found.values())},
            f"{networks} networks of 3 x {width}, {_BATCH.value} real samples a step "
            "for KIP and RFAD",
            None
            if (networks, width) == (30, 1024)
            else "fewer or narrower networks than the paper's",
        ),
        check=lambda: commands.check_data(dataset),
    )
    commands.measure([cell], tables=["step_time"])


if __name__ == "__main__":
    commands.run(main)
