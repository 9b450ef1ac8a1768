"""Problems and distilled sets that the tests of `ddjax.evaluation` share."""

import functools

import jax.numpy as jnp
import numpy as np

from ddjax.data import load
from ddjax.data.preprocess import Preprocessing
from ddjax.data.problem import Problem, Split
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.parameterization import pixels


@functools.cache
def digits(classes: tuple[int, ...] | None = None) -> Problem:
    """Scikit-learn's digits, standardised."""
    return load("digits", classes=classes)


def identity() -> Preprocessing:
    """Preprocessing that changes nothing."""
    return Preprocessing("none", np.zeros((), np.float32), np.ones((), np.float32))


def blobs(*, classes: int = 3, each: int = 20, size: int = 4, gap: float = 3.0):
    """Gaussian clusters, one a class, centred `gap` apart on their own axes."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {i}" for i in range(classes))

    def split() -> Split:
        labels = rng.permutation(np.repeat(np.arange(classes, dtype=np.int32), each))
        noise = rng.normal(size=(len(labels), size)).astype(np.float32)
        return Split(
            noise + gap * np.eye(classes, size, dtype=np.float32)[labels], labels
        )

    return Problem("blobs", split(), split(), split(), identity(), names, "0" * 64, {})


def regression(*, samples: int = 30, size: int = 3, outputs: int = 2) -> Problem:
    """A noiseless linear map."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(size, outputs)).astype(np.float32)

    def split() -> Split:
        inputs = rng.normal(size=(samples, size)).astype(np.float32)
        return Split(inputs, inputs @ weights)

    return Problem("linear", split(), split(), split(), identity(), None, "0" * 64, {})


def chosen(problem: Problem, inputs, labels, *, kind="scores", **replacements):
    """A distilled set of the given inputs, with hard targets of a kind."""
    classes = problem.classes
    coded = {
        "scores": class_targets.centred_one_hot,
        "signs": class_targets.one_vs_rest,
        "probabilities": class_targets.one_hot,
        "margin": class_targets.signs,
    }[kind](jnp.asarray(labels, jnp.int32), classes)
    return DistilledSet(
        stored={"inputs": jnp.asarray(inputs, jnp.float32)},
        parameterization=pixels(),
        targets=coded,
        targets_kind="scores" if kind == "signs" else kind,
        labels=np.asarray(labels, np.int32),
        preprocessing=problem.preprocessing,
        class_names=problem.class_names,
        provenance={},
    )._replace(**replacements)


def class_means(problem: Problem, *, kind: str = "scores", **replacements):
    """The mean training input of each class."""
    inputs, labels = np.asarray(problem.train.inputs), np.asarray(problem.train.targets)
    means = [inputs[labels == label].mean(axis=0) for label in range(problem.classes)]
    order = np.arange(problem.classes)
    return chosen(problem, np.stack(means), order, kind=kind, **replacements)


def some_real(problem: Problem, count: int, *, kind: str = "scores", **replacements):
    """The first training samples, as a distilled set."""
    return chosen(
        problem,
        np.asarray(problem.train.inputs)[:count],
        np.asarray(problem.train.targets)[:count],
        kind=kind,
        **replacements,
    )
