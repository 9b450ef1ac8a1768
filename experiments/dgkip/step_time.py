"""Time of one step against images per class: DGKIP in both forms, KIP and RFAD.

    python -m experiments.dgkip.step_time --data_dir=DIR

All methods on one machine, on the same problem and the same networks, taking turns: the
median over several runs of each run's median over its chunks. The paper's claim is that
DGKIP's cost stays low as images are added; its gradient-norm form needs no m x m kernel
and should grow no faster than linearly.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

from absl import app, flags, logging

from ddjax import methods, runtime
from ddjax.data.problem import Problem
from ddjax.methods.base import Method
from ddjax.storage.cache import Cache, in_memory
from experiments import records
from experiments.dgkip import common

__all__ = ["contenders", "measure"]

_PER_CLASS = flags.DEFINE_list(
    "per_class", ["1", "10", "50", "100"], "Images per class."
)
_NETWORKS = flags.DEFINE_integer("networks", 30, "Random networks; the paper's: 30.")
_WIDTH = flags.DEFINE_integer("width", 1024, "Units a layer; the paper's: 1024.")
_BATCH = flags.DEFINE_integer(
    "batch_size", 1024, "Real samples a step of KIP and RFAD."
)
_RUNS = flags.DEFINE_integer("runs", 3, "Runs of each method, in turns.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed chunks a run, after a first step.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps a chunk.")


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

    Args:
      contenders: name -> method; they take turns, so that a machine that slows down
        does so for all of them.
      problem: what they distil.
      runs: of each method.
      chunks: timed ones a run, after a first step to warm up.
      steps: of a chunk.
      cache: shared by the runs, so that only steps are repeated.
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


def main(argv: Sequence[str]) -> None:
    """Times every method at every size."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    began = time.perf_counter()
    dataset = flags.FLAGS.datasets[0]
    problem = common.load(dataset, seed=0, classes=(0, 1))
    architecture = {"kind": "fully_connected", "depth": 3, "width": _WIDTH.value}
    cache, rows = in_memory(), []
    for count in map(int, _PER_CLASS.value):
        seconds = measure(
            contenders(architecture, _NETWORKS.value, _BATCH.value, count),
            problem,
            runs=_RUNS.value,
            chunks=_REPEATS.value,
            steps=_STEPS.value,
            cache=cache,
        )
        logging.info("%d images per class: %s", count, seconds)
        rows.append({"per_class": count, "seconds_per_step": seconds})
    full = (_NETWORKS.value, _WIDTH.value) == (30, 1024)
    path = records.write_record(
        f"dgkip/step_time/{dataset}",
        {
            "dataset": dataset,
            "classes": [0, 1],
            "seed": 0,
            "architecture": architecture,
            "networks": _NETWORKS.value,
            "batch_size": _BATCH.value,
            "runs": _RUNS.value,
            "repeats": _REPEATS.value,
            "steps": _STEPS.value,
        },
        {"rows": rows},
        scale=f"{_NETWORKS.value} networks of 3 x {_WIDTH.value}, "
        f"{_BATCH.value} real samples a step for KIP and RFAD",
        reduced=None if full else "fewer or narrower networks than the paper's",
        wall_seconds=time.perf_counter() - began,
    )
    logging.info("wrote %s", path)


if __name__ == "__main__":
    common.define_data_flags(("mnist",))
    app.run(main)
