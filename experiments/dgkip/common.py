"""What the experiments on the duality gap share: data, learning rates, accuracies.

Their runs share expensive results (features of the real data, solutions on it) through
one `ddjax.storage.cache.in_memory` that is passed to each `ddjax.runtime.train`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax import data
from ddjax.command.ending import ConfigError
from ddjax.data.problem import Problem
from ddjax.evaluation import convex
from ddjax.evaluation.accuracy import accuracy
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.storage.cache import Cache
from experiments import commands
from experiments.data_flag import data_dir, define_data_dir

# Flags belong to the command that asks for them, and so stand in its --help.
flags.disclaim_key_flags()

__all__ = [
    "DATASETS",
    "RIDGE",
    "accuracy_on",
    "check_same_length",
    "define_data_flags",
    "descent",
    "load",
]

DATASETS = ("mnist", "fashion_mnist", "cifar10")
"""Those of the paper's two classes."""

RIDGE = 1e-6
"""The paper's lambda per sample, of the real problem and of the distilled one."""


def define_data_flags(
    datasets: Sequence[str],
) -> tuple[flags.FlagHolder[list[str]], flags.FlagHolder[list[int]]]:
    """Defines `--data_dir`, `--datasets` and `--seeds`; returns the last two."""
    define_data_dir()
    return (
        commands.define_choices("datasets", datasets, "Data sets, in order."),
        commands.define_seeds(),
    )


def check_same_length(
    per_class: flags.FlagHolder[list[int]], *others: flags.FlagHolder[list[Any]]
) -> None:
    """Refuses flags that have to have as many entries as `--per_class`."""
    for other in others:
        if len(other.value) != len(per_class.value):
            raise ConfigError(
                f"--{other.name} has {len(other.value)} values and --{per_class.name} "
                f"{len(per_class.value)}: they go together"
            )


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
        directory=data_dir(),
        classes=classes,
        validation=0.1,
        seed=seed,
        limit=limit,
    )


def descent(learning_rate: float) -> dict:
    """Rates on two classes: up over a tenth of a run, then down along a cosine.

    Args:
      learning_rate: the largest, of the images; that of the labels is a tenth.
    """
    return {
        "learning_rate": learning_rate,
        "schedule": "cosine",
        "warmup": 0.1,
        "rates": {"targets": learning_rate / 10},
    }


def accuracy_on(
    problem: Problem,
    split: str,
    *,
    weights: Float[Array | ndarray, "p *c"],
    feature_map: FeatureMap,
    params: object,
    cache: Cache,
) -> float:
    """Accuracy on a split of a model with drawn networks; features are cached."""
    view = convex.View(
        feature_map, False, params, feature_maps.application(feature_map)
    )
    features = convex.split_features(view, problem, split, block=256, cache=cache)
    predictions = np.asarray(features) @ np.asarray(weights)
    return accuracy(predictions, getattr(problem, split).labels)
