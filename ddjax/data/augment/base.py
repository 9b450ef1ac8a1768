"""What a random transform of images is, and how several become one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

__all__ = ["Apply", "Draw", "Factory", "Transform", "compose", "one_of"]


class Draw(Protocol):
    """Draws the parameters of a transform."""

    def __call__(self, key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> Any:
        """Returns the parameters, a pytree of arrays whose leading axis is `count`.

        Args:
          key: of the draw.
          count: number of images; 1 draws for all of them, so that two batches that are
            given the same parameters are transformed alike ("siamese").
          shape: `(h, w, c)` of one image.
        """
        ...


class Apply(Protocol):
    """Transforms images by given parameters."""

    def __call__(
        self, params: Any, images: Float[Array, "n h w c"], /
    ) -> Float[Array, "n h w c"]:
        """Returns images of the same shape and dtype, differentiable in `images`.

        Args:
          params: what `draw` returns; floats are brought to the dtype of the images.
          images: preprocessed or not, as the transform says.
        """
        ...


class Transform(NamedTuple):
    """A random transform of images: drawing its parameters apart from applying them.

    Attributes:
      name: under which `make` knows it.
      settings: every keyword that made it, JSON-able.
      draw: see `Draw`.
      apply: see `Apply`.
    """

    name: str
    settings: dict[str, Any]
    draw: Draw
    apply: Apply


Factory = Callable[..., Transform]
"""Keyword-only settings -> `Transform`."""


def compose(*transforms: Transform) -> Transform:
    """The transforms one after the other, each with its own draw.

    No transform at all leaves images as they are.
    """

    def draw(key: PRNGKeyArray, count: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
        return _each(transforms, key, count, shape)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        for transform, drawn in zip(transforms, params, strict=True):
            images = transform.apply(drawn, images)
        return images

    return Transform("compose", {"transforms": _described(transforms)}, draw, apply)


def one_of(*transforms: Transform) -> Transform:
    """One of the transforms for the whole batch, each with the same probability.

    Which one is drawn once a batch, whether or not its parameters are shared.

    Raises:
      ValueError: no transform.
    """
    if not transforms:
        raise ValueError("one_of needs at least one transform, got none")

    def draw(
        key: PRNGKeyArray, count: int, shape: tuple[int, ...]
    ) -> tuple[Array, tuple[Any, ...]]:
        choice_key, key = jax.random.split(key)
        choice = jax.random.randint(choice_key, (1,), 0, len(transforms))
        return choice, _each(transforms, key, count, shape)

    def apply(params: Any, images: Float[Array, "n h w c"]) -> Array:
        choice, drawn = params
        branches = [
            lambda images, transform=transform, own=own: transform.apply(own, images)
            for transform, own in zip(transforms, drawn, strict=True)
        ]
        return jax.lax.switch(jnp.squeeze(choice, axis=0), branches, images)

    return Transform("one_of", {"transforms": _described(transforms)}, draw, apply)


def _each(
    transforms: Sequence[Transform],
    key: PRNGKeyArray,
    count: int,
    shape: tuple[int, ...],
) -> tuple[Any, ...]:
    keys = jax.random.split(key, len(transforms))
    return tuple(
        transform.draw(own, count, shape)
        for own, transform in zip(keys, transforms, strict=True)
    )


def _described(transforms: Sequence[Transform]) -> list[dict[str, Any]]:
    return [{"name": each.name, **each.settings} for each in transforms]
