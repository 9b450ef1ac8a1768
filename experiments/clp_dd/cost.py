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
about 14 times faster and less than an eighth of the memory at 1000 classes. One record
for all.
"""

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from ddjax import methods, runtime
from ddjax.data import preprocess
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.base import Evaluation, score
from ddjax.models import encoders
from ddjax.models.encoders.base import Encoder
from experiments import records

__all__ = ["CONTENDERS", "MEMORY", "measure", "resident_memory"]

CONTENDERS: dict[str, dict[str, Any]] = {
    "clp": {"name": "clp"},
    "lgm_augmented": {"name": "lgm"},
}
"""The methods with the settings of their papers, one image a class."""

MEMORY = "what the steps add to the process's resident set"
"""How memory is measured, for the record."""

_ENCODED = {"clp": (1, 0), "lgm_augmented": (10, 10)}
"""Images a class that a step encodes: distilled ones with their copies, real ones."""

_ENCODER = flags.DEFINE_string("encoder", "mobilenetv2", "Registered name.")
_CLASSES = flags.DEFINE_list("classes", ["10", "100", "1000"], "Numbers of classes.")
_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the images in pixels.")
_STEPS = flags.DEFINE_integer("timed_steps", 5, "Timed steps, after one to warm up.")
_ONE = flags.DEFINE_string("one", None, "CONTENDER:CLASSES to measure and print.")


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
    problem = _random_problem(classes, image_size)
    settings = dict(CONTENDERS[contender])
    method = methods.make(settings.pop("name"), encoder=network, **settings)
    result = runtime.train(
        method,
        problem,
        steps=steps + 1,
        chunk=1,
        evaluations=[resident_memory()],
        evaluate_every=steps + 1,
        choose="last",
        verbose=False,
    )
    assert result.seconds_per_step is not None
    before, *_, after = (
        {name.rpartition("/")[2]: value for name, value in row.items()}
        for row in result.history
    )
    return {
        "seconds_per_step": result.seconds_per_step,
        "step_mib": after["peak_mib"] - before["resident_mib"],
        "peak_mib": after["peak_mib"],
        "encoder_seconds": _encoder_seconds(
            network, problem, *_ENCODED[contender], repeats=min(steps, 3)
        ),
    }


def resident_memory() -> Evaluation:
    """What the process holds now, and held at most since this was last asked.

    Scalars: `resident_memory/peak_mib` and `resident_memory/resident_mib`. As an
    evaluation it is asked by the loop between preparation and the first step.
    """

    def evaluate(key, distilled, problem, split, cache=None):
        del key, distilled, problem, split, cache
        peak = records.peak_memory_mib()
        _give_back()
        _forget_peak()
        # With the peak forgotten, it is what is resident now.
        return {
            "resident_memory/peak_mib": score([peak]),
            "resident_memory/resident_mib": score([records.peak_memory_mib()]),
        }

    return Evaluation("resident_memory", {}, evaluate)


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


def _give_back() -> None:
    """Returns to the system what is freed but held, or steps would fill that first."""
    gc.collect()
    # A function of glibc; other C libraries hold little back.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Makes the process's peak begin anew, without what was there before the steps."""
    Path("/proc/self/clear_refs").write_text("5")


def _random_problem(classes: int, image_size: int) -> Problem:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes, dtype=np.int32), 10)
    shape = (len(labels), image_size, image_size, 3)
    split = Split(jnp.asarray(generator.random(shape, np.float32)), jnp.asarray(labels))
    return Problem(
        name="random",
        train=split,
        validation=split,
        test=split,
        preprocessing=preprocess.identity(),
        class_names=tuple(map(str, range(classes))),
        fingerprint="random",
        source={},
    )


def _in_a_process(contender: str, classes: int) -> dict[str, float]:
    flag_values = (f"--{name}={flags.FLAGS[name].value}" for name in (
        "encoder", "image_size", "timed_steps"
    ))  # fmt: skip
    command = [sys.executable, "-m", "experiments.clp_dd.cost", *flag_values]
    done = subprocess.run(
        [*command, f"--one={contender}:{classes}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str]) -> None:
    """Measures everything, or one thing and prints it."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    if _ONE.value:
        contender, _, classes = _ONE.value.partition(":")
        found = measure(
            contender,
            classes=int(classes),
            encoder=_ENCODER.value,
            image_size=_SIZE.value,
            steps=_STEPS.value,
        )
        print(json.dumps(found))
        return
    began, rows = time.perf_counter(), []
    for classes in map(int, _CLASSES.value):
        row: dict[str, Any] = {"classes": classes}
        for contender in CONTENDERS:
            row[contender] = _in_a_process(contender, classes)
            logging.info("%s at %d classes: %s", contender, classes, row[contender])
        rows.append(row)
    path = records.write_record(
        f"clp_dd/cost/{_ENCODER.value}_{_SIZE.value}px",
        {
            "encoder": _ENCODER.value,
            "image_size": _SIZE.value,
            "classes": [row["classes"] for row in rows],
            "steps": _STEPS.value,
            "contenders": CONTENDERS,
            "memory": MEMORY,
            "seed": 0,
        },
        {"rows": rows},
        scale=f"{_ENCODER.value} with random weights, random images of "
        f"{_SIZE.value} px, 1 a class, 10 real ones a class and step",
        reduced=None if _SIZE.value >= 224 else "smaller images than the paper's 224",
        wall_seconds=time.perf_counter() - began,
    )
    logging.info("wrote %s", path)


if __name__ == "__main__":
    app.run(main)
