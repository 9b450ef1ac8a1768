"""Random differentiable augmentations as pure functions of a key."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = [
    "AUGMENTATIONS",
    "DSA_OPERATIONS",
    "dsa",
    "flip_crop_noise",
    "make",
    "random_flip",
    "random_noise",
    "random_resized_crop",
    "sample_bilinear",
]

DSA_OPERATIONS = ("flip", "scale", "rotate", "crop", "cutout", "color")

_Operation = Callable[[PRNGKeyArray, Array], Array]


def dsa(
    key: PRNGKeyArray,
    images: Float[Array, "n h w c"],
    *,
    siamese: bool,
    strategy: str = "flip_scale_rotate_crop_cutout_color",
    flip: float = 0.5,
    scale: float = 1.2,
    rotate: float = 15.0,
    crop: float = 0.125,
    cutout: float = 0.5,
    brightness: float = 1.0,
    saturation: float = 2.0,
    contrast: float = 0.5,
) -> Float[Array, "n h w c"]:
    r"""Differentiable siamese augmentation: one operation of `strategy`, drawn once.

    The key chooses one operation for the whole batch, each with the same probability.
    Its parameters are drawn once for the batch where `siamese`, so that two batches
    (real and synthetic) given one key are transformed alike, and for each image
    otherwise. With :math:`u \sim U(0, 1)`:

    - `flip`: mirrors left and right with probability `flip`;
    - `scale`: samples at coordinates about the centre multiplied by factors drawn from
      U(1/`scale`, `scale`), one for each axis;
    - `rotate`: turns by U(-`rotate`, `rotate`) degrees about the centre;
    - `crop`: shifts by whole pixels, each axis by up to `crop` of its length;
    - `cutout`: zeroes a square of side `cutout` of each axis, whose centre is anywhere
      in the image;
    - `color`: brightness :math:`x + b (u - 1/2)`, then saturation, with
      :math:`\bar x` the mean over channels, :math:`\bar x + s u (x - \bar x)`, then
      contrast, with :math:`\bar x` the mean of the image,
      :math:`\bar x + (u + c)(x - \bar x)`.

    What comes from outside the image is 0, the mean in standardised space.

    Source: Zhao and Bilen, Dataset condensation with differentiable siamese
    augmentation, ICML 2021, with its published defaults. Rotation here is rigid in
    pixels; on images that are not square the published one shears.

    Args:
      key: chooses the operation and its parameters.
      images: `(n, h, w, c)`, preprocessed.
      siamese: one draw for the batch, or one for each image.
      strategy: names from `DSA_OPERATIONS` joined by `_`.
      flip: probability.
      scale: largest factor, >= 1.
      rotate: largest angle, degrees.
      crop: largest shift, as a part of the side.
      cutout: side of the hole, as a part of the image's.
      brightness: range of the shift b.
      saturation: largest factor s.
      contrast: smallest factor c.

    Returns:
      Augmented images, of the same shape and dtype.

    Raises:
      ValueError: an unknown operation, with the known ones.
    """
    available: dict[str, _Operation] = {
        "flip": lambda key, x: _flip(key, x, siamese, flip),
        "scale": lambda key, x: _scale(key, x, siamese, scale),
        "rotate": lambda key, x: _rotate(key, x, siamese, rotate),
        "crop": lambda key, x: _crop(key, x, siamese, crop),
        "cutout": lambda key, x: _cutout(key, x, siamese, cutout),
        "color": lambda key, x: _color(
            key, x, siamese, brightness, saturation, contrast
        ),
    }
    names = strategy.split("_")
    for name in names:
        if name not in available:
            raise ValueError(
                f"unknown operation {name!r} in strategy {strategy!r}; known: "
                f"{', '.join(DSA_OPERATIONS)}"
            )
    choice_key, key = jax.random.split(key)
    choice = jax.random.randint(choice_key, (), 0, len(names))
    return jax.lax.switch(choice, [available[name] for name in names], key, images)


def flip_crop_noise(
    key: PRNGKeyArray,
    images: Float[Array, "n h w c"],
    *,
    siamese: bool = False,
    flip: float = 0.5,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    noise: float = 0.5,
    noise_std: float = 0.2,
    noise_mean: float = 0.0,
) -> Float[Array, "n h w c"]:
    """A random flip, a random resized crop and, now and then, Gaussian noise.

    Source: the augmentation of Cazenavette, Torralba and Sitzmann (NeurIPS 2025, arXiv
    2511.16674). Its first release adds noise of mean 0.5, those since March 2026 of
    mean 0.

    Args:
      key: of the draws.
      images: `(n, h, w, c)`, pixels in [0, 1]; the noise may leave that range.
      siamese: one draw for all images, so that two batches given one key are changed
        alike; otherwise one for each.
      flip: see `random_flip`.
      scale: see `random_resized_crop`.
      ratio: likewise.
      noise: see `random_noise`; 0 for none.
      noise_std: likewise.
      noise_mean: likewise.

    Returns:
      Images of the same shape, differentiable in `images`.
    """
    flip_key, crop_key, noise_key = jax.random.split(key, 3)
    images = random_flip(flip_key, images, probability=flip, siamese=siamese)
    images = random_resized_crop(
        crop_key, images, scale=scale, ratio=ratio, siamese=siamese
    )
    return random_noise(
        noise_key,
        images,
        probability=noise,
        std=noise_std,
        mean=noise_mean,
        siamese=siamese,
    )


def random_noise(
    key: PRNGKeyArray,
    images: Float[Array, "n h w c"],
    *,
    probability: float = 0.5,
    std: float = 0.2,
    mean: float = 0.0,
    siamese: bool = False,
) -> Float[Array, "n h w c"]:
    """Each image with a probability plus Gaussian noise, drawn for every pixel.

    Args:
      key: of the draws.
      images: `(n, h, w, c)`.
      probability: in [0, 1].
      std: of the noise, >= 0.
      mean: of the noise.
      siamese: the same noise for all images, or its own for each.

    Raises:
      ValueError: a number out of range.
    """
    if not (0 <= probability <= 1 and 0 <= std < math.inf):
        raise ValueError(
            f"probability={probability}, std={std}; they must be in [0, 1] and >= 0"
        )
    if probability == 0:
        return images
    which, drawn = jax.random.split(key)
    noisy = _uniform(which, images, siamese, 0.0, 1.0) < probability
    shape = (1 if siamese else images.shape[0], *images.shape[1:])
    noise = mean + std * jax.random.normal(drawn, shape, images.dtype)
    return images + jnp.where(noisy, noise, jnp.zeros_like(noise))


def random_flip(
    key: PRNGKeyArray,
    images: Float[Array, "n h w c"],
    *,
    probability: float = 0.5,
    siamese: bool = False,
) -> Float[Array, "n h w c"]:
    """Each image mirrored left and right with a probability.

    Args:
      key: of the draws.
      images: `(n, h, w, c)`.
      probability: in [0, 1].
      siamese: one draw for all images, or one for each.

    Raises:
      ValueError: a probability out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability={probability}; it must be in [0, 1]")
    return _flip(key, images, siamese, probability)


def random_resized_crop(
    key: PRNGKeyArray,
    images: Float[Array, "n h w c"],
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    siamese: bool = False,
) -> Float[Array, "n h w c"]:
    r"""A random part of each image, enlarged to the size of the whole (Inception's).

    The part's area is a share :math:`a \sim U(\mathrm{scale})` of the image, its
    width over height :math:`\log r \sim U(\log \mathrm{ratio})` times the image's,
    hence :math:`\sqrt{a r}` of its width and :math:`\sqrt{a / r}` of its height; where
    one is over 1 it becomes 1 (torchvision draws again, ten times, and then takes the
    middle). Its place is uniform and not bound to whole pixels. Bilinear, pixel centres
    at half-integers, clamped at the border of the part.

    Args:
      key: of the draws.
      images: `(n, h, w, c)`.
      scale: range of the share of the area, in (0, 1].
      ratio: range of the aspect ratio relative to the image's own, > 0.
      siamese: one part for all images, or one for each.

    Returns:
      Images of the same shape, differentiable in `images`.

    Raises:
      ValueError: a range that is out of bounds or decreases.
    """
    for name, (low, high), most in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= most:
            raise ValueError(
                f"{name}={(low, high)}; it must be 0 < low <= high"
                + (" <= 1" if most == 1 else "")
            )
    number, height, width, _ = images.shape
    draws = jax.random.uniform(key, (4, 1 if siamese else number), images.dtype)
    area = scale[0] + (scale[1] - scale[0]) * draws[0]
    logs = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(logs[0] + (logs[1] - logs[0]) * draws[1])
    parts = jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)
    rows, columns = (
        _enlarging(length, jnp.minimum(part, 1), place)
        for length, part, place in zip(
            (height, width), parts, (draws[2], draws[3]), strict=True
        )
    )
    # Two products of small matrices are faster than gathering, above all backwards.
    exact = jax.lax.Precision.HIGHEST
    rows = jnp.broadcast_to(rows, (number, height, height))
    columns = jnp.broadcast_to(columns, (number, width, width))
    images = jnp.einsum("nij,njkc->nikc", rows, images, precision=exact)
    return jnp.einsum("nlk,nikc->nilc", columns, images, precision=exact)


def _enlarging(length: int, part: Array, place: Array) -> Array:
    """Bilinear weights `(n, length, length)` of the old pixels in the new ones."""
    size = part * length
    start = place * (length - size)
    at = (jnp.arange(length, dtype=part.dtype) + 0.5)[None, :] / length
    inside = jnp.clip(at * size[:, None], 0.5, jnp.maximum(size - 0.5, 0.5)[:, None])
    centres = start[:, None] + inside - 0.5
    centres = jnp.clip(centres, 0, length - 1)
    old = jnp.arange(length, dtype=part.dtype)[None, None, :]
    return jnp.maximum(1 - jnp.abs(centres[:, :, None] - old), 0)


def sample_bilinear(
    images: Float[Array, "n h w c"],
    rows: Float[Array, "n height width"],
    columns: Float[Array, "n height width"],
) -> Float[Array, "n height width c"]:
    """Bilinear interpolation at real-valued pixel coordinates; 0 outside.

    Coordinate (i, j) is the centre of pixel (i, j), so the image covers
    [-1/2, h - 1/2] x [-1/2, w - 1/2] (in normalised coordinates: corners are not
    aligned, `align_corners=False`). Between an outermost pixel centre and one pixel
    beyond it, values fade to 0.

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


def _uniform(key, images, siamese, low, high) -> Array:
    """One draw an image, or one for all, `(n or 1, 1, 1, 1)`."""
    shape = (1 if siamese else len(images), 1, 1, 1)
    return jax.random.uniform(key, shape, images.dtype, low, high)


def _flip(key, images, siamese, probability) -> Array:
    mirrored = _uniform(key, images, siamese, 0.0, 1.0) < probability
    return jnp.where(mirrored, images[:, :, ::-1], images)


def _scale(key, images, siamese, largest) -> Array:
    row_key, column_key = jax.random.split(key)
    row_factor = _uniform(row_key, images, siamese, 1 / largest, largest)
    column_factor = _uniform(column_key, images, siamese, 1 / largest, largest)
    zero = jnp.zeros_like(row_factor)
    return _linear_map(images, row_factor, zero, zero, column_factor)


def _rotate(key, images, siamese, largest) -> Array:
    angle = _uniform(key, images, siamese, -largest, largest) * (math.pi / 180)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return _linear_map(images, cosine, sine, -sine, cosine)


def _linear_map(images, row_row, row_column, column_row, column_column) -> Array:
    """Samples at a linear map of the coordinates about the centre of the image."""
    number, height, width, _ = images.shape
    dtype = images.dtype
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    i = (jnp.arange(height, dtype=dtype) - middle_row)[None, :, None]
    j = (jnp.arange(width, dtype=dtype) - middle_column)[None, None, :]
    rows = row_row[..., 0] * i + row_column[..., 0] * j + middle_row
    columns = column_row[..., 0] * i + column_column[..., 0] * j + middle_column
    shape = (number, height, width)
    return sample_bilinear(
        images, jnp.broadcast_to(rows, shape), jnp.broadcast_to(columns, shape)
    )


def _crop(key, images, siamese, part) -> Array:
    number, height, width, channels = images.shape
    most = (round(part * height), round(part * width))
    count = 1 if siamese else number
    keys = jax.random.split(key)
    starts = [
        jnp.broadcast_to(
            jax.random.randint(axis_key, (count,), 0, 2 * pad + 1), (number,)
        )
        for axis_key, pad in zip(keys, most, strict=True)
    ]
    padded = jnp.pad(images, ((0, 0), *((pad, pad) for pad in most), (0, 0)))

    def cut(image, top, left):
        return jax.lax.dynamic_slice(
            image, (top, left, jnp.zeros_like(top)), (height, width, channels)
        )

    return jax.vmap(cut)(padded, *starts)


def _cutout(key, images, siamese, part) -> Array:
    count = 1 if siamese else len(images)
    hidden = jnp.ones((count, 1, 1, 1), bool)
    for axis, axis_key in zip((1, 2), jax.random.split(key), strict=True):
        length = images.shape[axis]
        side = int(part * length + 0.5)
        # An even side has its middle between pixels, hence one more place to be.
        places = length + 1 - side % 2
        middle = jax.random.randint(axis_key, (count, 1, 1, 1), 0, places)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        offset = jnp.arange(length).reshape(shape) - (middle - side // 2)
        hidden = hidden & (offset >= 0) & (offset < side)
    return jnp.where(hidden, 0, images)


def _color(key, images, siamese, brightness, saturation, contrast) -> Array:
    keys = jax.random.split(key, 3)
    images = images + brightness * _uniform(keys[0], images, siamese, -0.5, 0.5)
    grey = images.mean(axis=3, keepdims=True)
    factor = _uniform(keys[1], images, siamese, 0.0, 1.0) * saturation
    images = grey + factor * (images - grey)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    factor = _uniform(keys[2], images, siamese, 0.0, 1.0) + contrast
    return mean + factor * (images - mean)


AUGMENTATIONS: dict[str, Callable[..., Array]] = {
    "dsa": dsa,
    "flip_crop_noise": flip_crop_noise,
}
"""Whole augmentations by name: `(key, images, *, siamese, ...) -> images`."""


def make(
    name: str, *, siamese: bool, **settings: Any
) -> Callable[[PRNGKeyArray, Array], Array]:
    """An augmentation by name, `(key, images) -> images`, its settings checked.

    Args:
      name: one of `AUGMENTATIONS`.
      siamese: one draw for all images, or one for each.
      **settings: keywords of that function.

    Raises:
      ValueError: an unknown name, setting, or a value that it does not take.
    """
    if name not in AUGMENTATIONS:
        known = ", ".join(sorted(AUGMENTATIONS))
        raise ValueError(f"unknown augmentation {name!r}; known: {known}")
    allowed = list(inspect.signature(AUGMENTATIONS[name]).parameters)[2:]
    for keyword in settings:
        if keyword not in allowed:
            raise ValueError(
                f"augmentation {name!r} takes no {keyword!r}; it takes: "
                f"{', '.join(allowed)}"
            )
    apply = functools.partial(AUGMENTATIONS[name], siamese=siamese, **settings)
    example = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    jax.eval_shape(lambda images: apply(jax.random.key(0), images), example)
    return apply
