"""Linear probes on frozen encoders: real images, LGM and CLP-DD, with transfer.

    python -m experiments.clp_dd.table --data_dir=DIR [--datasets=imagenette] ...

For every data set and encoder: a probe on the features of all the training images (the
upper bound), sets of real images, and sets that LGM and CLP-DD distil, each with
several seeds. Every set is probed in closed form and by gradient, through the encoder
that it was made with and through the others (transfer). The last step counts: there
is nothing to choose. Settings are chosen with `--splits=validation`; the test split is
read once. One record a set, under `experiments/results/clp_dd/table`; what is on record
is not measured again (`--again` does). The committed records, with fewer trainings of
the probes, took two hours in all on two cores.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ddjax import synthetic
from ddjax.data.problem import Problem
from ddjax.evaluation import full_data_linear_probe, linear_probe
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method
from ddjax.models import encoders
from ddjax.storage.cache import Cache, in_memory
from ddjax.synthetic.distilled import DistilledSet
from experiments import commands
from experiments.clp_dd import common
from experiments.commands import Cell, Measured

__all__ = ["ROWS"]

ROWS = ("full", *common.SELECTIONS, *common.CONTENDERS)
"""Short names of the table's rows; `full` is the upper bound."""

common.define_data_flags()
_DATASETS, _ENCODERS = common.define_datasets_and_encoders()
_SEEDS = commands.define_seeds()
_ROWS = commands.define_choices("rows", ROWS, "Rows of the table.")
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
_TRANSFER = commands.define_choices(
    "transfer",
    (),
    "Encoders to probe through as well; the row clp_several distils on them, too.",
    choices=encoders.ENTRIES,
    least=0,
)
_SPLITS = commands.define_splits()
_NAME = flags.DEFINE_string("name", "clp_dd/table", "Folder of the records.")
_SETS = flags.DEFINE_string("sets", "runs/clp_dd", "Folder of the distilled sets.")
_REDUCED = flags.DEFINE_string("reduced", None, "How this is less than the protocol.")
commands.define_record_flags()


def _others(encoder: str) -> list[str]:
    """Encoders of transfer."""
    return [each for each in _TRANSFER.value if each != encoder]


@functools.cache
def _evaluations(row: str, encoder: str) -> list[Evaluation]:
    network, seeds = common.encoder(encoder), _TRAININGS.value
    directory = common.cache_directory()
    if row == "full":
        return [
            full_data_linear_probe(
                encoder=network, features_directory=directory, seeds=seeds
            )
        ]
    settings: dict[str, Any] = {
        "features_directory": directory,
        "seeds": seeds,
        "views": None if _VIEWS.value < 0 else _VIEWS.value,
        "ridge": _RIDGE.value,
    }
    own = linear_probe(encoder=network, **settings)
    return [own] + [
        linear_probe(
            encoder=common.encoder(other), label=f"through_{other}", **settings
        )
        for other in _others(encoder)
    ]


def _settings(row: str) -> dict[str, Any]:
    """What makes a row's sets, for records."""
    if row not in common.CONTENDERS:
        return {"name": row, "per_class": _PER_CLASS.value}
    is_lgm = row.startswith("lgm")
    return common.settings_of(
        row,
        per_class=_PER_CLASS.value,
        learning_rate=_LGM_RATE.value if is_lgm else _RATE.value,
        start=_START.value,
        copies=_COPIES.value,
        augment_real=_AUGMENT_REAL.value,
        temperature=_TEMPERATURE.value,
        ridge=_RIDGE.value,
    )


def _steps(row: str) -> int | None:
    """Of a row that learns."""
    if row not in common.CONTENDERS:
        return None
    return _LGM_STEPS.value if row.startswith("lgm") else _STEPS.value


@functools.cache
def _method(row: str, encoder: str) -> Method:
    names = [encoder, *(_others(encoder) if row == "clp_several" else ())]
    return common.method_of(_settings(row), [common.encoder(each) for each in names])


def _set(
    name: str, row: str, encoder: str, problem: Problem, seed: int, cache: Cache
) -> tuple[DistilledSet, dict[str, Any]]:
    """The set of a row, which is kept in `--sets` when it is learned, and facts."""
    steps = _steps(row)
    if steps is None:
        how = "nearest" if row == "full" else row
        real = common.real_set(
            how, common.encoder(encoder), problem, seed=seed, per_class=_PER_CLASS.value
        )
        return real, {}
    run = common.distil(
        _method(row, encoder), problem, seed=seed, steps=steps, cache=cache
    )
    synthetic.save(Path(_SETS.value) / name.replace("/", "_"), run.distilled)
    return run.distilled, {
        "seconds_per_step": run.seconds_per_step,
        "first_loss": run.history[0]["loss"],
        "last_loss": run.history[-1]["loss"],
    }


def _cell(dataset: str, encoder: str, row: str, seed: int, cache: Cache) -> Cell:
    # The bound is of the data and has no images a class.
    count = "" if row == "full" else f"_ipc{_PER_CLASS.value}"
    name = f"{_NAME.value}/{dataset}_{encoder}_{row}{count}_seed{seed}"
    steps = _steps(row)

    def worth() -> dict[str, Any]:
        problem = common.load(dataset)
        distilled, facts = _set(name, row, encoder, problem, seed, cache)
        evaluations = _evaluations(row, encoder)
        found = common.worth(
            evaluations, distilled, problem, seed=seed, splits=_SPLITS.value
        )
        return {**found, **facts}

    def result(found: Mapping[str, Any]) -> Measured:
        inputs = common.load(dataset).train.inputs
        length = f", {steps} steps" if steps else ""
        scale = f"{len(inputs)} real images of {inputs.shape[1]} px{length}"
        return Measured(found[""], scale, _REDUCED.value)

    return Cell(
        name,
        {
            "dataset": dataset,
            "encoder": encoder,
            "row": row,
            "seed": seed,
            "method": _settings(row) | ({"steps": steps} if steps else {}),
            "views": _VIEWS.value,
            "trainings": _TRAININGS.value,
            "ridge": _RIDGE.value,
        },
        commands.whole(worth),
        result,
        check=lambda: common.check(dataset, [encoder, *_others(encoder)]),
    )


def main() -> None:
    """Measures what is not on record yet."""
    cache = in_memory(limit=2**31)
    tables = {"clp_dd/table": ["clp_accuracy"], "clp_dd/from_noise": ["clp_from_noise"]}
    commands.measure(
        [
            _cell(dataset, encoder, row, seed, cache)
            for dataset in _DATASETS.value
            for encoder in _ENCODERS.value
            for row in _ROWS.value
            for seed in (_SEEDS.value[:1] if row == "full" else _SEEDS.value)
        ],
        tables=tables.get(_NAME.value, []),
    )


if __name__ == "__main__":
    commands.run(main)
