"""What the experiments on the duality gap share: flags, quick runs, shared features."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging
from jaxtyping import Array
from numpy import ndarray

from ddjax import data
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.accuracy import accuracy
from ddjax.kernels import erm, losses, random_features
from ddjax.methods.base import Arrays, Method, Remember
from ddjax.methods.optimization import State
from ddjax.models import feature_maps
from ddjax.runtime.chunk import Chunk, compile_chunk, own_buffers
from ddjax.runtime.feed import feed_data
from ddjax.runtime.loop import run_keys
from ddjax.synthetic.distilled import DistilledSet, decoded_inputs

__all__ = [
    "Run",
    "Rows",
    "Started",
    "apart",
    "define_data_flags",
    "distil",
    "features_of",
    "load",
    "probe",
    "shelf",
    "start",
]


def define_data_flags(datasets: Sequence[str]) -> None:
    """Defines `--data_dir`, `--datasets` and `--seeds`."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder with the data sets' official files, one folder a data set. Default: "
        "the environment's DDJAX_DATA_DIR, then ./local_data.",
    )
    flags.DEFINE_list("datasets", list(datasets), "Data sets, in order.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds; a table wants at least three.")


def load(
    name: str,
    *,
    seed: int,
    classes: Sequence[int] | None = None,
    limit: int | None = None,
) -> Problem:
    """A standardised problem with a tenth of the training data held out."""
    return data.load(
        name,
        directory=flags.FLAGS.data_dir,
        classes=classes,
        validation=0.1,
        seed=seed,
        limit=limit,
    )


def shelf() -> Remember:
    """A `Remember` that keeps everything in memory, for runs that share it."""
    kept: dict[str, Arrays] = {}

    def remember(name: str, compute: Callable[[], Arrays]) -> Arrays:
        if name not in kept:
            kept[name] = compute()
        return kept[name]

    return remember


def apart(shared: Remember, owner: str) -> Remember:
    """A view of a shelf on which only the features of the real data are shared."""

    def remember(name: str, compute: Callable[[], Arrays]) -> Arrays:
        return shared(name if name == "real_features" else f"{owner} {name}", compute)

    return remember


class Started(NamedTuple):
    """A method at step 0.

    Attributes:
      data: what it prepared.
      state: its first state.
      advance: `(state, step, count) -> (state, metrics)`, finished when it returns;
        `state` is donated.
    """

    data: Any
    state: State
    advance: Callable[[State, int, int], tuple[State, dict[str, Array]]]


def start(
    method: Method, problem: Problem, *, seed: int, remember: Remember, capacity: int
) -> Started:
    """Prepares and compiles with the keys and the chunk of the launcher's loop."""
    keys = run_keys(seed)
    prepared = method.prepare(keys.prepare, problem, remember)
    feed = feed_data(prepared)
    if feed.host:
        raise ValueError("the experiments want data that fit on the device")
    state = own_buffers(method.init(keys.init, problem, prepared))
    chunk: Chunk = compile_chunk(method, state, feed, keys.steps, capacity=capacity)

    def advance(state: State, step: int, count: int):
        state, metrics, _ = chunk.run(
            state, feed.device, {}, keys.steps, np.int32(step), np.int32(count)
        )
        return jax.block_until_ready(state), metrics

    return Started(prepared, state, advance)


class Run(NamedTuple):
    """A distillation without a working directory.

    Attributes:
      data: what the method prepared.
      state: its last state.
      metrics: name -> one value a step.
      snapshots: step -> state, where asked for.
      seconds_per_step: median over chunks after the first, compilation not counted.
    """

    data: Any
    state: State
    metrics: dict[str, ndarray]
    snapshots: dict[int, State]
    seconds_per_step: float


def distil(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    steps: int,
    remember: Remember,
    snapshots: Sequence[int] = (),
) -> Run:
    """Runs `steps` steps, keeping the metrics of all and the state of some."""
    capacity = max(1, min(steps, 50))
    started = start(method, problem, seed=seed, remember=remember, capacity=capacity)
    prepared, state, advance = started
    kept, metrics, times = {}, [], []
    if 0 in snapshots:
        kept[0] = own_buffers(state)
    stops = sorted({*snapshots, *range(capacity, steps, capacity), steps} - {0})
    done = 0
    for stop in stops:
        began = time.perf_counter()
        state, values = advance(state, done, stop - done)
        times.append((time.perf_counter() - began) / (stop - done))
        metrics.append({k: np.asarray(v)[: stop - done] for k, v in values.items()})
        if stop in snapshots:
            kept[stop] = own_buffers(state)
        done = stop
    joined = {k: np.concatenate([m[k] for m in metrics]) for k in metrics[0]}
    return Run(prepared, state, joined, kept, float(np.median(times[1:] or times)))


class Rows(NamedTuple):
    """Features of one real split, and its labels."""

    features: ndarray
    labels: ndarray


def features_of(
    params: Any, feature_map: feature_maps.FeatureMap, split: Split, *, block: int = 256
) -> Rows:
    """Features of a whole split through given networks."""
    apply = feature_maps.application(feature_map)
    rows = random_features.map_in_blocks(
        apply, split.inputs, block=block, arguments=(params,)
    )
    return Rows(np.asarray(rows), np.asarray(split.targets))


def probe(
    distilled: DistilledSet,
    params: Any,
    feature_map: feature_maps.FeatureMap,
    *,
    loss: str,
    ridge_per_sample: float,
    splits: Mapping[str, Rows],
) -> dict[str, float]:
    """Accuracy of the convex model trained on a distilled set, on named splits.

    Args:
      distilled: the set.
      params: the networks that it is seen through.
      feature_map: their description.
      loss: what the convex model minimises on the set.
      ridge_per_sample: its regularisation; lambda_S = m times this.
      splits: name -> features and labels.
    """
    inputs = decoded_inputs(distilled)
    rows = feature_maps.application(feature_map)(params, inputs)
    solution = erm.solve(
        rows,
        distilled.targets,
        loss=losses.get(loss),
        ridge=ridge_per_sample * inputs.shape[0],
        tolerance=1e-6,
    )
    if not solution.converged:
        logging.warning("%s on the samples was left at gap %g", loss, solution.gap)
    weights = np.asarray(solution.weights, np.float32)
    return {
        name: accuracy(split.features @ weights, split.labels)
        for name, split in splits.items()
    }
