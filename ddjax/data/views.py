"""Predefined views of images: the same few transforms for every image, nothing drawn.

Source: Yu, Yao and Chiu, "Boost Self-Supervised Dataset Distillation via
Parameterization, Predefined Augmentation, and Approximation" (ICLR 2025), sections 3.3
and A.8.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.checks import check_names

__all__ = ["VIEWS", "View", "check_views", "with_views"]

Images = Float[Array, "n h w c"]

# 20 of 32 pixels.
_CROPPED = 0.625


class View(NamedTuple):
    """A transform of images that is always the same.

    Attributes:
      apply: images `(n, h, w, c)` -> images of the same shape; differentiable, linear.
      invert: undoes it exactly, or None where nothing does.
    """

    apply: Callable[[Images], Images]
    invert: Callable[[Images], Images] | None


def _rotation(quarters: int) -> View:
    return View(
        lambda images: jnp.rot90(images, quarters, axes=(1, 2)),
        lambda images: jnp.rot90(images, -quarters, axes=(1, 2)),
    )


def _swap(*axes: int) -> View:
    """Halves of even sizes change places; doing it twice changes nothing."""

    def swapped(images: Images) -> Images:
        return jnp.roll(images, [images.shape[axis] // 2 for axis in axes], axes)

    return View(swapped, swapped)


def _crop(down: float, right: float) -> View:
    """A window at a share of the way down and to the right, enlarged."""

    def cropped(images: Images) -> Images:
        height, width = images.shape[1:3]
        rows, columns = (max(1, round(_CROPPED * size)) for size in (height, width))
        top = round(down * (height - rows))
        left = round(right * (width - columns))
        window = images[:, top : top + rows, left : left + columns]
        return jax.image.resize(window, images.shape, "linear")

    return View(cropped, None)


VIEWS: dict[str, tuple[View, ...]] = {
    "none": (),
    "rotation": tuple(_rotation(quarters) for quarters in (1, 2, 3)),
    "jigsaw": (_swap(2), _swap(1), _swap(1, 2)),
    "crop": (
        *(_crop(down, right) for down in (0.0, 1.0) for right in (0.0, 1.0)),
        _crop(0.5, 0.5),
    ),
}
"""Sets of views by name: turns by 90, 180 and 270 degrees (counter-clockwise); the
three swaps of the halves; the four corners and the centre of 20/32 of the height and
width, enlarged bilinearly (pixel centres at half-integers)."""


def check_views(name: str, shape: tuple[int, ...] | None = None) -> None:
    """Refuses an unknown set of views, or images that it does not go with.

    Args:
      name: one of `VIEWS`.
      shape: `(h, w, c)` of an image, where it is known.

    Raises:
      ValueError: with the known names, or with what the images have to be.
    """
    check_names(views=(name, VIEWS))
    if shape is None or name == "none":
        return
    if len(shape) != 3:
        raise ValueError(f"views={name!r} needs images, got inputs of shape {shape}")
    if name == "rotation" and shape[0] != shape[1]:
        raise ValueError(
            f"views='rotation' needs square images, got {shape[0]} x {shape[1]}"
        )
    if name == "jigsaw" and (shape[0] % 2 or shape[1] % 2):
        raise ValueError(
            f"views='jigsaw' needs images of even sizes, got {shape[0]} x {shape[1]}"
        )


def with_views(images: Images, name: str) -> Float[Array, "_ h w c"]:
    """The images and all their views: `(n, ...)` -> `((1 + A) n, ...)`, view by view.

    Args:
      images: any preprocessing.
      name: one of `VIEWS`.
    """
    return jnp.concatenate([images, *(view.apply(images) for view in VIEWS[name])])
