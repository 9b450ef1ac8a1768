"""Linear probes on frozen encoders: real images, LGM and CLP-DD, with transfer.

    python -m experiments.clp_dd.table --data_dir=DIR [--datasets=imagenette] ...

For every data set and encoder: a probe on the features of all the training images (the
upper bound), sets of real images, and sets that LGM and CLP-DD distil, each with
several seeds. Every set is probed in closed form and by gradient, through the encoder
that it was made with and through the others (transfer). The last step counts: there
is nothing to choose. Settings are chosen with `--splits=validation`; the test split is
read once. One record a set; what is on record is not run again (`--redo` does).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from ddjax import synthetic
from ddjax.data.problem import Problem
from ddjax.evaluation import full_data_linear_probe, linear_probe
from ddjax.evaluation.base import Evaluation
from experiments import records
from experiments.clp_dd import common

__all__ = ["ROWS"]

ROWS = ("full", *common.SELECTIONS, *common.CONTENDERS)
"""Short names of the table's rows; `full` is the upper bound."""

_ROWS = flags.DEFINE_list("rows", list(ROWS), "Rows of the table.")
_PER_CLASS = flags.DEFINE_integer("per_class", 1, "Images a class.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 1000, "Of CLP-DD.", lower_bound=1)
_LGM_STEPS = flags.DEFINE_integer("lgm_steps", 5000, "Of LGM.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-2, "Of CLP-DD.")
_LGM_RATE = flags.DEFINE_float("lgm_learning_rate", 2e-3, "Of LGM.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.1, "Of CLP-DD's cross-entropy.")
_RIDGE = flags.DEFINE_float(
    "ridge",
    None,
    "Lambda of CLP-DD's probe and of all rows' probes in closed form. Default: 0.01, "
    "for CLP-DD with augmentation 1.",
)
_START = flags.DEFINE_enum(
    "start", "growing_noise", list(common.STARTS), "Of the images."
)
_COPIES = flags.DEFINE_integer(
    "copies", 10, "Augmented copies of each image a step, in augmented rows."
)
_AUGMENT_REAL = flags.DEFINE_bool(
    "augment_real", True, "Whether LGM + augmentation augments real images too."
)
_VIEWS = flags.DEFINE_integer(
    "views", -1, "Of each image for the probe's training; -1: new ones in each epoch."
)
_TRAININGS = flags.DEFINE_integer(
    "trainings", 5, "Seeds of the probes' training by gradient.", lower_bound=1
)
_TRANSFER = flags.DEFINE_list(
    "transfer",
    [],
    "Encoders to probe through as well; the row clp_several distils on them, too.",
)
_SPLITS = flags.DEFINE_list(
    "splits", ["validation", "test"], "Splits to report; leave test out when choosing."
)
_NAME = flags.DEFINE_string("name", "clp_dd/table", "Folder of the records.")
_SETS = flags.DEFINE_string("sets", "runs/clp_dd", "Folder of the distilled sets.")
_REDUCED = flags.DEFINE_string("reduced", None, "How this is less than the protocol.")
_REDO = flags.DEFINE_bool("redo", False, "Run again what is on record.")


def _evaluations(network: Any, others: Sequence[str]) -> list[Evaluation]:
    common_settings: dict[str, Any] = {
        "features_directory": common.cache_directory(),
        "seeds": _TRAININGS.value,
        "views": None if _VIEWS.value < 0 else _VIEWS.value,
        "ridge": _RIDGE.value,
    }
    own = linear_probe(encoder=network, **common_settings)
    return [own] + [
        linear_probe(
            encoder=common.encoder(other), label=f"through_{other}", **common_settings
        )
        for other in others
    ]


def _others(encoder: str) -> list[str]:
    """Encoders of transfer."""
    return [each for each in _TRANSFER.value if each != encoder]


def _run_row(row: str, name: str, network: Any, problem: Problem, seeds: list[int]):
    """Yields (seed, set, facts) for what is not on record."""
    per_class = _PER_CLASS.value
    if row in common.CONTENDERS:
        is_lgm = row.startswith("lgm")
        steps = _LGM_STEPS.value if is_lgm else _STEPS.value
        settings = common.settings_of(
            row,
            per_class=per_class,
            learning_rate=_LGM_RATE.value if is_lgm else _RATE.value,
            start=_START.value,
            copies=_COPIES.value,
            augment_real=_AUGMENT_REAL.value,
            temperature=_TEMPERATURE.value,
            ridge=_RIDGE.value,
        )
        networks = network
        if row == "clp_several":
            networks = [network, *map(common.encoder, _others(network.name))]
        runs = common.distil(settings, networks, problem, seeds=seeds, steps=steps)
        for run in runs:
            facts = {
                "seconds_per_step": run.seconds_per_step,
                "first_loss": float(run.losses[0]),
                "last_loss": float(run.losses[-1]),
            }
            synthetic.save(
                Path(_SETS.value) / f"{name.replace('/', '_')}_seed{run.seed}",
                run.distilled,
            )
            yield run.seed, run.distilled, {**settings, "steps": steps}, facts
        return
    for seed in seeds:
        how = "nearest" if row == "full" else row
        distilled = common.real_set(
            how, network, problem, seed=seed, per_class=per_class
        )
        yield seed, distilled, {"name": row, "per_class": per_class}, {}


def main(argv: Sequence[str]) -> None:
    """Runs what is not on record yet."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    seeds = [int(each) for each in flags.FLAGS.seeds]
    for dataset in flags.FLAGS.datasets:
        problem = None
        for encoder in flags.FLAGS.encoders:
            for row in _ROWS.value:
                if row not in ROWS:
                    raise app.UsageError(f"unknown row {row!r}; known: {ROWS}")
                name = f"{_NAME.value}/{dataset}_{encoder}_{row}"
                # The bound is of the data and has no images a class.
                name += "" if row == "full" else f"_ipc{_PER_CLASS.value}"
                todo = common.seeds_to_run(
                    name, seeds[:1] if row == "full" else seeds, redo=_REDO.value
                )
                if not todo:
                    logging.info("%s is on record", name)
                    continue
                problem = problem or common.load(dataset)
                _record(row, name, dataset, encoder, problem, todo)


def _record(row, name, dataset, encoder, problem: Problem, seeds: list[int]) -> None:
    network = common.encoder(encoder)
    if row == "full":
        evaluations = [
            full_data_linear_probe(
                encoder=network,
                features_directory=common.cache_directory(),
                seeds=_TRAININGS.value,
            )
        ]
    else:
        evaluations = _evaluations(network, _others(encoder))
    began = time.perf_counter()
    for seed, distilled, settings, facts in _run_row(
        row, name, network, problem, seeds
    ):
        results = common.worth(
            evaluations, distilled, problem, seed=seed, splits=_SPLITS.value
        )
        logging.info("%s seed %d: %s %s", name, seed, results, facts)
        steps = settings.get("steps")
        length = f", {steps} steps" if steps else ""
        path = records.write_record(
            f"{name}_seed{seed}",
            {
                "dataset": dataset,
                "encoder": encoder,
                "row": row,
                "seed": seed,
                "method": settings,
                "views": _VIEWS.value,
                "trainings": _TRAININGS.value,
                "ridge": _RIDGE.value,
            },
            {**results, **facts},
            scale=f"{len(problem.train.inputs)} real images of "
            f"{problem.train.inputs.shape[1]} px{length}",
            reduced=_REDUCED.value,
            wall_seconds=time.perf_counter() - began,
        )
        logging.info("wrote %s", path)
        began = time.perf_counter()


if __name__ == "__main__":
    common.define_data_flags(
        ("imagenette", "cub50"), ("mobilenetv2", "efficientnet_lite0")
    )
    app.run(main)
