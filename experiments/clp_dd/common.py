"""What the experiments on frozen encoders share: data, contenders, several seeds."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from numpy import ndarray

from ddjax import data, methods
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method, remember_nothing
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.cache import cached_features
from ddjax.models.encoders.settings import as_encoder
from ddjax.runtime.chunk import compile_chunk, own_buffers
from ddjax.runtime.feed import feed_data
from ddjax.runtime.loop import run_keys
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.initialization import select
from ddjax.synthetic.parameterization import pixels
from ddjax.synthetic.targets import centred_one_hot
from experiments import records

__all__ = [
    "CONTENDERS",
    "SELECTIONS",
    "STARTS",
    "Distilled",
    "cache_directory",
    "define_data_flags",
    "distil",
    "encoder",
    "load",
    "real_set",
    "seeds_to_run",
    "settings_of",
    "worth",
]

STARTS: dict[str, dict[str, Any]] = {
    "own": {"initialization": "own", "parameterization": "pyramid"},
    "random": {
        "initialization": "own",
        "parameterization": {"name": "pyramid", "extend_every": 0},
    },
    "real": {
        "initialization": "real",
        "parameterization": {"name": "pyramid", "extend_every": 0},
    },
}
"""How images start: as LGM's authors have it, at one random pixel a channel, levels
coming in as the run goes on; with all levels at once, at random or at real images."""

CONTENDERS: dict[str, dict[str, Any]] = {
    "lgm": {"name": "lgm", "augmentation": None},
    "lgm_augmented": {"name": "lgm", "augmentation": "flip_crop_noise"},
    "clp_squared": {"name": "clp", "outer": "squared"},
    "clp": {"name": "clp", "outer": "cross_entropy"},
    "clp_augmented": {
        "name": "clp",
        "outer": "cross_entropy",
        "augmentation": "flip_crop_noise",
        "ridge": 1.0,
    },
    "clp_several": {"name": "clp", "outer": "cross_entropy"},
}
"""Methods that learn images, by the name of their rows, and what makes them these;
`clp_several` learns on the encoders of transfer as well."""

SELECTIONS = ("random", "nearest", "kmeans")
"""Real images: random ones, those nearest to their class's mean feature, and those
nearest to the centres of k-means on its features."""


def define_data_flags(datasets: Sequence[str], encoders: Sequence[str]) -> None:
    """Defines `--data_dir`, `--cache_dir`, `--datasets`, `--encoders` and `--seeds`."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder with the image folders (imagenette/, cub50/) and the encoders' weights "
        "(encoders/). Default: the environment's DDJAX_DATA_DIR, then ./local_data.",
    )
    flags.DEFINE_string(
        "cache_dir", None, "Folder of cached features. Default: DATA_DIR/features."
    )
    flags.DEFINE_list("datasets", list(datasets), "Data sets, in order.")
    flags.DEFINE_list("encoders", list(encoders), "Encoders to distil with, in order.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds; a table wants at least three.")


def _data_directory() -> Path:
    given = flags.FLAGS.data_dir or os.environ.get("DDJAX_DATA_DIR")
    return Path(given or "local_data")


def cache_directory() -> str:
    """Where features are cached."""
    return flags.FLAGS.cache_dir or str(_data_directory() / "features")


def load(name: str) -> Problem:
    """Pixels in [0, 1] on the host, a tenth of the training data held out.

    The split is the same for all seeds, so that features are computed once.
    """
    return data.load(
        name,
        directory=_data_directory(),
        preprocessing="none",
        validation=0.1,
        seed=0,
        on_device=False,
    )


def encoder(name: str) -> Encoder:
    """A pretrained encoder."""
    return as_encoder({"name": name, "directory": str(_data_directory())})


def settings_of(
    contender: str,
    *,
    steps: int,
    per_class: int,
    learning_rate: float,
    start: str = "real",
    copies: int = 10,
    augment_real: bool = True,
    temperature: float | None = None,
    ridge: float | None = None,
) -> dict[str, Any]:
    """All settings of a contender but its encoder, for `methods.make`, and records.

    Args:
      contender: one of `CONTENDERS`.
      steps: over which the rate falls to zero.
      per_class: images a class.
      learning_rate: of the images.
      start: one of `STARTS`.
      copies: augmented copies of each image a step, where it is augmented.
      augment_real: whether LGM with augmentation sees real images augmented too.
      temperature: of CLP-DD's cross-entropy; None for the method's default.
      ridge: of CLP-DD's probe; None for the method's default, with augmentation 1: a
        probe that fits every copy of an image closely learns crops by heart.
    """
    settings = {
        **CONTENDERS[contender],
        **STARTS[start],
        "per_class": per_class,
        "learning_rate": learning_rate,
        "decay_steps": steps,
    }
    if settings.get("augmentation") is not None:
        settings["copies"] = copies
        if settings["name"] == "lgm":
            settings["augment_real"] = augment_real
    if temperature is not None and settings.get("outer") == "cross_entropy":
        settings["temperature"] = temperature
    if ridge is not None and settings["name"] == "clp":
        settings["ridge"] = ridge
    return settings


class Distilled(NamedTuple):
    """One run.

    Attributes:
      seed: of the run.
      distilled: the set after the last step.
      losses: one a step.
      seconds_per_step: of all but the first chunk.
    """

    seed: int
    distilled: DistilledSet
    losses: Float[ndarray, " steps"]
    seconds_per_step: float


def distil(
    settings: Mapping[str, Any],
    network: Encoder | Sequence[Encoder],
    problem: Problem,
    *,
    seeds: Sequence[int],
    steps: int,
    chunk: int = 20,
) -> Iterator[Distilled]:
    """Runs of several seeds, prepared and compiled once."""
    keywords = {key: value for key, value in settings.items() if key != "name"}
    method: Method = methods.make(
        settings["name"],
        encoder=network,
        features_directory=cache_directory(),
        **keywords,
    )
    first = run_keys(seeds[0])
    prepared = method.prepare(first.prepare, problem, remember_nothing)
    feed = feed_data(prepared)
    if feed.host:
        raise ValueError("the experiments want data that fit on the device")
    state = own_buffers(method.init(first.init, problem, prepared))
    compiled = compile_chunk(
        method, state, feed, first.steps, capacity=min(chunk, steps)
    )
    for seed in seeds:
        keys = run_keys(seed)
        state = own_buffers(method.init(keys.init, problem, prepared))
        losses, times = [], []
        for start in range(0, steps, compiled.capacity):
            count = min(compiled.capacity, steps - start)
            began = time.perf_counter()
            state, metrics, _ = compiled.run(
                state, feed.device, {}, keys.steps, np.int32(start), np.int32(count)
            )
            losses.append(np.asarray(metrics["loss"])[:count])
            times.append((time.perf_counter() - began) / count)
        yield Distilled(
            seed,
            method.distilled(state, problem, prepared),
            np.concatenate(losses),
            float(np.median(times[1:] or times)),
        )


def real_set(
    how: str, network: Encoder, problem: Problem, *, seed: int, per_class: int
) -> DistilledSet:
    """Chosen training images as a distilled set; see `SELECTIONS`.

    Raises:
      ValueError: another `how`.
    """
    if how not in SELECTIONS:
        raise ValueError(f"unknown selection {how!r}; known: {', '.join(SELECTIONS)}")
    labels = np.asarray(problem.train.targets)
    if how == "random":
        key = run_keys(seed).init
        images, chosen = select(key, problem, per_class=per_class, how="real")
    else:
        features = cached_features(
            network,
            problem.train.inputs,
            directory=cache_directory(),
            fingerprint=f"{problem.fingerprint}/train",
        )
        # What is selected are numbers of rows that travel with the features.
        rows = (
            _nearest_to_means(features, labels, per_class)
            if how == "nearest"
            else _kmeans_rows(features, problem, seed, per_class)
        )
        images, chosen = problem.train.inputs[rows], labels[rows]
    return DistilledSet(
        stored={"inputs": jnp.asarray(images)},
        parameterization=pixels(),
        targets=centred_one_hot(jnp.asarray(chosen), problem.classes),
        targets_kind="scores",
        labels=jnp.asarray(chosen),
        preprocessing=problem.preprocessing,
        class_names=problem.class_names,
        provenance={"selection": how},
    )


def _nearest_to_means(features: ndarray, labels: ndarray, per_class: int) -> ndarray:
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own = np.asarray(features[members], np.float64)
        distances = np.square(own - own.mean(axis=0)).sum(axis=1)
        rows.append(members[np.argsort(distances, kind="stable")[:per_class]])
    return np.concatenate(rows)


def _kmeans_rows(
    features: ndarray, problem: Problem, seed: int, per_class: int
) -> ndarray:
    as_inputs = problem._replace(
        train=Split(np.asarray(features), problem.train.targets)
    )
    found, labels = select(
        run_keys(seed).init, as_inputs, per_class=per_class, how="kmeans"
    )
    truth = np.asarray(problem.train.targets)
    return np.array(
        [
            int(np.flatnonzero((features == row).all(axis=1) & (truth == label))[0])
            for row, label in zip(np.asarray(found), np.asarray(labels), strict=True)
        ]
    )


def seeds_to_run(name: str, seeds: Sequence[int], *, redo: bool) -> list[int]:
    """Seeds without a record `NAME_seedSEED`; with `redo` all of them."""
    return [
        seed for seed in seeds if redo or not records.on_record(f"{name}_seed{seed}")
    ]


def worth(
    evaluations: Sequence[Evaluation],
    distilled: DistilledSet,
    problem: Problem,
    *,
    seed: int,
    splits: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Split -> scalar -> mean over the evaluation's own draws."""
    key = run_keys(seed).test
    found: dict[str, dict[str, float]] = {}
    for split in splits:
        scores = {}
        for index, each in enumerate(evaluations):
            at = jax.random.fold_in(key, index)
            scores |= each.evaluate(at, distilled, problem, split)
        found[split] = {name: score.mean for name, score in scores.items()}
    return found
