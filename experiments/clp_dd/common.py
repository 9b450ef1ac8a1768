"""What the experiments on frozen encoders share: data, contenders, several seeds."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float, Int
from numpy import ndarray

from ddjax import data, methods, runtime
from ddjax.data.problem import Problem, Split
from ddjax.evaluation.base import Evaluation
from ddjax.methods import frozen_features
from ddjax.methods.base import Method
from ddjax.models.encoders import ENTRIES
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.settings import as_encoder
from ddjax.runtime import run_keys
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders import Pairs, pixels
from ddjax.synthetic.distilled import DistilledSet, distilled_set
from ddjax.synthetic.initialization import chosen_by_class
from ddjax.synthetic.origin import provenance
from ddjax.synthetic.targets import centred_one_hot
from experiments import commands
from experiments.data_flag import data_dir, define_data_dir

# Flags belong to the command that asks for them, and so stand in its --help.
flags.disclaim_key_flags()

__all__ = [
    "CONTENDERS",
    "SELECTIONS",
    "STARTS",
    "cache_directory",
    "check",
    "define_data_flags",
    "define_datasets_and_encoders",
    "distil",
    "encoder",
    "load",
    "method_of",
    "real_features",
    "real_set",
    "settings_of",
    "worth",
]

_ALL_LEVELS = {"name": "pyramid", "extend_every": 0}

STARTS: dict[str, dict[str, Any]] = {
    "growing_noise": {"initialization": "decoder_noise", "decoder": "pyramid"},
    "noise": {"initialization": "decoder_noise", "decoder": _ALL_LEVELS},
    "balanced": {"initialization": "balanced", "decoder": _ALL_LEVELS},
}
"""How images start: as LGM's authors have it, at one random pixel a channel, levels
coming in as the run goes on; with all levels at once, at random or at real images, the
same number from each class."""

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


_Names = flags.FlagHolder[list[str]]


def define_data_flags() -> None:
    """Defines `--data_dir` and `--cache_dir`."""
    define_data_dir()
    flags.DEFINE_string(
        "cache_dir", None, "Folder of cached features. Default: DATA_DIR/features."
    )


def define_datasets_and_encoders() -> tuple[_Names, _Names]:
    """Defines `--datasets` and `--encoders`, and returns both."""
    known = ("mobilenetv2", "efficientnet_lite0")
    return (
        commands.define_choices(
            "datasets", ("imagenette", "cub50"), "Data sets, in order."
        ),
        commands.define_choices(
            "encoders", known, "Encoders of the sets, in order.", choices=ENTRIES
        ),
    )


def cache_directory() -> str:
    """Where features are cached."""
    return flags.FLAGS.cache_dir or str(Path(data_dir() or "local_data") / "features")


@functools.lru_cache(maxsize=1)
def load(name: str) -> Problem:
    """Pixels in [0, 1] on the host, a tenth of the training data held out.

    The split is the same for all seeds, so that features are computed once.
    """
    return data.load(
        name,
        directory=data_dir(),
        preprocessing="none",
        validation=0.1,
        seed=0,
        on_device=False,
    )


@functools.cache
def encoder(name: str) -> Encoder:
    """A pretrained encoder."""
    return as_encoder({"name": name, "directory": data_dir()})


def check(dataset: str, encoder_names: Sequence[str]) -> None:
    """Looks whether images and weights are there, before any work."""
    commands.check_data(dataset)
    for name in encoder_names:
        encoder(name)


def real_features(network: Encoder, problem: Problem) -> Float[ndarray, "n p"]:
    """Features of the training images, from the cache that methods read as well."""
    found = frozen_features.real_features(
        network, problem, directory=cache_directory(), block=64, cache=no_cache
    )
    return np.asarray(found)


def settings_of(
    contender: str,
    *,
    per_class: int,
    learning_rate: float,
    start: str = "balanced",
    copies: int = 10,
    augment_real: bool = True,
    temperature: float | None = None,
    ridge: float | None = None,
) -> dict[str, Any]:
    """All settings of a contender but its encoder, for `methods.make`, and records.

    Args:
      contender: one of `CONTENDERS`.
      per_class: images a class.
      learning_rate: of the images at the start; it falls to zero along a cosine.
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
        "descent": {"learning_rate": learning_rate, "schedule": "cosine"},
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


def method_of(
    settings: Mapping[str, Any], network: Encoder | Sequence[Encoder]
) -> Method:
    """The method of what `settings_of` gives; one for all seeds compiles once."""
    return methods.make(
        encoder=network, features_directory=cache_directory(), **settings
    )


def distil(
    method: Method, problem: Problem, *, seed: int, steps: int, cache: Cache = no_cache
) -> runtime.TrainResult:
    """One run; those of several seeds share what is prepared, through the cache."""
    return runtime.train(
        method, problem, seed=seed, steps=steps, cache=cache, log_every=1, verbose=False
    )


def real_set(
    how: str, network: Encoder, problem: Problem, *, seed: int, per_class: int
) -> DistilledSet:
    """Chosen training images as a distilled set; see `SELECTIONS`.

    Raises:
      ValueError: another `how`.
    """
    rows = _chosen(how, network, problem, seed=seed, per_class=per_class)
    labels = jnp.asarray(np.asarray(problem.train.labels)[rows])
    decoder = pixels()
    targets = centred_one_hot(labels, problem.classes)
    images = jnp.asarray(problem.train.inputs[rows])
    return distilled_set(
        decoder.init(Pairs(images, targets), {}),
        decoder,
        problem,
        recipe={"targets_kind": "scores"},
        labels=labels,
    )._replace(
        provenance=provenance(
            problem,
            method="selection",
            settings={"how": how, "per_class": per_class, "encoder": network.name},
            seeds={"run": seed},
        )
    )


def _chosen(
    how: str, network: Encoder, problem: Problem, *, seed: int, per_class: int
) -> Int[ndarray, " m"]:
    """Positions of the chosen images, ordered by class."""
    if how not in SELECTIONS:
        raise ValueError(f"unknown selection {how!r}; known: {', '.join(SELECTIONS)}")
    key = run_keys(seed).init
    if how == "random":
        return chosen_by_class(key, problem, per_class=per_class, how="balanced")
    features = real_features(network, problem)
    labels = np.asarray(problem.train.labels)
    if how == "nearest":
        return _nearest_to_means(features, labels, per_class)
    return chosen_by_class(
        key,
        problem._replace(train=Split(features, labels)),
        per_class=per_class,
        how="kmeans_nearest",
    )


def _nearest_to_means(features: ndarray, labels: ndarray, per_class: int) -> ndarray:
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own = np.asarray(features[members], np.float64)
        distances = np.square(own - own.mean(axis=0)).sum(axis=1)
        rows.append(members[np.argsort(distances, kind="stable")[:per_class]])
    return np.concatenate(rows)


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
