"""A small problem, a method that is a quadratic, and an evaluation, for the loop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddjax import runtime
from ddjax.data.feed import batches
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split, identity
from ddjax.evaluation.base import Evaluation, Score
from ddjax.methods.base import Method
from ddjax.runtime.run_report import Report
from ddjax.runtime.scores import Measured
from ddjax.storage.cache import no_cache
from ddjax.synthetic.decoders import pixels
from ddjax.synthetic.distilled import DistilledSet, distilled_set


class State(NamedTuple):
    learned: dict[str, Any]
    optimizer: Any
    nothing: Any
    best: Any


def problem(n: int = 24, host: bool = False) -> Problem:
    """Random 3 x 3 images of two classes."""
    rng = np.random.default_rng(0)
    place = np.asarray if host else jnp.asarray

    def split(count: int) -> Split:
        inputs = rng.standard_normal((count, 3, 3, 1)).astype(np.float32)
        return Split(place(inputs), place((np.arange(count) % 2).astype(np.int32)))

    return Problem(
        name="toy",
        train=split(n),
        validation=split(8),
        test=split(8),
        preprocessing=Preprocessing("none", np.float32(0), np.float32(1)),
        class_names=("even", "odd"),
        fingerprint="0" * 64,
        source={},
    )


def quadratic(
    *,
    learning_rate: float = 0.05,
    samples: int = 2,
    batch_size: int = 5,
    blow_up_at: int | None = None,
    poison: str = "loss",
    weights: str = "aa",
    calls: dict[str, int] | None = None,
) -> Method:
    """Moves `samples` images towards the mean of random real ones.

    `calls` counts what Python runs: `prepare`, `computed` and traces of `step`;
    `weights` is a checksum among the settings.
    """
    optimizer = optax.adam(learning_rate)
    calls = {} if calls is None else calls

    def count(name):
        calls[name] = calls.get(name, 0) + 1

    def prepare(key, problem, cache=no_cache):
        count("prepare")

        def compute():
            count("computed")
            return {"noise": jax.random.normal(key, (3, 3, 1))}

        about = {"problem": identity(problem)}
        noise = jnp.asarray(cache("noise", about, compute)["noise"])
        return {"rows": batches(problem.train, batch_size), "noise": noise}

    def init(key, problem, data):
        inputs = jax.random.normal(key, (samples, 3, 3, 1))
        learned = {"inputs": inputs, "scale": jnp.asarray(1.0)}
        return State(learned, optimizer.init(learned), None, jnp.float32(jnp.inf))

    def sample(key, data):
        noise = data["noise"] + 1e-3 * jax.random.normal(key, (3, 3, 1))
        return {"inputs": data["rows"].inputs + noise[None] * 1e-3}

    def step(state, batch, key, progress):
        count("step")

        def loss(learned):
            noise = 1e-2 * jax.random.uniform(key, batch["inputs"].shape[1:])
            goal = jnp.mean(batch["inputs"], axis=0) + noise
            gap = learned["inputs"] * learned["scale"] - goal[None]
            return jnp.mean(jnp.square(gap))

        value, gradients = jax.value_and_grad(loss)(state.learned)
        with jax.numpy_dtype_promotion("standard"):  # optax promotes
            updates, opt = optimizer.update(gradients, state.optimizer, state.learned)
        learned = optax.apply_updates(state.learned, updates)
        if blow_up_at is not None:
            now = opt[0].count == blow_up_at
            if poison == "loss":
                value = jnp.where(now, jnp.nan, value)
            else:
                scale = jnp.where(now, jnp.inf, learned["scale"])
                learned = {**learned, "scale": scale}
        best = jnp.minimum(state.best, value)
        metrics = {"loss": value, "count": opt[0].count, "steps": progress.steps}
        return State(learned, opt, None, best), metrics

    def distilled(key, state, problem, data):
        targets = jnp.zeros((samples, 2), jnp.float32)
        return distilled_set(
            {"inputs": state.learned["inputs"], "targets": targets},
            pixels(),
            problem,
            recipe={"targets_kind": "scores"},
            labels=jnp.zeros((samples,), jnp.int32),
        )

    settings = {
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "encoder": [{"file": "weights", "sha256": weights}],
    }
    return Method("quadratic", settings, prepare, init, sample, step, distilled)


QUADRATIC = quadratic()
"""The one to take where it may be any: its steps are compiled once for all tests."""


def spread(name: str = "spread") -> Evaluation:
    """Mean square of the images, and a number drawn from the key."""

    def evaluate(key, distilled, problem, split, cache=no_cache):
        size = float(np.mean(np.square(np.asarray(distilled.stored["inputs"]))))
        return {
            f"{name}/size": Score(size, 0.0, 1),
            f"{name}/accuracy": Score(1.0 / (1.0 + size), 0.01, 3),
            f"{name}/draw": Score(float(jax.random.uniform(key)), 0.0, 1),
        }

    return Evaluation(name, {}, evaluate)


def report(
    distilled: DistilledSet, *, test: dict[str, Score] | None = None, **changes: Any
) -> Report:
    """What a run says of a set; invented, but for the set."""
    measured = Measured(
        distilled,
        real_samples=1294,
        validation={"probe_softmax/accuracy": Score(0.5, 0.0, 1)},
        test=test or {"probe_softmax/accuracy": Score(0.25, 0.01, 3)},
    )
    fields = dict(
        title="toy <on> toys",
        measured=measured,
        start=distilled,
        step=8,
        steps=10,
        chosen_by="the last one",
        seconds=75.0,
        preparation_seconds=1.0,
        config={"a|b": "<script>", "directory": "/home/me"},
        metrics=[{"step": i, "loss": 2.0 - i, "seconds": 0.1} for i in range(2)],
        run={"commit": "abc123", "processor": "x|secret"},
        command="python -m x --workdir=/home/me",
    )
    return Report(**(fields | changes))


PROBLEM = problem()


def train(workdir, *, method=QUADRATIC, problem=PROBLEM, **settings):
    """A run of seed 3, five steps at once, without a word."""
    settings = {"seed": 3, "chunk": 5, "verbose": False, **settings}
    return runtime.train(method, problem, workdir=workdir, **settings)


def inputs(distilled: DistilledSet) -> np.ndarray:
    return np.asarray(distilled.stored["inputs"])
