"""VGG-11: plain stacks of 3 x 3 convolutions and max-pooling."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.checks import check_names
from ddjax.models.networks.layers import (
    NORMS,
    SIZES,
    Convolution,
    check_images,
    check_sizes,
    dense_end,
    head,
    max_pool,
    normalized,
)

__all__ = ["VGG", "VGG_NORMS", "vgg11"]

VGG_NORMS = (*NORMS, "none")
"""How a `VGG` normalises; `none` is the source's."""

# Channels of the convolutions between poolings, in units of the width: configuration A.
_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
_PARTS = 7  # rows and columns that the dense layers of `imagenet` see
_HIDDEN = 64  # their units, in units of the width


class VGG(nn.Module):
    """Eight 3 x 3 convolutions with ReLU, in five stages that end in max-pooling.

    - `imagenet`: the last map, averaged to 7 x 7, is flattened (channels last), and two
      dense layers with ReLU make the features. 132 863 336 parameters with 1000
      outputs, 132 868 840 with a norm.
    - `small`: the features are the last map's mean. At 32 pixels that map is one pixel,
      and this is the "VGG11" of the dataset-condensation line of work.

    Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition" (ICLR 2015), Table 1, A; a norm stands before each ReLU. Without
    dropout.

    Attributes:
      outputs: number of output units; None for none: features.
      size: one of `SIZES`.
      width: channels of the first convolution; the others are multiples of it.
      norm: one of `VGG_NORMS`.
    """

    outputs: int | None
    size: str = "small"
    width: int = 64
    norm: str = "batch"

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`, of 32 pixels at least."""
        check_images(images, "VGG", 32)
        hidden = images
        for stage, factors in enumerate(_STAGES, 1):
            for place, factor in enumerate(factors, 1):
                name = f"{stage}_{place}"
                hidden = Convolution(factor * self.width, name=f"conv{name}")(hidden)
                hidden = normalized(hidden, self.norm, train, f"norm{name}")
                hidden = nn.relu(hidden)
            hidden = max_pool(hidden, 2, 2, padding=0)
        if self.size == "small":
            return head(jnp.mean(hidden, axis=(1, 2)), self.outputs)
        return dense_end(
            hidden, size=_PARTS, units=_HIDDEN * self.width, outputs=self.outputs
        )


def vgg11(
    *,
    outputs: int | None,
    size: str = "small",
    width: int = 64,
    norm: str = "batch",
) -> VGG:
    """A `VGG` with 11 layers of weights as `imagenet`, and 9 as `small`.

    Raises:
      ValueError: a number below 1, an unknown `size` or `norm`. Images of fewer than 32
        pixels are refused when the network is applied.
    """
    check_sizes(outputs, width=width)
    check_names(size=(size, SIZES), norm=(norm, VGG_NORMS))
    return VGG(outputs, size, width, norm)
