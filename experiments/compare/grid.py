"""Runs or resumes a grid of methods, data sets, images a class and seeds.

    python -m experiments.compare.grid --data_dir=DIR [--methods=random,dm] ...

Every set is made in a folder of its own under `--sets`, goes on where it was left, and
is judged as `--eval` says, a record each under `experiments/results/compare/SCALE`:
`network` trains finite networks from scratch (each of `--architectures`), `kernel` and
`kernel_fully_connected` are kernel ridge regression. They are different numbers and
stand in different tables.

The same command may be started any number of times at once, on one machine or on
several that share `--sets` and the records: each process takes what no other one
holds, and at the end waits for the others, takes over what a process that died has
left, and ends with status 0 when all records are there. See `experiments.commands` for
what a network file system needs. `--minutes=9` stops in time, and the same command goes
on. Settings are chosen with `--splits=validation`. On two cores MNIST with 1 and 10
images a class takes some minutes a set at the reduced scale.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ddjax import runtime
from ddjax.storage.cache import Cache, in_memory, on_disk
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.compare import common
from experiments.compare.common import METHODS, SCALES, Task
from experiments.compare.tables import BOUNDS, TABLES
from experiments.data_flag import define_data_dir

__all__ = ["main"]

define_data_dir()
_METHODS = commands.define_choices("methods", tuple(METHODS), "Rows of the tables.")
_DATASETS = flags.DEFINE_list(
    "datasets", ["mnist", "cifar10"], "Names that `ddjax.data.load` knows."
)
_PER_CLASS = commands.define_integers("ipc", (1, 10), "Images a class.")
_EVALUATIONS = commands.define_choices(
    "eval",
    ("network", "kernel"),
    "What is trained on a set.",
    choices=common.EVALUATIONS,
)
_ARCHITECTURES = commands.define_choices(
    "architectures", ("convnet",), "Networks to train.", choices=common.WIDTHS
)
_SEEDS = commands.define_seeds()
_SCALE = flags.DEFINE_enum("scale", "reduced", list(SCALES), "How large the runs are.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Of every method that learns, in place of its own.", lower_bound=1
)
_SPLITS = commands.define_splits()
_SETS = flags.DEFINE_string("sets", "runs/compare", "Folder of the runs.")
_NAME = flags.DEFINE_string("name", None, "Folder of the records. Default: by scale.")
commands.define_minutes()
commands.define_record_flags()


def _root() -> str:
    return _NAME.value or f"compare/{_SCALE.value}"


def _cell(
    row: str,
    *,
    dataset: str,
    per_class: int,
    kind: str,
    architecture: str | None,
    seed: int,
    distilling: Cache,
    judging: Cache,
) -> Cell:
    """One set, judged in one way: `architecture` is None for kernels.

    All processes share the cache of what distilling prepares.
    """
    scale = SCALES[_SCALE.value]
    plan = METHODS[row](Task(dataset, per_class, scale))
    steps = (_STEPS.value or plan.steps) if plan.steps else 0
    place: dict[str, Any] = {
        "dataset": dataset,
        "per_class": None if row in BOUNDS else per_class,
        "seed": seed,
    }
    folder = common.run_folder(_SETS.value, _root(), row, **place)
    name = f"{_root()}/{common.stem(row, **place)}_{architecture or kind}"

    def worth() -> dict[str, Any]:
        problem = common.load(dataset, plan.preprocessing, scale.limit)
        found, facts = common.distil(
            plan, problem, steps=steps, seed=seed, workdir=folder, cache=distilling
        )
        if row in BOUNDS:
            facts = {}
            found = common.real_set(problem) if kind == "network" else found
        judge = common.evaluation_of(
            row, plan, kind=kind, architecture=architecture or "", scale=scale
        )
        scores = {}
        for split in _SPLITS.value:
            found_scores = judge.evaluate(
                runtime.run_keys(seed).test, found, problem, split, judging
            )
            (accuracy,) = (
                value
                for name, value in found_scores.items()
                if name.endswith("/accuracy")
            )
            scores[split] = accuracy._asdict()
        images = len(problem.train.inputs)
        return {"scores": scores, "images": images, **facts}

    def result(found: Mapping[str, Any]) -> Measured:
        return Measured(
            found[""],
            f"{dataset}, {found['']['images']} real images",
            common.reduction(row, plan, kind=kind, scale=scale, steps=steps),
        )

    return Cell(
        name,
        {
            **place,
            "row": row,
            "evaluation": kind,
            "architecture": architecture,
            "scale": _SCALE.value,
            "sizes": scale,
            "plan": plan,
            "steps": steps,
        },
        commands.whole(worth),
        result,
        check=lambda: commands.check_data(dataset),
        claim=folder,
    )


def main() -> None:
    """Measures what is not on record yet."""
    distilling = on_disk(Path(_SETS.value) / "cache", limit=2**28)
    judging = in_memory(limit=2**30)
    commands.measure(
        [
            _cell(
                row,
                dataset=dataset,
                per_class=per_class,
                kind=kind,
                architecture=architecture,
                seed=seed,
                distilling=distilling,
                judging=judging,
            )
            for seed in _SEEDS.value
            for dataset in _DATASETS.value
            for per_class in _PER_CLASS.value
            for row in _METHODS.value
            # Whatever the number of images, all of them are the same.
            if row not in BOUNDS or per_class == _PER_CLASS.value[0]
            for kind in _EVALUATIONS.value
            for architecture in (_ARCHITECTURES.value if kind == "network" else [None])
        ],
        tables=list(TABLES),
    )


if __name__ == "__main__":
    commands.run(main)
