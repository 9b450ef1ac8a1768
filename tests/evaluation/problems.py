"""Problems and distilled sets that the tests of `ddjax.evaluation` share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ddjax.data import load, preprocess
from ddjax.data.problem import Problem, Split
from ddjax.models import feature_maps
from ddjax.storage.checksum import checksum
from ddjax.synthetic import targets as class_targets
from ddjax.synthetic.decoders import pixels
from ddjax.synthetic.distilled import DistilledSet, distilled_set


@functools.cache
def digits(classes: tuple[int, ...] | None = None) -> Problem:
    """Scikit-learn's digits, standardised."""
    return load("digits", classes=classes)


def features_of(feature_map, inputs) -> np.ndarray:
    """Features of inputs, in float64 on the host."""
    params, apply = feature_maps.build(feature_map, inputs.shape[1:])
    return np.asarray(apply(params, jnp.asarray(inputs)), np.float64)


def variables_at_start(student, key, inputs):
    """A network's variables where `network_training.train` starts with a key."""
    return jax.jit(student.init)(jax.random.split(key)[0], inputs[:1])


def descended(params, gradients, rates, *, momentum=0.9, decay=0.0):
    """Parameters after SGD as protocols word it, with a gradient and rate a step."""
    velocity = jax.tree.map(jnp.zeros_like, params)
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = jax.tree.map(
            lambda v, g, p: momentum * v + g + decay * p,
            velocity,
            gradient(params),
            params,
        )
        params = jax.tree.map(lambda p, v, rate=rate: p - rate * v, params, velocity)
    return params


def measured(evaluation, distilled, problem, split="test", *cache) -> dict[str, float]:
    """Means of an evaluation's scalars, by their names without its prefix."""
    found = evaluation.evaluate(jax.random.key(0), distilled, problem, split, *cache)
    return {name.partition("/")[2]: score.mean for name, score in found.items()}


def problem_of(name, splits, names=None, **others) -> Problem:
    """A problem of given splits, known by their contents."""
    arrays = {
        f"{place}/{field}": np.asarray(value)
        for place, split in enumerate(splits)
        for field, value in split._asdict().items()
        if value is not None
    }
    return Problem(
        name, *splits, preprocess.identity(), names, checksum(arrays), {}, **others
    )


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

    return problem_of("blobs", (split(), split(), split()), names)


def coloured(*, classes=3, each=30, noise=0.25) -> Problem:
    """Images whose class is a tint that much noise hides."""
    rng = np.random.default_rng(0)
    tints = rng.uniform(0.2, 0.8, (classes, 2, 3, 3))
    names = tuple("abcdefg"[:classes])

    def split() -> Split:
        labels = rng.permutation(np.repeat(np.arange(classes, dtype=np.int32), each))
        images = tints[labels] + noise * rng.normal(size=(len(labels), 2, 3, 3))
        return Split(np.clip(images, 0, 1).astype(np.float32), labels)

    return problem_of("tints", (split(), split(), split()), names)


def regression(*, samples: int = 30, size: int = 3, outputs: int = 2) -> Problem:
    """A noiseless linear map."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(size, outputs)).astype(np.float32)

    def split() -> Split:
        inputs = rng.normal(size=(samples, size)).astype(np.float32)
        return Split(inputs, targets=inputs @ weights)

    return problem_of("linear", (split(), split(), split()))


def chosen(
    problem: Problem, inputs, labels, *, kind="scores", recipe=None, **replacements
):
    """A distilled set of the given inputs, with hard targets of a kind."""
    classes = problem.classes
    coded = {
        "scores": class_targets.centred_one_hot,
        "signs": class_targets.one_vs_rest,
        "probabilities": class_targets.one_hot,
        "margin": class_targets.signs,
    }[kind](jnp.asarray(labels, jnp.int32), classes)
    of_kind = {"targets_kind": "scores" if kind == "signs" else kind}
    return distilled_set(
        {"inputs": jnp.asarray(inputs, jnp.float32), "targets": coded},
        pixels(),
        problem,
        recipe={**of_kind, **(recipe or {})},
        labels=np.asarray(labels, np.int32),
    )._replace(**replacements)


def class_means(problem: Problem, *, kind: str = "scores", **replacements):
    """The mean training input of each class."""
    inputs, labels = np.asarray(problem.train.inputs), np.asarray(problem.train.labels)
    means = [inputs[labels == label].mean(axis=0) for label in range(problem.classes)]
    order = np.arange(problem.classes)
    return chosen(problem, np.stack(means), order, kind=kind, **replacements)


def with_targets(distilled: DistilledSet, targets, kind: str | None = None):
    """The same inputs with other targets, perhaps of another kind."""
    return distilled._replace(
        stored={**distilled.stored, "targets": jnp.asarray(targets)},
        recipe={**distilled.recipe, "targets_kind": kind or distilled.targets_kind},
    )


def of_regression(problem: Problem, count: int | None = None, **recipe):
    """The first training rows of a problem with targets, as a distilled set."""
    stored = {
        name: jnp.asarray(getattr(problem.train, name))[:count]
        for name in ("inputs", "targets")
    }
    recipe = {"targets_kind": "regression", **recipe}
    return distilled_set(stored, pixels(), problem, recipe=recipe)


def some_real(problem: Problem, count: int, *, kind: str = "scores", **replacements):
    """The first training samples, as a distilled set."""
    return chosen(
        problem,
        np.asarray(problem.train.inputs)[:count],
        np.asarray(problem.train.labels)[:count],
        kind=kind,
        **replacements,
    )
