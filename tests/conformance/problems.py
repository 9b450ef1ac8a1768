"""Tiny problems for runs of a few steps: images, tables, and neither labels."""

import functools

import numpy as np

from ddjax import data
from ddjax.data.problem import Problem, Split
from tests.methods.encoders import colour_digits


@functools.cache
def images() -> Problem:
    """Colour images of three classes."""
    return _cut(colour_digits(), 48)


@functools.cache
def images_with_targets() -> Problem:
    """The same images with two numbers to predict in place of classes."""
    train, _, test = images()[1:4]
    weights = np.random.default_rng(0).normal(size=(8 * 8 * 3, 2))

    def with_targets(split: Split) -> tuple[np.ndarray, np.ndarray]:
        inputs = np.asarray(split.inputs)
        return inputs, inputs.reshape(len(inputs), -1) @ weights

    return data.from_arrays(
        with_targets(train), with_targets(test), preprocessing="none"
    )


@functools.cache
def table() -> Problem:
    """Ten columns and one to predict."""
    return _cut(data.load("diabetes"), 48)


@functools.cache
def unlabelled() -> Problem:
    """Images about which nothing is known."""
    return images()._replace(
        class_names=None,
        **{
            name: Split(getattr(images(), name).inputs)
            for name in ("train", "validation", "test")
        },
    )


def _cut(problem: Problem, count: int) -> Problem:
    splits = {}
    for name in ("train", "validation", "test"):
        known = (None if x is None else x[:count] for x in getattr(problem, name))
        splits[name] = Split(*known)
    return problem._replace(**splits)
