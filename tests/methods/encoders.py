"""A small smooth encoder with random weights, and colour images for it."""

import jax.numpy as jnp
import numpy as np

from ddjax import data
from ddjax.models.encoders.base import Encoder


def apply(params, images):
    """Averages of patches through one layer; no convolution, which compiles slowly."""
    patches = (images - 0.5).reshape(images.shape[0], 4, 2, 4, 2, 3).mean(axis=(2, 4))
    return jnp.tanh(patches.reshape(images.shape[0], -1) @ params["dense"])


def small(*, seed=0, width=20, function=apply) -> Encoder:
    rng = np.random.default_rng(seed)
    dense = jnp.asarray(0.3 * rng.normal(size=(48, width)), jnp.float32)
    return Encoder(
        f"small{seed}", {"dense": dense}, function, 8, width, {"file": "none"}
    )


def colour_digits(classes=(0, 1, 2)):
    """Digits as 8 x 8 RGB images in [0, 1], each in its own tint."""
    problem = data.load("digits", classes=classes, preprocessing="none")
    rng = np.random.default_rng(0)

    def tinted(split):
        grey = np.asarray(split.inputs)
        tint = rng.uniform(0.5, 1.0, size=(len(grey), 1, 1, 3))
        return split._replace(inputs=jnp.asarray(grey * tint, jnp.float32))

    return problem._replace(
        train=tinted(problem.train),
        validation=tinted(problem.validation),
        test=tinted(problem.test),
    )
