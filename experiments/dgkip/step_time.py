"""Time of one step against images per class: DGKIP in both forms, KIP and RFAD.

    python -m experiments.dgkip.step_time --data_dir=DIR

All methods in one run on one machine, on the same problem and the same networks, median
over chunks after a warm-up. The paper's claim is that DGKIP's cost stays low as images
are added; its gradient-norm form needs no m x m kernel and should grow no faster than
linearly.
"""

import statistics
import time
from collections.abc import Sequence

from absl import app, flags, logging

from ddjax import methods
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
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed chunks, after one to warm up.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps a chunk.")


def contenders(architecture: dict, networks: int, batch_size: int, per_class: int):
    """The methods that are timed, by name."""
    features = {"architecture": architecture, "networks": networks}
    dgkip = {"per_class": per_class, "features": features, "solver_iterations": 20}
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


def measure(method, problem, *, remember, chunks: int, steps: int) -> float:
    """Median seconds a step over `chunks` chunks of `steps`, after one to warm up."""
    started = common.start(method, problem, seed=0, remember=remember, capacity=steps)
    state, times = started.state, []
    for index in range(chunks + 1):
        began = time.perf_counter()
        state, _ = started.advance(state, index * steps, steps)
        times.append((time.perf_counter() - began) / steps)
    return statistics.median(times[1:])


def main(argv: Sequence[str]) -> None:
    """Times every method at every size."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    began = time.perf_counter()
    dataset = flags.FLAGS.datasets[0]
    problem = common.load(dataset, seed=0, classes=(0, 1))
    architecture = {"kind": "fully_connected", "depth": 3, "width": _WIDTH.value}
    remember, rows = common.shelf(), []
    for count in map(int, _PER_CLASS.value):
        seconds = {
            name: measure(
                method,
                problem,
                remember=remember,
                chunks=_REPEATS.value,
                steps=_STEPS.value,
            )
            for name, method in contenders(
                architecture, _NETWORKS.value, _BATCH.value, count
            ).items()
        }
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
