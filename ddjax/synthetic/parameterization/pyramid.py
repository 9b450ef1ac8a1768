r"""Images as sums over resolutions that come in one after the other.

A latent image is the sum of levels of 1 x 1, 2 x 2, 4 x 4, ... pixels up to its full
size, each enlarged bilinearly (pixel centres at half-integers, `align_corners=False`,
clamped at the border); it becomes pixels through a decorrelating colour matrix and a
sigmoid (`ddjax.synthetic.parameterization.colour`).

A random start has one active level, of 1 x 1. Every so many steps, until the size is
full, the next level becomes active: with L levels so far, these are scaled by L/(L+1),
the new one is N(0, 1)/(L+1), and the optimiser begins anew. All levels are allocated
from the start and a counter among the stored numbers says how many are active, so that
a run compiles once, and resumes wherever it was stopped; an inactive level gets no
gradient, hence (Adam and the others moving nothing at gradient zero) waits as it was
drawn.

Source: Cazenavette, Torralba and Sitzmann, "Dataset Distillation for Pre-Trained
Self-Supervised Vision Models" (NeurIPS 2025, arXiv 2511.16674).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.synthetic.parameterization import colour as colours
from ddjax.synthetic.parameterization.base import Parameterization, Stored

__all__ = ["pyramid"]

_ACTIVE = "active"


def pyramid(
    *, extend_every: int = 200, colour: str = "data", bounds: str = "unit"
) -> Parameterization:
    """A multi-resolution pyramid, see the module.

    What starts from given images rather than at random has all levels active: the
    residuals of a Laplacian pyramid, whose sum is the image.

    Args:
      extend_every: steps between two levels, >= 1; 0 for all levels from the start.
      colour: see `ddjax.synthetic.parameterization.colour.decorrelated_colour`.
      bounds: likewise.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    colours.check_settings(colour, bounds)
    if extend_every < 0:
        raise ValueError(f"extend_every must be at least 0, got {extend_every}")

    def init(inputs: Array, real: Any = None) -> Stored:
        constants = colours.fitted(real, inputs.shape, colour=colour, bounds=bounds)
        rest = colours.latent(inputs, constants, colour)
        stored = {}
        sizes = _sizes(*inputs.shape[1:3])
        for level, size in enumerate(sizes, start=1):
            # The last level takes what is left, at full size.
            stored[_name(level)] = _resized(rest, size)
            rest = rest - _resized(stored[_name(level)], sizes[-1])
        return {**stored, _ACTIVE: jnp.float32(len(sizes)), **constants}

    def start(key, shape: tuple[int, ...], real: Any) -> Stored:
        constants = colours.fitted(real, shape, colour=colour, bounds=bounds)
        number, height, width, channels = shape
        sizes = _sizes(height, width)
        # Where all are active at once, they share the variance that L levels end with.
        stored = {
            _name(level): jax.random.normal(
                jax.random.fold_in(key, level), (number, *size, channels)
            )
            / (level if extend_every else len(sizes))
            for level, size in enumerate(sizes, start=1)
        }
        active = 1 if extend_every else len(sizes)
        return {**stored, _ACTIVE: jnp.float32(active), **constants}

    def decode(stored: Stored) -> Float[Array, "m h w c"]:
        levels = _levels(stored)
        *_, full = levels
        total = jnp.zeros_like(full)
        for level, values in enumerate(levels, start=1):
            shown = (level <= stored[_ACTIVE]).astype(values.dtype)
            total = total + shown * _resized(values, full.shape[1:3])
        return colours.pixels_of(total, stored, colour)

    def advance(stored: Stored, step: Array) -> tuple[Stored, Array]:
        levels, active = _levels(stored), stored[_ACTIVE]
        extends = (active < len(levels)) & (step % extend_every == 0)
        scale = jnp.where(extends, active / (active + 1.0), jnp.ones_like(active))
        scaled = {
            _name(level): values * jnp.where(level <= active, scale, 1.0)
            for level, values in enumerate(levels, start=1)
        }
        active = active + extends.astype(active.dtype)
        return {**stored, **scaled, _ACTIVE: active}, extends

    return Parameterization(
        name="pyramid",
        settings={"extend_every": extend_every, "colour": colour, "bounds": bounds},
        init=init,
        decode=decode,
        start=start,
        advance=advance if extend_every else None,
        constants=(_ACTIVE, *colours.constant_names(colour, bounds)),
    )


def _name(level: int) -> str:
    return f"level_{level}"


def _levels(stored: Stored) -> list[Array]:
    count = sum(name.startswith("level_") for name in stored)
    return [stored[_name(level)] for level in range(1, count + 1)]


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """1, 2, 4, ... and, whatever it is, the full size."""
    doublings = math.ceil(math.log2(max(height, width)))
    powers = [2**i for i in range(doublings)]
    return [*((min(p, height), min(p, width)) for p in powers), (height, width)]


def _resized(images: Array, size: tuple[int, ...]) -> Array:
    """Bilinear; a smaller image is the mean over what its pixels cover (antialias)."""
    shape = (images.shape[0], *size, images.shape[-1])
    return jax.image.resize(images, shape, "linear")
