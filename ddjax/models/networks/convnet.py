"""ConvNet-D: blocks of convolution, normalisation, ReLU and average pooling."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.checks import check_names
from ddjax.kernels._rows import check_floats
from ddjax.models.networks.layers import (
    NORMS,
    Convolution,
    check_rank,
    check_sizes,
    dense,
    normalized,
)

__all__ = ["ConvNet", "convnet"]

# Part of the keys that weights are drawn with: files and seeds depend on them.
_NORM_NAMES = {"instance": "GroupNorm", "batch": "_BatchNorm"}


class ConvNet(nn.Module):
    """The "ConvNet-D" of the dataset-condensation line of work.

    D blocks of 3 x 3 convolution, normalisation (see `NORMS`), ReLU and 2 x 2 average
    pooling, then a linear head on the flattened result, which are the features.

    Source: Zhao, Mopuri & Bilen, "Dataset Condensation with Gradient Matching"
    (ICLR 2021), section 4.1, after Gidaris & Komodakis (2018), with `instance`. With
    depth 3, width 128, 32 x 32 x 3 images and 10 classes it has 320 010 parameters.

    Attributes:
      outputs: number of output units; None for none: features.
      depth: number of blocks D.
      width: channels of each convolution.
      first_padding: zero padding of the first convolution; 1 keeps the size, 3 turns
        28 x 28 into 32 x 32 (what the source does with single-channel images).
      norm: one of `NORMS`.
      widths: channels of each block's convolution, in place of `width`.
    """

    outputs: int | None
    depth: int = 3
    width: int = 128
    first_padding: int = 1
    norm: str = "instance"
    widths: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`.

        Args:
          images: preprocessed.
          train: whether `batch` normalises by this batch and updates the running
            statistics; makes no difference to `instance`.
        """
        check_floats(images)
        self._check(images)
        margin = (self.first_padding - 1,) * 2
        hidden = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        for block, width in enumerate(self.widths or (self.width,) * self.depth):
            hidden = Convolution(width, name=f"_Convolution_{block}")(hidden)
            name = f"{_NORM_NAMES[self.norm]}_{block}"
            hidden = nn.relu(normalized(hidden, self.norm, train, name))
            hidden = _average_pool(hidden)
        features = hidden.reshape(hidden.shape[0], -1)
        return features if self.outputs is None else dense(features, self.outputs)

    def _check(self, images: Array) -> None:
        check_rank(images, "ConvNet")
        shape = images.shape
        smallest = min(shape[1], shape[2]) + 2 * (self.first_padding - 1)
        if smallest < 2**self.depth:
            deepest = max(0, smallest.bit_length() - 1)
            raise ValueError(
                f"images of {shape[1]} x {shape[2]} are too small for depth "
                f"{self.depth}: each block halves them; the largest depth is {deepest}"
            )


def _average_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    height, width = (2 * (size // 2) for size in images.shape[1:3])
    corners = [images[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]
    return sum(corners[1:], corners[0]) / 4.0


def convnet(
    *,
    outputs: int | None,
    depth: int = 3,
    width: int = 128,
    first_padding: int = 1,
    norm: str = "instance",
    widths: Sequence[int] | None = None,
) -> ConvNet:
    """A `ConvNet`.

    Raises:
      ValueError: a size below 1, another number of `widths` than `depth`, or an unknown
        `norm`. Images too small for the depth are refused when the network is applied.
    """
    check_sizes(outputs, depth=depth, width=width, first_padding=first_padding)
    check_names(norm=(norm, NORMS))
    each = None if widths is None else tuple(widths)
    if each is not None and (len(each) != depth or min(each) < 1):
        raise ValueError(
            f"widths={each}, but depth {depth} needs {depth} of them, each at least 1"
        )
    return ConvNet(outputs, depth, width, first_padding, norm, each)
