r"""Images as sums over resolutions that come in one after the other.

A latent image is the sum of levels of 1 x 1, 2 x 2, 4 x 4, ... pixels up to its full
size, each enlarged bilinearly (pixel centres at half-integers, `align_corners=False`,
clamped at the border); it becomes pixels through a decorrelating colour matrix and a
sigmoid (`ddjax.synthetic.decoders.colour`).

A random start has one active level, of 1 x 1. Every so many steps, a fraction of the
run's length, the next level becomes active until the size is full: with L levels so
far, these are scaled by L/(L+1), the new one is N(0, 1)/(L+1), and the optimiser begins
anew. All levels are allocated from the start and a counter among the stored numbers
says how many are active, so that a run compiles once, and resumes wherever it was
stopped; an inactive level gets no gradient, hence (Adam and the others moving nothing
at gradient zero) waits as it was drawn.

Source: Cazenavette, Torralba and Sitzmann, "Dataset Distillation for Pre-Trained
Self-Supervised Vision Models" (NeurIPS 2025, arXiv 2511.16674), where a level comes in
every 200 of 5000 steps.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ddjax.synthetic.decoders import colour as colours
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored

__all__ = ["pyramid"]

_ACTIVE = "active"


def pyramid(
    *, extend_every: float | int = 0.04, colour: str = "data", bounds: str = "unit"
) -> Decoder:
    """A multi-resolution pyramid, see the module; targets are stored as they are.

    What starts from given images rather than at random has all levels active: the
    residuals of a Laplacian pyramid, whose sum is the image.

    Args:
      extend_every: how much of the run passes between two levels, a fraction of its
        steps in [0, 1]: a level comes in after every `round(extend_every * steps)`
        updates, and at least one; 0 for all levels from the start.
      colour: see `ddjax.synthetic.decoders.colour.decorrelated_colour`.
      bounds: see `ddjax.synthetic.decoders.colour.decorrelated_colour`.

    Raises:
      ValueError: an unknown name or a number out of range.
    """
    colours.check_settings(colour, bounds)
    if not (isinstance(extend_every, int | float) and 0 <= extend_every <= 1):
        raise ValueError(
            "extend_every is a fraction of the run, between 0 and 1, got "
            f"{extend_every!r}"
        )
    names = colours.constant_names(colour, bounds)

    def init(pairs: Pairs, fitted: Fitted) -> Stored:
        colours.check_images(pairs.inputs.shape, colour)
        constants = colours.constants_in(fitted, names)
        rest = colours.latent(jnp.asarray(pairs.inputs), constants, colour)
        stored = {}
        sizes = _sizes(*rest.shape[1:3])
        for level, size in enumerate(sizes, start=1):
            # The last level takes what is left, at full size.
            stored[_name(level)] = _resized(rest, size)
            rest = rest - _resized(stored[_name(level)], sizes[-1])
        return {
            **stored,
            _ACTIVE: jnp.float32(len(sizes)),
            "targets": jnp.asarray(pairs.targets),
            **constants,
        }

    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], targets: Array, fitted: Fitted
    ) -> Stored:
        colours.check_images(shape, colour)
        number, height, width, channels = shape
        sizes = _sizes(height, width)
        # Where all are active at once, they share the variance that L levels end with.
        stored = {
            _name(level): jax.random.normal(
                jax.random.fold_in(key, level),
                (number, *size, channels),
                targets.dtype,
            )
            / (level if extend_every else len(sizes))
            for level, size in enumerate(sizes, start=1)
        }
        return {
            **stored,
            _ACTIVE: jnp.float32(1 if extend_every else len(sizes)),
            "targets": targets,
            **colours.constants_in(fitted, names),
        }

    def decode(stored: Stored) -> Pairs:
        levels = _levels(stored)
        *_, full = levels
        total = jnp.zeros_like(full)
        for level, values in enumerate(levels, start=1):
            shown = (level <= stored[_ACTIVE]).astype(values.dtype)
            total = total + shown * _resized(values, full.shape[1:3])
        return Pairs(colours.pixels_of(total, stored, colour), stored["targets"])

    def advance(
        stored: Stored, step: Int[Array, ""], steps: Int[Array, ""]
    ) -> tuple[Stored, Bool[Array, ""]]:
        levels, active = _levels(stored), stored[_ACTIVE]
        between = jnp.round(jnp.float32(extend_every) * steps.astype(jnp.float32))
        between = jnp.maximum(between.astype(step.dtype), 1)
        extends = (active < len(levels)) & (step % between == 0)
        scale = jnp.where(extends, active / (active + 1.0), jnp.ones_like(active))
        scaled = {
            _name(level): values
            * jnp.where(level <= active, scale, 1.0).astype(values.dtype)
            for level, values in enumerate(levels, start=1)
        }
        active = active + extends.astype(active.dtype)
        return {**stored, **scaled, _ACTIVE: active}, extends

    return Decoder(
        name="pyramid",
        settings={"extend_every": extend_every, "colour": colour, "bounds": bounds},
        fit=lambda real: colours.fit(real, colour=colour, bounds=bounds),
        init=init,
        decode=decode,
        noise=noise,
        advance=advance if extend_every else None,
        constants=(_ACTIVE, *names),
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
