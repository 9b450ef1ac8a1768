r"""Transforms that move pixels: mirroring, shifting, scaling, turning, cropping.

Pixel (i, j) is a square whose centre has the coordinates (i, j), so that an image
covers [-1/2, h - 1/2] x [-1/2, w - 1/2] and its middle is ((h - 1)/2, (w - 1)/2). In
coordinates from -1 to 1 these are the edges of the image, not the centres of the
outermost pixels: corners are not aligned (`align_corners=False` in PyTorch).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.data.augment.base import Transform
from ddjax.data.augment.draws import (
    check_interval,
    check_range,
    per_image,
    uniform,
    which_images,
)
from ddjax.kernels.precision import EXACT

__all__ = ["crop", "flip", "resized_crop", "rotate", "sample_bilinear", "scale"]


def flip(*, probability: float = 0.5) -> Transform:
    """Mirrors left and right, with a probability for each image.

    The parameters say which images are mirrored, `(n or 1,)` bool.

    Args:
      probability: in [0, 1].

    Raises:
      ValueError: a probability out of range.
    """
    check_range("flip", "probability", probability, 0.0, 1.0)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        return jnp.where(params.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)

    settings = {"probability": probability}
    return Transform("flip", settings, which_images(probability), apply)


def crop(*, part: float = 0.125) -> Transform:
    """Shifts by whole pixels: a crop of the image's size from a zero-padded image.

    Pixel (i, j) becomes pixel (i + rows, j + columns), or 0 where that is outside; 0 is
    the mean in standardised space. The parameters are the shifts, int32.

    Source: the `crop` of Zhao and Bilen (ICML 2021), see `dsa`.

    Args:
      part: each axis shifts by up to this part of its length, rounded to whole pixels,
        in [0, 1].

    Raises:
      ValueError: a number out of range.
    """
    check_range("crop", "part", part, 0.0, 1.0)

    def margins(shape: tuple[int, ...]) -> tuple[int, int]:
        return round(part * shape[0]), round(part * shape[1])

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        rows, columns = (
            jax.random.randint(own, (count,), -most, most + 1)
            for own, most in zip(jax.random.split(key), margins(shape), strict=True)
        )
        return {"rows": rows, "columns": columns}

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        most = margins(images.shape[1:])
        padded = jnp.pad(images, ((0, 0), *((pad, pad) for pad in most), (0, 0)))
        top, left = params["rows"] + most[0], params["columns"] + most[1]

        def cut(image: Array, top: Array, left: Array) -> Array:
            start = (top, left, jnp.zeros_like(top))
            return jax.lax.dynamic_slice(image, start, images.shape[1:])

        number = (len(images),)
        return jax.vmap(cut)(
            padded, jnp.broadcast_to(top, number), jnp.broadcast_to(left, number)
        )

    return Transform("crop", {"part": part}, draw, apply)


def scale(*, largest: float = 1.2) -> Transform:
    r"""Samples at coordinates about the middle multiplied by a factor for each axis.

    Bilinear, with pixel centres and corners as in `sample_bilinear`. A factor above 1
    makes what is seen smaller; what comes from outside is 0. The parameters are the
    factors of the rows and of the columns.

    Source: the `scale` of Zhao and Bilen (ICML 2021), see `dsa`.

    Args:
      largest: factors are from U(1 / largest, largest), >= 1.

    Raises:
      ValueError: a number below 1.
    """
    check_range("scale", "largest", largest, 1.0, math.inf)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        rows, columns = (
            uniform(own, count, 1 / largest, largest) for own in jax.random.split(key)
        )
        return {"rows": rows, "columns": columns}

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        def places(factors: Array, length: int) -> Array:
            middle = (length - 1) / 2
            offsets = jnp.arange(length, dtype=images.dtype) - middle
            return factors.astype(images.dtype)[:, None] * offsets[None, :] + middle

        rows = places(params["rows"], images.shape[1])
        columns = places(params["columns"], images.shape[2])
        return _sample_grid(images, rows, columns)

    return Transform("scale", {"largest": largest}, draw, apply)


def rotate(*, degrees: float = 15.0) -> Transform:
    r"""Turns about the middle, rigidly in pixels.

    With the angle :math:`\theta`, the new value at (i, j), counted from the middle, is
    the old one at :math:`(i \cos\theta + j \sin\theta, j \cos\theta - i \sin\theta)`:
    a positive angle turns the picture counterclockwise. Bilinear, with pixel centres
    and corners as in `sample_bilinear`; what comes from outside is 0. The parameters
    are the angles in degrees.

    Source: the `rotate` of Zhao and Bilen (ICML 2021), see `dsa`, whose turn is rigid
    in coordinates from -1 to 1 and shears images that are not square.

    Args:
      degrees: angles are from U(-degrees, degrees), >= 0.

    Raises:
      ValueError: a number below 0.
    """
    check_range("rotate", "degrees", degrees, 0.0, math.inf)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> Array:
        return uniform(key, count, -degrees, degrees)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        number, height, width, _ = images.shape
        angle = per_image(params, images)[..., 0] * (math.pi / 180)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        middle = (height - 1) / 2, (width - 1) / 2
        i = (jnp.arange(height, dtype=images.dtype) - middle[0])[None, :, None]
        j = (jnp.arange(width, dtype=images.dtype) - middle[1])[None, None, :]
        shape = (number, height, width)
        rows = jnp.broadcast_to(cosine * i + sine * j + middle[0], shape)
        columns = jnp.broadcast_to(cosine * j - sine * i + middle[1], shape)
        return sample_bilinear(images, rows, columns)

    return Transform("rotate", {"degrees": degrees}, draw, apply)


def resized_crop(
    *,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
) -> Transform:
    r"""A random part of each image, enlarged to the size of the whole (Inception's).

    The part's area is a share :math:`a \sim U(\mathrm{scale})` of the image, its
    width over height :math:`\log r \sim U(\log \mathrm{ratio})` times the image's,
    hence :math:`\sqrt{a r}` of its width and :math:`\sqrt{a / r}` of its height; where
    one is over 1 it becomes 1 (torchvision draws again, ten times, and then takes the
    middle). Its place is uniform and not bound to whole pixels.

    Bilinear: corners are not aligned, so that the edges of the part become the edges of
    the image. What would be sampled less than half a pixel from an edge of the part, or
    beyond the centre of an outermost pixel, is taken from there. The parameters are
    `top`, `left`, `height` and `width` of the part, relative to the sides of the image.

    Source: Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), section 6.

    Args:
      scale: range of the share of the area, in (0, 1].
      ratio: range of the aspect ratio relative to the image's own, > 0.

    Raises:
      ValueError: a range that is out of bounds or decreases.
    """
    smallest, largest = check_interval("resized_crop", "scale", scale, 1.0)
    narrowest, widest = check_interval("resized_crop", "ratio", ratio, math.inf)

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> dict[str, Array]:
        logs = math.log(narrowest), math.log(widest)
        ends = jnp.array([(smallest, largest), logs, (0, 1), (0, 1)])
        # In one program, which compiles faster than four.
        area, log_aspect, down, right = jax.vmap(
            lambda own, low, high: uniform(own, count, low, high)
        )(jax.random.split(key, 4), ends[:, 0], ends[:, 1])
        aspect = jnp.exp(log_aspect)
        height = jnp.minimum(jnp.sqrt(area / aspect), 1)
        width = jnp.minimum(jnp.sqrt(area * aspect), 1)
        return {
            "top": down * (1 - height),
            "left": right * (1 - width),
            "height": height,
            "width": width,
        }

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        params = {name: value.astype(images.dtype) for name, value in params.items()}
        _, height, width, _ = images.shape
        rows = _enlarged(height, params["top"], params["height"])
        columns = _enlarged(width, params["left"], params["width"])
        return _sample_grid(images, rows, columns)

    settings = {"scale": list(scale), "ratio": list(ratio)}
    return Transform("resized_crop", settings, draw, apply)


def _enlarged(length: int, start: Array, part: Array) -> Array:
    """Coordinates `(n or 1, length)` at which a part of an axis is sampled."""
    size = (part * length)[:, None]
    at = (jnp.arange(length, dtype=part.dtype) + 0.5)[None, :] / length
    inside = jnp.clip(at * size, 0.5, jnp.maximum(size - 0.5, 0.5))
    return jnp.clip((start * length)[:, None] + inside - 0.5, 0, length - 1)


def _sample_grid(
    images: Float[Array, "n h w c"],
    rows: Float[Array, "m height"],
    columns: Float[Array, "m width"],
) -> Float[Array, "n height width c"]:
    """`sample_bilinear` where each row and each column of the result is one place.

    Two products with matrices of weights are faster than gathering, above all
    backwards, where gathering becomes scattering.
    """
    number, height, width, _ = images.shape

    def weights(places: Array, length: int) -> Array:
        pixels = jnp.arange(length, dtype=images.dtype)[None, None, :]
        tent = jnp.maximum(1 - jnp.abs(places[:, :, None] - pixels), 0)
        return jnp.broadcast_to(tent, (number, *tent.shape[1:]))

    images = jnp.einsum(
        "nij,njkc->nikc", weights(rows, height), images, precision=EXACT
    )
    return jnp.einsum(
        "nlk,nikc->nilc", weights(columns, width), images, precision=EXACT
    )


def sample_bilinear(
    images: Float[Array, "n h w c"],
    rows: Float[Array, "n height width"],
    columns: Float[Array, "n height width"],
) -> Float[Array, "n height width c"]:
    """Bilinear interpolation at real-valued pixel coordinates; 0 outside.

    Coordinate (i, j) is the centre of pixel (i, j), so the image covers
    [-1/2, h - 1/2] x [-1/2, w - 1/2]; corners are not aligned (`align_corners=False`).
    Between an outermost pixel centre and one pixel beyond it, values fade to 0.

    Args:
      images: `(n, h, w, c)`.
      rows: vertical coordinates in pixels.
      columns: horizontal coordinates in pixels.

    Returns:
      Sampled images, differentiable in all arguments.
    """
    height, width = images.shape[1:3]
    top, left = jnp.floor(rows), jnp.floor(columns)
    total = jnp.zeros((*rows.shape, images.shape[-1]), images.dtype)
    # jax.scipy.ndimage.map_coordinates takes half again to twice the time of this.
    take = jax.vmap(lambda image, i, j: image[i, j])
    for down in (0, 1):
        for right in (0, 1):
            i, j = top + down, left + right
            weight = (1 - jnp.abs(rows - i)) * (1 - jnp.abs(columns - j))
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            weight = jnp.where(inside, weight, 0)[..., None]
            i = jnp.clip(i, 0, height - 1).astype(jnp.int32)
            j = jnp.clip(j, 0, width - 1).astype(jnp.int32)
            total += weight * take(images, i, j)
    return total
