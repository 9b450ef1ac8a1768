"""The lower bound: the same learner on as many random real samples."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy import ndarray

from ddjax.checks import check_counts
from ddjax.data.problem import Problem
from ddjax.evaluation import learning_targets
from ddjax.evaluation.base import Evaluation, Score, score
from ddjax.evaluation.checks import known_labels, known_targets
from ddjax.evaluation.kernel_regression import kernel_regression
from ddjax.evaluation.linear_probe import linear_probe
from ddjax.evaluation.matching import matched_problem
from ddjax.evaluation.network import network
from ddjax.evaluation.probe import probe
from ddjax.evaluation.regression import regression
from ddjax.kernels._keywords import check_keywords
from ddjax.models.encoders.settings import EncoderSetting
from ddjax.storage.cache import Cache, no_cache
from ddjax.synthetic.decoders import pixels
from ddjax.synthetic.distilled import DistilledSet, decoded
from ddjax.synthetic.initialization import chosen_rows
from ddjax.synthetic.json_text import plain

__all__ = ["LEARNERS", "random_real", "real_samples"]

LEARNERS: dict[str, Callable[..., Evaluation]] = {
    "kernel_regression": kernel_regression,
    "linear_probe": linear_probe,
    "network": network,
    "probe": probe,
    "regression": regression,
}
"""Evaluations that train a learner on a distilled set, by name."""


def random_real(
    *,
    learner: str | Mapping[str, Any],
    encoder: EncoderSetting | None = None,
    features_directory: str | None = None,
    draws: int = 5,
    label: str = "",
) -> Evaluation:
    """What as many random real samples are worth to the same learner.

    A distilled set is worth its cost where it does better than real samples do. For
    each draw, real training samples take the place of the distilled ones: as many, of
    each class as many, with their own labels or targets; the rest of the set, its
    recipe say, stays. They go through the evaluation that the distilled samples go
    through. Scalars are those of that evaluation, under `random_real_<its name>/`, each
    the mean over draws.

    Args:
      learner: a name in `LEARNERS`, or `{"name": ..., settings}`.
      encoder: for a learner that takes one and is not given one by its settings.
      features_directory: with `encoder`.
      draws: of the real samples.
      label: appended to the name, to tell two such evaluations apart.

    Raises:
      ValueError: an unknown learner, or a setting that it does not have or refuses;
        when it is evaluated, what the learner refuses, or fewer rows than the set has.
    """
    settings = plain(locals(), "settings")
    check_counts(draws=draws)
    inner = _learner(learner, {"encoder": encoder, "directory": features_directory})
    name = f"random_real_{inner.name}" + (f"_{label}" if label else "")

    def evaluate(
        key: PRNGKeyArray,
        distilled: DistilledSet,
        problem: Problem,
        split: str,
        cache: Cache = no_cache,
    ) -> dict[str, Score]:
        problem = matched_problem(distilled, problem, split, "train")
        found: dict[str, list[float]] = {}
        for draw in range(draws):
            choice, learning = jax.random.split(jax.random.fold_in(key, draw))
            real = real_samples(choice, distilled, problem)
            scores = inner.evaluate(learning, real, problem, split, cache)
            for scalar, each in scores.items():
                what = scalar.removeprefix(inner.name)
                found.setdefault(f"{name}{what}", []).append(each.mean)
        return {scalar: score(values) for scalar, values in found.items()}

    return Evaluation(name, settings, evaluate)


def real_samples(
    key: PRNGKeyArray, distilled: DistilledSet, problem: Problem
) -> DistilledSet:
    """A set with random real training samples in place of its own.

    As many; of each class as many, where the set says of which its samples are, and
    else as evenly as may be (of a class that has fewer, all). Classes become hard
    targets in the units of the set's own.

    Args:
      key: of the choice.
      distilled: the set.
      problem: real data behind the set's preprocessing.

    Raises:
      ValueError: a problem of regression with fewer rows than the set.
    """
    stored = decoded(distilled).targets
    if distilled.targets_kind == "regression":
        rows = chosen_rows(key, problem, count=len(stored), how="uniform")
        labels, targets = None, known_targets(problem, "train")[rows]
        targets = targets.reshape(-1, *stored.shape[1:])
    else:
        real = known_labels(problem, "train")
        rows = _rows_by_class(key, distilled, real, len(stored), problem.classes)
        labels = real[rows].astype(np.int32)
        targets = learning_targets.natural_targets(
            labels, stored, distilled.targets_kind, problem.classes
        )
    return distilled._replace(
        stored={
            "inputs": np.asarray(problem.train.inputs[rows]),
            "targets": np.asarray(targets, stored.dtype),
        },
        decoder=pixels(),
        labels=labels,
        certificate=None,
    )


def _rows_by_class(
    key: PRNGKeyArray,
    distilled: DistilledSet,
    real: ndarray,
    samples: int,
    classes: int,
) -> ndarray:
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    if distilled.labels is None:
        counts = np.full(classes, samples // classes)
        counts[rng.permutation(classes)[: samples % classes]] += 1
    else:
        counts = np.bincount(np.asarray(distilled.labels), minlength=classes)
    members = [np.flatnonzero(real == label) for label in range(classes)]
    return np.concatenate(
        [
            rng.choice(rows, min(count, len(rows)), replace=False)
            for rows, count in zip(members, counts, strict=True)
        ]
    )


def _learner(given: str | Mapping[str, Any], encoding: Mapping[str, Any]) -> Evaluation:
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.pop("name", None)
    if name not in LEARNERS:
        known = ", ".join(LEARNERS)
        raise ValueError(f"learner of random_real is {name!r}; known: {known}")
    factory = LEARNERS[name]
    takes_one = "encoder" in inspect.signature(factory).parameters
    if takes_one and settings.get("encoder") is None:
        settings["encoder"] = encoding["encoder"]
        settings.setdefault("features_directory", encoding["directory"])
        if settings["encoder"] is None:
            raise ValueError(f"learner {name!r} of random_real needs an encoder")
    check_keywords(f"learner {name!r} of random_real", factory, settings)
    return factory(**settings)
