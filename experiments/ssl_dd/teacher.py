"""The teacher of self-supervised distillation: a ResNet-18 that Barlow Twins trains.

    python -m experiments.ssl_dd.teacher --data_dir=DIR [--minutes=60] ...

It sees the training images without their labels. Left in `--workdir`: the run, and
`teacher.safetensors`, the network without its head, which is what an encoder
`{"name": "network_file", "weights": PATH}` names. The record, under
`experiments/results/ssl_dd/teacher`, holds the accuracy of ridge regression and of
nearest neighbours on its representations. Lee et al. (2024) and Yu et al. (2025) train
for 1000 epochs, which is what `--steps` does by default on the 45 000 images that are
left of CIFAR-100's when a tenth is held out; a `--width` below 64 and fewer steps are
written into the record. With `--minutes` the command stops after the first steps behind
that time, with status 143 and everything saved, and the same command goes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import flags

from ddjax import data, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.trained_network import trained_network
from ddjax.methods.barlow_twins import barlow_twins
from ddjax.models import trained
from ddjax.models.networks import COMPUTE_DTYPES
from experiments import commands
from experiments.commands import Cell, Measured
from experiments.data_flag import data_dir, define_data_dir

__all__ = ["main"]

define_data_dir()
_DATASET = flags.DEFINE_string("dataset", "cifar100", "Data set of images.")
_SIZE = flags.DEFINE_integer(
    "image_size", None, "Side that image folders are resized to.", lower_bound=8
)
_STEPS = flags.DEFINE_integer("steps", 175_000, "Of training.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch_size", 256, "Images a step.", lower_bound=2)
_WIDTH = flags.DEFINE_integer(
    "width", 64, "Channels of the ResNet-18's first stage.", lower_bound=1
)
_PROJECTOR = flags.DEFINE_integer(
    "projector", 2048, "Width of the projector's three layers.", lower_bound=1
)
_DTYPE = flags.DEFINE_enum(
    "compute_dtype", "float32", list(COMPUTE_DTYPES), "What the networks compute in."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the run.", lower_bound=0)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run. Default: runs/ssl_dd/NAME OF THE RECORD."
)
commands.define_minutes()
commands.define_record_flags()

_EPOCHS, _FULL_WIDTH = 1000, 64
# A checkpoint holds some 200 MB; a stop on request makes one of its own.
_CHECKPOINT_EVERY = 2000


def _load() -> Problem:
    return data.load(
        _DATASET.value,
        directory=data_dir(),
        image_size=_SIZE.value,
        preprocessing="standardize",
    )


def _train(workdir: Path) -> dict[str, Any]:
    """Trains, or goes on; writes the teacher, and measures it."""
    problem, evaluation = _load(), trained_network()
    method = barlow_twins(
        network={"name": "resnet18", "width": _WIDTH.value},
        projector=(_PROJECTOR.value,) * 3,
        batch_size=_BATCH.value,
        compute_dtype=_DTYPE.value,
    )
    result = runtime.train(
        method,
        problem,
        steps=_STEPS.value,
        seed=_SEED.value,
        workdir=workdir,
        evaluations=[evaluation],
        evaluate_every=0,
        checkpoint_every=_CHECKPOINT_EVERY,
        choose="last",
    )
    path = trained.save(workdir / "teacher.safetensors", result.distilled)
    print(f"wrote {path}", flush=True)
    key = jax.random.fold_in(runtime.run_keys(_SEED.value).test, 0)
    test = evaluation.evaluate(key, result.distilled, problem, "test")
    return {
        "validation": _means(result.validation),
        "test": _means(test),
        "loss": result.history[-1]["loss"],
        "digest": trained.digest(result.distilled),
        "images": len(problem.train.inputs),
        "train_seconds": result.seconds,
        "seconds_per_step": result.seconds_per_step,
    }


def _means(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: score.mean for name, score in scores.items()}


def _result(found: Mapping[str, Any]) -> Measured:
    teacher = found[""]
    epochs = _STEPS.value * _BATCH.value / teacher["images"]
    less = [
        *([f"{epochs:.3g} epochs of {_EPOCHS}"] if epochs < 0.99 * _EPOCHS else []),
        *([f"width {_WIDTH.value} of {_FULL_WIDTH}"] if _WIDTH.value < 64 else []),
    ]
    scale = f"{teacher['images']} images, {_STEPS.value} steps of {_BATCH.value}"
    return Measured(teacher, scale, ", ".join(less) or None)


def main() -> None:
    """Trains the teacher that is not on record yet."""
    size = f"_{_SIZE.value}px" if _SIZE.value else ""
    dataset = _DATASET.value.replace(":", "_").replace("/", "_")
    name = f"ssl_dd/teacher/{dataset}{size}_width{_WIDTH.value}_seed{_SEED.value}"
    workdir = Path(_WORKDIR.value or f"runs/{name}")
    cell = Cell(
        name,
        {
            "dataset": _DATASET.value,
            "image_size": _SIZE.value,
            "steps": _STEPS.value,
            "batch_size": _BATCH.value,
            "width": _WIDTH.value,
            "projector": _PROJECTOR.value,
            "compute_dtype": _DTYPE.value,
            "seed": _SEED.value,
        },
        commands.whole(lambda: _train(workdir)),
        _result,
        check=lambda: commands.check_data(_DATASET.value),
    )
    commands.measure([cell])


if __name__ == "__main__":
    commands.run(main)
