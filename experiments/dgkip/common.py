"""What the experiments on the duality gap share: data, learning rates, accuracies.

Their runs share expensive results (features of the real data, solutions on it) through
one `ddjax.storage.cache.in_memory` that is passed to each `ddjax.runtime.train`.
"""

from collections.abc import Sequence

import numpy as np
from absl import flags
from jaxtyping import Array, Float
from numpy import ndarray

from ddjax import data
from ddjax.data.problem import Problem
from ddjax.evaluation import convex
from ddjax.evaluation.accuracy import accuracy
from ddjax.models import feature_maps
from ddjax.models.feature_maps import FeatureMap
from ddjax.storage.cache import Cache

__all__ = ["RIDGE", "accuracy_on", "define_data_flags", "descent", "load"]

RIDGE = 1e-6
"""The paper's lambda per sample, of the real problem and of the distilled one."""


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
    """Accuracy of a model on a split of real data.

    Args:
      problem: the real data.
      split: of it.
      weights: of features.
      feature_map: what the model sees inputs through.
      params: of its networks, already drawn.
      cache: keeps the split's features.
    """
    view = convex.View(
        feature_map, False, params, feature_maps.application(feature_map)
    )
    features = convex.split_features(view, problem, split, block=256, cache=cache)
    predictions = np.asarray(features) @ np.asarray(weights)
    return accuracy(predictions, getattr(problem, split).labels)
