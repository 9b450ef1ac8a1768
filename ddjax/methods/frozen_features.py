"""What methods on frozen encoders share: real features, and the distilled images'."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ddjax.data import augment
from ddjax.data.augment import Transform
from ddjax.data.feed import Batches, batches
from ddjax.data.problem import Problem, Split, identity
from ddjax.data.stored import StoredInputs, on_host
from ddjax.methods.class_samples import check_problem as check_classes
from ddjax.models.encoders.base import Encoder
from ddjax.models.encoders.cache import cached_features
from ddjax.models.encoders.settings import EncoderSetting, as_encoder
from ddjax.storage.cache import Arrays, Cache
from ddjax.storage.checksum import checksum

__all__ = [
    "DEVICE_BYTES",
    "as_encoders",
    "augmentation_of",
    "blocks",
    "check_problem",
    "draws",
    "encoded",
    "real_features",
    "rows_to_draw_from",
    "sources",
]

DEVICE_BYTES = 4 * 2**30
"""Real features beyond this stay on the host, where a step draws a batch."""

_BLOCK_ROWS = 8192


def as_encoders(
    setting: EncoderSetting | Sequence[EncoderSetting],
) -> tuple[Encoder, ...]:
    """Loads what a config names.

    Args:
      setting: one encoder or several, see `ddjax.models.encoders.settings.as_encoder`.

    Raises:
      ValueError: no encoder.
      EncoderError: one that cannot be made.
    """
    if isinstance(setting, Encoder | str | Mapping):
        return (as_encoder(setting),)
    if not setting:
        raise ValueError("at least one encoder is needed, got none")
    return tuple(as_encoder(each) for each in setting)


def augmentation_of(
    setting: str | Mapping[str, Any] | None,
) -> tuple[Transform | None, dict[str, Any]]:
    """An augmentation, and what the recipe of a set that is made with it says of it.

    Args:
      setting: see `ddjax.data.augment.make`; None for images as they are.

    Raises:
      ValueError: an unknown name or setting.
    """
    if setting is None:
        return None, {}
    recipe = {"name": setting} if isinstance(setting, str) else dict(setting)
    return augment.make(recipe), {"augmentation": recipe}


def sources(encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """Where the weights come from, for a distilled set's recipe."""
    return [{"name": each.name, **each.source} for each in encoders]


def check_problem(problem: Problem) -> None:
    """Refuses what encoders cannot see.

    Raises:
      ValueError: preprocessed images, or a problem without classes.
    """
    kind = problem.preprocessing.kind
    if kind != "none":
        raise ValueError(
            f"encoders take pixels in [0, 1], but problem {problem.name!r} has "
            f"preprocessing {kind!r}; load it with preprocessing='none'"
        )
    check_classes(problem)


def real_features(
    encoder: Encoder,
    problem: Problem,
    *,
    directory: str | None,
    block: int,
    cache: Cache,
) -> Float[Array | np.ndarray, "n p"]:
    """Features of the training images, computed once.

    Args:
      encoder: the frozen encoder.
      problem: the real data.
      directory: of a cache of features that runs share
        (`ddjax.models.encoders.cache`); None leaves them to `cache`.
      block: images through the encoder at once.
      cache: keeps them for the run, if they are not too large for it.
    """
    compute = functools.partial(
        cached_features,
        encoder,
        problem.train.inputs,
        fingerprint=f"{problem.fingerprint}/train",
        block=block,
    )
    if directory is not None:
        return compute(directory=directory)

    def in_temporary_folder() -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            return {"features": np.array(compute(directory=folder, verbose=False))}

    about = {
        # The same weights give other features with another pooling or image size.
        "encoder": {"name": encoder.name, "source": encoder.source},
        "weights": checksum(encoder.params),
        "problem": identity(problem),
        "split": "train",
    }
    return cache("encoder_features", about, in_temporary_folder)["features"]


def rows_to_draw_from(
    inputs: Sequence[Float[Array | np.ndarray | StoredInputs, "n ..."]],
    labels: Any,
    *,
    batch_size: int | None,
) -> tuple[Split | Batches, ...]:
    """Real features or images with labels, on the device if they fit or all are needed.

    The rows of a step are the same for all encoders.

    Args:
      inputs: features from `real_features`, one array an encoder; or images.
      labels: of the images.
      batch_size: rows a step; None for all.
    """
    labels = np.asarray(labels, np.int32)
    place = jnp.asarray
    if batch_size is not None and sum(each.nbytes for each in inputs) > DEVICE_BYTES:
        place = on_host
    return tuple(
        batches(Split(place(each), place(labels)), batch_size) for each in inputs
    )


def blocks(
    features: Float[Array | np.ndarray, "n p"], labels: Any
) -> Iterator[tuple[Array, Array]]:
    """All rows with their labels on the device, a few at a time."""
    labels = np.asarray(labels, np.int32)
    for start in range(0, len(features), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        yield jnp.asarray(features[rows]), jnp.asarray(labels[rows])


def draws(
    transform: Transform,
    keys: Key[Array, " n"],
    shape: tuple[int, ...],
    *,
    micro_batch: int | None,
) -> Any:
    """What `encoded` augments images by: a draw for each key.

    With micro-batches the keys themselves, from which each draws its own.

    Args:
      transform: the augmentation.
      keys: one for each augmented image.
      shape: `(h, w, 3)` of an image.
      micro_batch: see `encoded`.
    """
    return keys if micro_batch else _drawn(transform, keys, shape)


def encoded(
    apply: Callable[[Any, Array], Array],
    params: Any,
    images: Float[Array, "m h w 3"],
    *,
    copies: int = 1,
    transform: Transform | None = None,
    drawn: Any = None,
    micro_batch: int | None = None,
) -> Float[Array, "_ p"]:
    """Features of (augmented copies of) images, a micro-batch at a time.

    Differentiable. With more images than a micro-batch, activations are recomputed on
    the way back, so that memory does not grow with their number; what comes out is the
    same.

    Args:
      apply: the encoder's.
      params: its weights.
      images: `(m, h, w, 3)`.
      copies: of each image.
      transform: the augmentation; None for the images as they are.
      drawn: by `draws` for each copy of each image, copy by copy.
      micro_batch: images at once, >= 1; None for all.

    Returns:
      `(copies m, p)`, copy by copy.
    """

    def features(part: Array, part_drawn: Any) -> Array:
        if transform is None:
            return apply(params, part)
        if micro_batch:
            part_drawn = _drawn(transform, part_drawn, part.shape[1:])
        change = transform.apply
        augmented = jax.vmap(lambda one, image: change(one, image[None])[0])
        return apply(params, augmented(part_drawn, part))

    count = images.shape[0]
    total = copies * count
    number = 1 if micro_batch is None else -(-total // micro_batch)
    if number == 1:
        return features(jnp.tile(images, (copies, 1, 1, 1)), drawn)

    # Inside a loop nothing can be merged with what is computed again.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(places: Array) -> Array:
        some = None if drawn is None else drawn[places]
        return features(images[places % count], some)

    # Blocks of one size, as equal as can be: the encoder is compiled once.
    size = -(-total // number)
    places = np.minimum(np.arange(number * size), total - 1).reshape(number, size)
    rows = jax.lax.map(block, jnp.asarray(places, jnp.int32))
    return rows.reshape(number * size, -1)[:total]


def _drawn(transform: Transform, keys: Key[Array, " n"], shape: tuple[int, ...]) -> Any:
    return jax.vmap(lambda key: transform.draw(key, 1, shape))(keys)
