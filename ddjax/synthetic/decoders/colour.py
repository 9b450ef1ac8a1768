r"""Images whose colours are decorrelated and whose pixels stay in their range.

A latent image z becomes

.. math::
    x = l + (h - l)\,\sigma(2\, M z)

pixel by pixel, :math:`\sigma` being the logistic function, l and h the bounds of the
pixels and M the colour matrix: with the covariance of the channels over all real pixels
:math:`C = U S U^\top`, :math:`M = U S^{1/2} / \sqrt{s_1}`. Steps of the same size in
every coordinate of z then change brightness much and hues little, as natural images do.

Source of the construction: Olah, Mordvintsev and Schubert, "Feature Visualization"
(Distill, 2017), and its Lucid library, where M stands as a constant fitted to ImageNet.
Here M is fitted to the real data at hand unless that constant is asked for.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_names
from ddjax.data import preprocess
from ddjax.data.problem import Split
from ddjax.data.stored import StoredInputs
from ddjax.kernels.precision import EXACT
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored

__all__ = [
    "BOUNDS",
    "COLOURS",
    "check_images",
    "check_settings",
    "constant_names",
    "constants_in",
    "decorrelated_colour",
    "fit",
    "latent",
    "pixels_of",
]

COLOURS = ("data", "imagenet", "none")
BOUNDS = ("unit", "data")

# U S^(1/2) of ImageNet's pixels in [0, 1], rounded as published in Lucid.
_IMAGENET = (
    (0.26, 0.09, 0.02),
    (0.27, 0.00, -0.05),
    (0.27, -0.09, 0.03),
)
# At most so many real images are looked at, evenly spaced.
_FITTED_TO = 4096
_READ_OF_FILES = 512
# Half a grey level of 8 bits: what an image loses at its bounds.
_MARGIN = 1 / 512


def decorrelated_colour(*, colour: str = "data", bounds: str = "unit") -> Decoder:
    """Latent images of full size, see the module; targets are stored as they are.

    Args:
      colour: the matrix M: `data` (fitted to the real training images), `imagenet`
        (the published constant, RGB only), or `none` (the identity: bounded pixels).
      bounds: of the pixels: `unit`, that is 0 and 1, for problems without
        preprocessing; or `data`, the extremes of each channel in the real training
        images, for those with.

    Raises:
      ValueError: an unknown name.
    """
    check_settings(colour, bounds)
    names = constant_names(colour, bounds)

    def init(pairs: Pairs, fitted: Fitted) -> Stored:
        check_images(pairs.inputs.shape, colour)
        constants = constants_in(fitted, names)
        return {
            "latent": latent(jnp.asarray(pairs.inputs), constants, colour),
            "targets": jnp.asarray(pairs.targets),
            **constants,
        }

    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], targets: Array, fitted: Fitted
    ) -> Stored:
        check_images(shape, colour)
        return {
            "latent": jax.random.normal(key, shape, targets.dtype),
            "targets": targets,
            **constants_in(fitted, names),
        }

    return Decoder(
        name="decorrelated_colour",
        settings={"colour": colour, "bounds": bounds},
        fit=lambda real: fit(real, colour=colour, bounds=bounds),
        init=init,
        decode=lambda stored: Pairs(
            pixels_of(stored["latent"], stored, colour), stored["targets"]
        ),
        noise=noise,
        constants=names,
    )


def check_settings(colour: str, bounds: str) -> None:
    """Refuses unknown names.

    Raises:
      ValueError: the name, and those that are known.
    """
    check_names(colour=(colour, COLOURS), bounds=(bounds, BOUNDS))


def check_images(shape: tuple[int, ...], colour: str) -> None:
    """Refuses inputs `(m, *shape)` that are no images, or have no such colours.

    Raises:
      ValueError: the shape, or the number of channels.
    """
    if len(shape) != 4:
        raise ValueError(f"inputs of shape {shape[1:]} are no images (h, w, c)")
    if colour == "imagenet" and shape[-1] != 3:
        raise ValueError(
            f"colour='imagenet' is for RGB images, these have {shape[-1]} channels"
        )


def constant_names(colour: str, bounds: str) -> tuple[str, ...]:
    """Names of the arrays that `fit` gives."""
    of_bounds = ("low", "high") if bounds == "data" else ()
    return (("colour",) if colour == "data" else ()) + of_bounds


def constants_in(fitted: Fitted, names: tuple[str, ...]) -> Stored:
    """What was fitted, ready to be stored.

    Raises:
      ValueError: something of it is missing.
    """
    missing = [name for name in names if name not in fitted]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} must be fitted to real images before samples are "
            f"initialised; what was given holds {sorted(fitted)}"
        )
    return {name: jnp.asarray(fitted[name]) for name in names}


def fit(real: Split, *, colour: str, bounds: str) -> Fitted:
    """What has to be stored with the latent images to decode them.

    Args:
      real: real training images `(n, h, w, c)`, in the space of the samples.
      colour: one of `COLOURS`.
      bounds: one of `BOUNDS`.

    Returns:
      The arrays named by `constant_names`, in the dtype of the images: `colour`
      `(c, c)`, `low` and `high` `(c,)`.

    Raises:
      ValueError: inputs that are no images; a setting that these data do not allow.
    """
    check_images(real.inputs.shape, colour)
    images = _sampled_images(real.inputs)
    low = np.min([block.min(axis=(0, 1, 2)) for block in _blocks(images)], axis=0)
    high = np.max([block.max(axis=(0, 1, 2)) for block in _blocks(images)], axis=0)
    if bounds == "unit" and not (low.min() >= -1e-3 and high.max() <= 1 + 1e-3):
        raise ValueError(
            f"bounds='unit' is for pixels in [0, 1], but the real images go from "
            f"{low.min():g} to {high.max():g}; use bounds='data', or load the data "
            "with preprocessing='none'"
        )
    found = {}
    if colour == "data":
        found["colour"] = _colour_matrix(images)
    if bounds == "data":
        # A channel that does not vary still needs a range.
        high = np.where(high > low, high, low + 1.0)
        found |= {"low": low, "high": high}
    dtype = jax.dtypes.canonicalize_dtype(real.inputs.dtype)
    return {name: jnp.asarray(value, dtype) for name, value in found.items()}


def pixels_of(
    latents: Float[Array, "m h w c"], stored: Stored, colour: str
) -> Float[Array, "m h w c"]:
    """The images of some latent ones; `stored` holds the constants."""
    low, high = _bounds(stored, latents.dtype)
    values = jax.nn.sigmoid(2.0 * _mixed(latents, _matrix(stored, colour)))
    return values if low is None else low + (high - low) * values


def latent(
    images: Float[Array, "m h w c"], stored: Stored, colour: str
) -> Float[Array, "m h w c"]:
    """The inverse of `pixels_of`; images are clipped to half a grey level inside."""
    low, high = _bounds(stored, images.dtype)
    values = images if low is None else (images - low) / (high - low)
    values = jnp.clip(values, _MARGIN, 1.0 - _MARGIN)
    matrix = _matrix(stored, colour)
    logits = 0.5 * (jnp.log(values) - jnp.log1p(-values))
    return _mixed(logits, None if matrix is None else jnp.linalg.inv(matrix))


def _sampled_images(images: Any) -> Any:
    """Images, evenly spaced, that the colours are fitted to."""
    in_files = isinstance(images, StoredInputs)
    most = _READ_OF_FILES if in_files else _FITTED_TO
    chosen = np.unique(np.linspace(0, len(images) - 1, most).astype(np.int64))
    return images[chosen] if in_files or len(chosen) < len(images) else images


def _bounds(stored: Stored, dtype: Any) -> tuple[Any, Any]:
    if "low" not in stored:
        return None, None
    low, high = (
        stored[name].astype(dtype).reshape(1, 1, 1, -1) for name in ("low", "high")
    )
    return low, high


def _matrix(stored: Stored, colour: str) -> Array | None:
    if colour == "data":
        return stored["colour"]
    if colour == "none":
        return None
    matrix = np.array(_IMAGENET)
    return jnp.asarray(matrix / np.linalg.norm(matrix, axis=0).max())


def _mixed(images: Array, matrix: Array | None) -> Array:
    if matrix is None:
        return images
    matrix = matrix.astype(images.dtype)
    return jnp.einsum("mhwc,dc->mhwd", images, matrix, precision=EXACT)


def _blocks(images: Any) -> Iterator[np.ndarray]:
    for block in preprocess.blocks(images):
        yield np.asarray(block, np.float64)


def _colour_matrix(images: Any) -> np.ndarray:
    """The M of the module, its columns in falling order and with positive sums."""
    pixels = [block.reshape(-1, block.shape[-1]) for block in _blocks(images)]
    count = sum(map(len, pixels))
    mean = sum(rows.sum(axis=0) for rows in pixels) / count
    covariance = sum((rows - mean).T @ (rows - mean) for rows in pixels) / count
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if not values[0] > 0:
        return np.eye(len(values))
    # Grey images in RGB have two channels' worth of nothing: M must have an inverse.
    spread = np.sqrt(np.maximum(values / values[0], 1e-4))
    total = vectors.sum(axis=0)
    return vectors * np.where(total < 0, -1.0, 1.0) * spread
