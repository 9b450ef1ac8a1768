r"""Several small images side by side in one stored image, each of the same class.

A stored image is cut into rows x columns parts, and each part is enlarged bilinearly
(pixel centres at half-integers, `align_corners=False`) to the full size: rows x columns
pairs of one target for the storage of one. Coarser, but more, samples.

Source: the multi-formation of Kim et al., "Dataset Condensation via Efficient
Synthetic-Data Parameterization" (ICML 2022), and "partitioning and expansion" of Zhao,
Li, Qin and Yu, "Improved Distribution Matching for Dataset Condensation" (CVPR 2023),
both with 2 x 2 parts (and more for larger images).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_counts
from ddjax.data.problem import Split
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored

__all__ = ["partition"]


def partition(*, rows: int = 2, columns: int = 2) -> Decoder:
    """Parts of stored images, see the module; targets are stored once for all parts.

    What starts from given images holds their means over squares of pixels.

    Args:
      rows: parts above each other, >= 1; divides the height.
      columns: parts beside each other, >= 1; divides the width.

    Raises:
      ValueError: a number below 1; when the data are looked at, inputs that are no
        images, or cannot be cut in this way; pairs of different targets for the parts
        of one image.
    """
    check_counts(required=True, rows=rows, columns=columns)
    parts = rows * columns

    def check(shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise ValueError(
                f"inputs of shape {shape} are no images (h, w, c); decoder 'partition' "
                "makes images"
            )
        if shape[0] % rows or shape[1] % columns:
            raise ValueError(
                f"images of {shape[0]} x {shape[1]} pixels cannot be cut into {rows} x "
                f"{columns} parts of one size"
            )

    def fit(real: Split) -> Fitted:
        check(tuple(real.inputs.shape[1:]))
        return {}

    def check_count(number: int) -> None:
        if number % parts:
            raise ValueError(
                f"{number} pairs cannot stand {parts} to an image, one beside the other"
            )

    def side_by_side(small: Float[Array, "n h w c"], targets: Array) -> Stored:
        _, height, width, channels = small.shape
        cells = small.reshape(-1, rows, columns, height, width, channels)
        whole = cells.transpose(0, 1, 3, 2, 4, 5)
        return {
            "inputs": whole.reshape(-1, rows * height, columns * width, channels),
            "targets": targets[::parts],
        }

    def init(pairs: Pairs, fitted: Fitted) -> Stored:
        del fitted
        check(tuple(pairs.inputs.shape[1:]))
        check_count(len(pairs.inputs))
        targets = np.asarray(pairs.targets)
        if not np.array_equal(targets, np.repeat(targets[::parts], parts, axis=0)):
            raise ValueError(
                f"decoder 'partition' stores one target for {parts} pairs, but these "
                "have different ones; it is for methods that give every class as many "
                "samples"
            )
        number, height, width, channels = pairs.inputs.shape
        cut = (number, height // rows, rows, width // columns, columns, channels)
        small = jnp.asarray(pairs.inputs).reshape(cut).mean(axis=(2, 4))
        return side_by_side(small, jnp.asarray(pairs.targets))

    def noise(
        key: PRNGKeyArray, shape: tuple[int, ...], targets: Array, fitted: Fitted
    ) -> Stored:
        del fitted
        check(shape[1:])
        check_count(shape[0])
        number, height, width, channels = shape
        size = (number, height // rows, width // columns, channels)
        return side_by_side(jax.random.normal(key, size, targets.dtype), targets)

    def decode(stored: Stored) -> Pairs:
        whole: Any = stored["inputs"]
        number, height, width, channels = whole.shape
        cells = whole.reshape(
            number, rows, height // rows, columns, width // columns, channels
        ).transpose(0, 1, 3, 2, 4, 5)
        small = cells.reshape(-1, *cells.shape[3:])
        full = (number * parts, height, width, channels)
        return Pairs(
            jax.image.resize(small, full, "linear"),
            jnp.repeat(stored["targets"], parts, axis=0),
        )

    return Decoder(
        name="partition",
        settings={"rows": rows, "columns": columns},
        fit=fit,
        init=init,
        decode=decode,
        noise=noise,
        parts=parts,
    )
