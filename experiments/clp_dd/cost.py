"""Time of a step and peak memory of CLP-DD and LGM + augmentation as classes grow.

    python -m experiments.clp_dd.cost [--classes=10,100,1000] [--image_size=32]

Random images and random weights: neither changes the cost. One image a class; CLP-DD
sees 10 cached feature vectors a class in a step, LGM draws 10 real images a class,
augments and encodes them, and makes 10 augmented copies of each distilled image, as its
authors do. Every measurement is a process of its own. Memory is that of the compiled
step (its arguments, results and temporary buffers, as XLA plans them); the process's
peak during the steps (Linux) is recorded beside it, as is the time that the encoder
alone takes for the same images: forward and backward for distilled ones, forward for
those real ones that a step encodes. The paper's figures, on a GPU and
four ViT-B encoders at 224 pixels: about 14 times faster and less than an eighth of the
memory at 1000 classes. One record for all.
"""

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

from ddjax import methods
from ddjax.data import preprocess
from ddjax.data.problem import Problem, Split
from ddjax.methods.base import remember_nothing
from ddjax.models import encoders
from ddjax.models.encoders.base import Encoder
from ddjax.runtime.chunk import compile_chunk, own_buffers
from ddjax.runtime.feed import feed_data
from ddjax.runtime.loop import run_keys
from experiments import records

__all__ = ["CONTENDERS", "measure"]

CONTENDERS: dict[str, dict[str, Any]] = {
    "clp": {"name": "clp"},
    "lgm_augmented": {"name": "lgm"},
}
"""The methods with the settings of their papers, one image a class."""

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
      `seconds_per_step` (median); `step_mib` of the compiled step; `peak_mib` of the
      process during the steps; `encoder_seconds` of a step's images alone (median).
    """
    network = encoders.random(encoder, jax.random.key(0))
    problem = _random_problem(classes, image_size)
    settings = dict(CONTENDERS[contender])
    method = methods.make(settings.pop("name"), encoder=network, **settings)
    keys = run_keys(0)
    prepared = method.prepare(keys.prepare, problem, remember_nothing)
    feed = feed_data(prepared)
    state = own_buffers(method.init(keys.init, problem, prepared))
    compiled = compile_chunk(method, state, feed, keys.steps, capacity=1)
    planned = compiled.run.memory_analysis()  # type: ignore
    program = (
        planned.temp_size_in_bytes
        + planned.argument_size_in_bytes
        + planned.output_size_in_bytes
        - planned.alias_size_in_bytes
    )
    _forget_peak()
    times = []
    for step in range(steps + 1):
        began = time.perf_counter()
        state, _, _ = compiled.run(
            state, feed.device, {}, keys.steps, np.int32(step), np.int32(1)
        )
        jax.block_until_ready(state)
        times.append(time.perf_counter() - began)
    return {
        "seconds_per_step": statistics.median(times[1:]),
        "step_mib": program / 2**20,
        "peak_mib": records.peak_memory_mib(),
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
