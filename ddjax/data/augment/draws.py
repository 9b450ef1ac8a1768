"""What the transforms share: uniform draws, their shapes, and checks of settings."""

import math
from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = ["check_interval", "check_range", "per_image", "uniform", "which_images"]


def uniform(
    key: PRNGKeyArray,
    count: int,
    low: float | Float[Array, ""],
    high: float | Float[Array, ""],
) -> Float[Array, " n"]:
    """Draws `(count,)` from U(low, high)."""
    return jax.random.uniform(key, (count,), minval=low, maxval=high)


def which_images(probability: float) -> Callable[..., Array]:
    """A `Draw` of which images are changed, each with this probability."""

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> Array:
        return uniform(key, count, 0.0, 1.0) < probability

    return draw


def per_image(values: Array, images: Float[Array, "n h w c"]) -> Array:
    """Parameters `(n or 1,)` as `(n or 1, 1, 1, 1)` in the dtype of the images."""
    return values.astype(images.dtype).reshape(-1, 1, 1, 1)


def check_range(
    transform: str, name: str, value: float, low: float, high: float
) -> None:
    """Refuses a setting outside [low, high], and one that is not finite.

    Raises:
      ValueError: the transform, the setting, its value and what is allowed.
    """
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(
            f"{transform} has {name}={value}; it must be finite and in [{low}, {high}]"
        )


def check_interval(
    transform: str, name: str, value: Sequence[float], most: float
) -> tuple[float, float]:
    """The two ends of an interval, unless it is not 0 < low <= high <= `most`.

    Raises:
      ValueError: the transform, the setting, its value and what is allowed.
    """
    ends = tuple(value)
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= most or math.isinf(ends[1]):
        raise ValueError(
            f"{transform} has {name}={ends}; it must be two numbers, 0 < low <= high"
            + (f" <= {most:g}" if math.isfinite(most) else "")
        )
    return ends[0], ends[1]
