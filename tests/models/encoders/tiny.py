"""A linear encoder and images for it."""

import jax.numpy as jnp
import numpy as np

from ddjax.models.encoders.base import Encoder

WIDTH = 5


def linear_encoder(*, seed=0, option=0, count=None):
    """Features are linear in the pixels; `count` is called once a trace."""
    weights = np.random.default_rng(seed).standard_normal((2 * 3 * 3, WIDTH))

    def apply(params, pixels):
        if count is not None:
            count()
        return pixels.reshape(len(pixels), -1) @ params["weights"]

    return Encoder(
        name="linear",
        params={"weights": jnp.asarray(weights, jnp.float32)},
        apply=apply,
        input_size=2,
        width=WIDTH,
        source={"option": option},
    )


def images(n, *, seed=1):
    """`(n, 2, 3, 3)` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 3, 3), np.uint8)
