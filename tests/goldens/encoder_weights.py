"""Weights and images of the small encoders, made alike by whoever compares them.

Only NumPy: the maker of the goldens and the tests both import this file, so that the
goldens need not hold the weights.
"""

import zlib

import numpy as np


def tensor(name, shape, seed=0):
    """The float64 array that stands under a name, whatever else the network has."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    draws = random.standard_normal(shape)
    if name.endswith("running_var"):
        return np.exp(0.3 * draws)
    if len(shape) > 1:
        return draws / np.sqrt(np.prod(shape[1:]))
    scale = name.endswith(("weight", "gamma", "lambda1"))
    return 1.0 * scale + 0.3 * draws


def images(count, height, width):
    """Images in [0, 1], `(count, height, width, 3)`."""
    random = np.random.default_rng([count, height, width])
    return random.uniform(size=(count, height, width, 3))


def cotangents(count, width):
    """What the features are multiplied by to get one number to differentiate."""
    return np.random.default_rng([count, width]).standard_normal((count, width))
