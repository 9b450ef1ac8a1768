"""Time of a step and peak memory of CLP-DD and LGM + augmentation as classes grow.

    python -m experiments.clp_dd.cost [--classes=10,100,1000] [--image_size=32]

Random images and random weights: neither changes the cost. One image a class; CLP-DD
sees 10 cached feature vectors a class in a step, LGM draws 10 real images a class,
augments and encodes them, and makes 10 augmented copies of each distilled image, as its
authors do. Every measurement is a process of its own: one run of
`ddjax.runtime.train`.

Memory is what the steps add to the process's resident set (on a CPU, under Linux): the
peak is begun anew after everything is prepared and compiled, immediately before the
first step, so that neither the features of the real images nor the compiler count. The
peak itself is recorded beside it, as is the time that the encoder alone takes for the
same images: forward and backward for distilled ones, forward for those real ones that
a step encodes. The paper's figures, on a GPU and four ViT-B encoders at 224 pixels:
about 14 times faster and less than an eighth of the memory at 1000 classes.

One record for all classes, under `experiments/results/clp_dd/cost`, measured anew with
`--again`; no data are needed. With `--image_size=32 --classes=10,100` some four minutes
on two cores.
"""

import functools
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from ddjax import methods
from ddjax.data.problem import Problem
from ddjax.models import encoders
from ddjax.models.encoders.base import Encoder
from experiments import commands
from experiments.benchmarks import common
from experiments.benchmarks.memory import MEMORY, measured_run, random_problem
from experiments.commands import Cell, Measured

__all__ = ["CONTENDERS", "measure"]

CONTENDERS: dict[str, dict[str, Any]] = {
    "clp": {"name": "clp"},
    "lgm_augmented": {"name": "lgm"},
}
"""The methods with the settings of their papers, one image a class."""

_ENCODED = {"clp": (1, 0), "lgm_augmented": (10, 10)}
"""Images a class that a step encodes: distilled ones with their copies, real ones."""

_ENCODER = flags.DEFINE_enum(
    "encoder", "mobilenetv2", list(encoders.ENTRIES), "Registered name."
)
_CLASSES = commands.define_integers(
    "classes", (10, 100, 1000), "Numbers of classes.", lower_bound=2
)
_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images in pixels.")
_STEPS = flags.DEFINE_integer("timed_steps", 5, "Timed steps, after one to warm up.")
_ONE = flags.DEFINE_string("one", None, "CONTENDER:CLASSES to measure and print.")
commands.define_record_flags()


def measure(
    contender: str, *, classes: int, encoder: str, image_size: int, steps: int
) -> dict[str, float]:
    """One contender at one number of classes.

    Returns:
      `seconds_per_step` (median); `step_mib`, what the steps add to the process's
      memory; `peak_mib` of the process during the steps; `encoder_seconds` of a step's
      images alone (median).
    """
    network = encoders.random(encoder, jax.random.key(0))
    problem = random_problem(classes, 10, image_size)
    settings = dict(CONTENDERS[contender])
    method = methods.make(settings.pop("name"), encoder=network, **settings)
    found = measured_run(method, problem, steps=steps)
    del found["preparation_seconds"]
    return {
        **found,
        "encoder_seconds": _encoder_seconds(
            network, problem, *_ENCODED[contender], repeats=min(steps, 3)
        ),
    }


def _encoder_seconds(
    network: Encoder, problem: Problem, distilled: int, real: int, *, repeats: int
) -> float:
    """Median of the encoder's passes over a step's images, so many a class."""

    @jax.jit
    def passes(params, learned, seen):
        gradient = jax.grad(lambda images: jnp.sum(network.apply(params, images)))
        return gradient(learned), network.apply(params, seen) if real else ()

    def images(per_class: int) -> jax.Array:
        rows = np.arange(per_class * problem.classes) % len(problem.train.inputs)
        return jnp.asarray(problem.train.inputs)[rows]

    learned, seen, times = images(distilled), images(real), []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(passes(network.params, learned, seen))
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _in_a_process(contender: str, classes: int) -> dict[str, float]:
    return common.in_a_process(
        "experiments.clp_dd.cost",
        *(f"--{each.name}={each.value}" for each in (_ENCODER, _SIZE, _STEPS)),
        f"--one={contender}:{classes}",
    )


def main() -> None:
    """Measures everything, or one thing and prints it."""
    encoder, size = _ENCODER.value, _SIZE.value
    if _ONE.value:
        contender, _, classes = _ONE.value.partition(":")
        found = measure(
            contender,
            classes=int(classes),
            encoder=encoder,
            image_size=size,
            steps=_STEPS.value,
        )
        print(json.dumps(found))
        return

    def result(found: Mapping[str, Any]) -> Measured:
        rows = [
            {"classes": each}
            | {name: found[f"{name}, {each} classes"] for name in CONTENDERS}
            for each in _CLASSES.value
        ]
        return Measured(
            {"rows": rows},
            f"{encoder} with random weights, random images of {size} px, 1 a class, 10 "
            "real ones a class and step",
            None if size >= 224 else "smaller images than the paper's 224",
        )

    cell = Cell(
        f"clp_dd/cost/{encoder}_{size}px",
        {
            "encoder": encoder,
            "image_size": size,
            "classes": _CLASSES.value,
            "steps": _STEPS.value,
            "contenders": CONTENDERS,
            "memory": MEMORY,
            "seed": 0,
        },
        {
            f"{name}, {each} classes": functools.partial(_in_a_process, name, each)
            for each in _CLASSES.value
            for name in CONTENDERS
        },
        result,
    )
    commands.measure([cell], tables=["clp_cost"])


if __name__ == "__main__":
    commands.run(main)
