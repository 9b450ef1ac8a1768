"""Transforms of the pixels' values: colour, noise and holes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.augment.base import Transform
from ddjax.data.augment.draws import check_range, per_image, uniform

__all__ = ["color", "cutout", "noise"]


def color(
    *, brightness: float = 1.0, saturation: float = 2.0, contrast: float = 0.5
) -> Transform:
    r"""Brightness, then saturation, then contrast: each an affine map of the values.

    With parameters b, s and c, :math:`\bar x` being the mean over the channels of a
    pixel in the second line and that of the whole image in the third,

    .. math::
        x \leftarrow x + b, \qquad
        x \leftarrow \bar x + s (x - \bar x), \qquad
        x \leftarrow \bar x + c (x - \bar x).

    Source: the `color` of Zhao and Bilen (ICML 2021), see `dsa`.

    Args:
      brightness: b is from U(-1/2, 1/2) times this, >= 0.
      saturation: s is from U(0, this), >= 0.
      contrast: c is from U(this, this + 1), >= 0.

    Raises:
      ValueError: a number below 0.
    """
    settings = {
        "brightness": brightness,
        "saturation": saturation,
        "contrast": contrast,
    }
    for name, value in settings.items():
        check_range("color", name, value, 0.0, math.inf)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        first, second, third = jax.random.split(key, 3)
        return {
            "brightness": brightness * uniform(first, count, -0.5, 0.5),
            "saturation": saturation * uniform(second, count, 0.0, 1.0),
            "contrast": contrast + uniform(third, count, 0.0, 1.0),
        }

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        images = images + per_image(params["brightness"], images)
        grey = images.mean(axis=3, keepdims=True)
        images = grey + per_image(params["saturation"], images) * (images - grey)
        mean = images.mean(axis=(1, 2, 3), keepdims=True)
        return mean + per_image(params["contrast"], images) * (images - mean)

    return Transform("color", settings, draw, apply)


def noise(
    *, probability: float = 0.5, std: float = 0.2, mean: float = 0.0
) -> Transform:
    """Gaussian noise on every pixel, with a probability for each image.

    The parameters are what is added, `(n or 1, h, w, c)`, 0 where nothing is.

    Args:
      probability: in [0, 1].
      std: of the noise, >= 0.
      mean: of the noise.

    Raises:
      ValueError: a number out of range.
    """
    check_range("noise", "probability", probability, 0.0, 1.0)
    check_range("noise", "std", std, 0.0, math.inf)
    check_range("noise", "mean", mean, -math.inf, math.inf)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> Array:
        which, drawn = jax.random.split(key)
        noisy = uniform(which, count, 0.0, 1.0) < probability
        # In rows of whole images: the short axis of channels makes slow loops on CPU.
        flat = jax.random.normal(drawn, (count, math.prod(shape)))
        added = mean + std * flat.reshape(count, *shape)
        return jnp.where(noisy.reshape(-1, 1, 1, 1), added, jnp.zeros_like(added))

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        return images + params.astype(images.dtype)

    settings = {"probability": probability, "std": std, "mean": mean}
    return Transform("noise", settings, draw, apply)


def cutout(*, part: float = 0.5) -> Transform:
    """Zeroes a rectangle whose middle is anywhere in the image.

    Its sides are `part` of the image's, rounded to whole pixels, and it may stick out.
    0 is the mean in standardised space. The parameters are the rectangle's first row
    and first column, which may be negative.

    Source: the `cutout` of Zhao and Bilen (ICML 2021), see `dsa`; DeVries and Taylor,
    "Improved Regularization of Convolutional Neural Networks with Cutout" (2017).

    Args:
      part: sides of the rectangle relative to the image's, in [0, 1].

    Raises:
      ValueError: a number out of range.
    """
    check_range("cutout", "part", part, 0.0, 1.0)

    def side(length: int) -> int:
        return int(part * length + 0.5)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        def first(key: PRNGKeyArray, length: int) -> Array:
            size = side(length)
            # An even side has its middle between pixels, hence one more place to be.
            places = length + 1 - size % 2
            return jax.random.randint(key, (count,), 0, places) - size // 2

        keys = jax.random.split(key)
        return {"row": first(keys[0], shape[0]), "column": first(keys[1], shape[1])}

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        def within(first: Array, length: int) -> Array:
            offset = jnp.arange(length, dtype=first.dtype)[None, :] - first[:, None]
            return (offset >= 0) & (offset < side(length))

        rows = within(params["row"], images.shape[1])
        columns = within(params["column"], images.shape[2])
        hidden = rows[:, :, None, None] & columns[:, None, :, None]
        return jnp.where(hidden, jnp.zeros((), images.dtype), images)

    return Transform("cutout", {"part": part}, draw, apply)
