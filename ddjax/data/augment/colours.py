"""Transforms of the colours of pixels in [0, 1], for views in self-supervision."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.augment.base import Transform
from ddjax.data.augment.draws import check_range, per_image, uniform, which_images

__all__ = ["color_jitter", "grayscale", "solarize"]

_LUMA = (0.299, 0.587, 0.114)


def color_jitter(
    *,
    probability: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
) -> Transform:
    r"""Brightness, contrast, saturation and hue, in a random order for each image.

    With the factors b, c and s, :math:`\ell` the luma :math:`0.299 R + 0.587 G +
    0.114 B` of a pixel and :math:`\bar\ell` its mean over the image,

    .. math::
        x \leftarrow b x, \qquad
        x \leftarrow \bar\ell + c (x - \bar\ell), \qquad
        x \leftarrow \ell + s (x - \ell),

    each clipped to [0, 1], and the hue (of hue, saturation and value) turns by a share
    of the full circle. Images of one channel have no saturation and no hue. For pixels
    in [0, 1]. The parameters are `which` images are changed, the three factors, the
    share `hue` and the `order`, a permutation of (0, 1, 2, 3) for each image.

    Source: Howard, "Some Improvements on Deep Convolutional Neural Network Based Image
    Classification" (2013); as in SimCLR (Chen et al., ICML 2020, appendix A) and Barlow
    Twins (Zbontar et al., ICML 2021, section 2.2), which draw the order, too.

    Args:
      probability: of an image to be changed, in [0, 1].
      brightness: b is from U(max(0, 1 - this), 1 + this), >= 0.
      contrast: of c in the same way.
      saturation: of s in the same way.
      hue: the turn is from U(-this, this), in [0, 1/2].

    Raises:
      ValueError: a number out of range; when it is applied, images of neither one
        channel nor three.
    """
    check_range("color_jitter", "probability", probability, 0.0, 1.0)
    strengths = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
    }
    for name, value in strengths.items():
        check_range("color_jitter", name, value, 0.0, math.inf)
    check_range("color_jitter", "hue", hue, 0.0, 0.5)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        which, turn, order, *rest = jax.random.split(key, 6)
        return {
            "which": uniform(which, count, 0.0, 1.0) < probability,
            "hue": uniform(turn, count, -hue, hue),
            "order": jnp.argsort(jax.random.uniform(order, (count, 4)), axis=1),
            **{
                name: uniform(own, count, max(0.0, 1 - most), 1 + most)
                for own, (name, most) in zip(rest, strengths.items(), strict=True)
            },
        }

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        factor = {name: per_image(params[name], images) for name in strengths}
        turn = per_image(params["hue"], images)[..., 0]

        def brightened(images: Array) -> Array:
            return jnp.clip(factor["brightness"] * images, 0.0, 1.0)

        def contrasted(images: Array) -> Array:
            mean = _luma(images).mean(axis=(1, 2, 3), keepdims=True)
            return jnp.clip(mean + factor["contrast"] * (images - mean), 0.0, 1.0)

        def saturated(images: Array) -> Array:
            luma = _luma(images)
            return jnp.clip(luma + factor["saturation"] * (images - luma), 0.0, 1.0)

        def turned(images: Array) -> Array:
            return images if images.shape[-1] == 1 else _turned(images, turn)

        def one(images: Array, place: Array) -> tuple[Array, None]:
            changed = images
            each = (brightened, contrasted, saturated, turned)
            for index, operation in enumerate(each):
                chosen = (place == index).reshape(-1, 1, 1, 1)
                changed = jnp.where(chosen, operation(images), changed)
            return changed, None

        changed, _ = jax.lax.scan(one, images, params["order"].T)
        return jnp.where(params["which"].reshape(-1, 1, 1, 1), changed, images)

    settings = {"probability": probability, **strengths, "hue": hue}
    return Transform("color_jitter", settings, draw, apply)


def grayscale(*, probability: float = 0.2) -> Transform:
    r"""The luma :math:`0.299 R + 0.587 G + 0.114 B` in place of every channel.

    Images of one channel stay as they are. The parameters say which images are grey,
    `(n or 1,)` bool.

    Args:
      probability: in [0, 1].

    Raises:
      ValueError: a probability out of range; when it is applied, images of neither one
        channel nor three.
    """
    check_range("grayscale", "probability", probability, 0.0, 1.0)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        return jnp.where(params.reshape(-1, 1, 1, 1), _luma(images), images)

    settings = {"probability": probability}
    return Transform("grayscale", settings, which_images(probability), apply)


def solarize(*, probability: float = 0.2, threshold: float = 0.5) -> Transform:
    """Values x from a threshold on become 1 - x, for pixels in [0, 1].

    The parameters say which images are solarized, `(n or 1,)` bool.

    Args:
      probability: in [0, 1].
      threshold: in [0, 1].

    Raises:
      ValueError: a number out of range.
    """
    check_range("solarize", "probability", probability, 0.0, 1.0)
    check_range("solarize", "threshold", threshold, 0.0, 1.0)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        inverted = params.reshape(-1, 1, 1, 1) & (images >= threshold)
        return jnp.where(inverted, 1 - images, images)

    settings = {"probability": probability, "threshold": threshold}
    return Transform("solarize", settings, which_images(probability), apply)


def _luma(images: Float[Array, "n h w c"]) -> Float[Array, "n h w 1"]:
    channels = images.shape[-1]
    if channels == 1:
        return images
    if channels != 3:
        raise ValueError(
            f"images of shape {images.shape[1:]} have {channels} channels; colours are "
            "those of 1 (grey) or 3 (red, green, blue)"
        )
    red, green, blue = (images[..., index : index + 1] for index in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _turned(
    images: Float[Array, "n h w 3"], turn: Float[Array, "m 1 1"]
) -> Float[Array, "n h w 3"]:
    """Hues turned by a share of the full circle; value and chroma stay."""
    red, green, blue = (images[..., index] for index in range(3))
    value = images.max(axis=-1)
    chroma = value - images.min(axis=-1)
    divisor = jnp.where(chroma > 0, chroma, jnp.ones_like(chroma))
    # The hue in sixths of the circle, red being 0 and green 2.
    hue = jnp.where(
        red == value,
        (green - blue) / divisor,
        jnp.where(
            green == value,
            2 + (blue - red) / divisor,
            4 + (red - green) / divisor,
        ),
    )

    def channel(offset: int) -> Array:
        place = jnp.mod(offset + hue + 6 * turn, 6)
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0.0, 1.0)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)
