"""AlexNet: five convolutions, without normalisation."""

import flax.linen as nn
from jaxtyping import Array, Float

from ddjax.checks import check_names
from ddjax.models.networks.layers import (
    SIZES,
    Convolution,
    check_images,
    check_sizes,
    dense_end,
    head,
    max_pool,
)

__all__ = ["AlexNet", "alexnet"]

# Of each convolution: channels in units of the width, kernel, stride, padding, and
# whether max-pooling is behind its ReLU.
_LAYERS = {
    "small": (
        (2, 5, 1, 2, True),
        (3, 5, 1, 2, True),
        (4, 3, 1, 1, False),
        (3, 3, 1, 1, False),
        (3, 3, 1, 1, True),
    ),
    "imagenet": (
        (1, 11, 4, 2, True),
        (3, 5, 1, 2, True),
        (6, 3, 1, 1, False),
        (4, 3, 1, 1, False),
        (4, 3, 1, 1, True),
    ),
}
_POOL = {"small": 2, "imagenet": 3}  # windows; the stride is 2
_SMALLEST = {"small": 8, "imagenet": 63}
_PARTS = 6  # rows and columns that the dense layers of `imagenet` see
_HIDDEN = 64  # their units, in units of the width


class AlexNet(nn.Module):
    """Five convolutions with ReLU, and three max-poolings.

    - `imagenet`: the last map, averaged to 6 x 6, is flattened (channels last), and two
      dense layers with ReLU make the features. 61 100 840 parameters with 1000 outputs.
    - `small`: the "AlexNet" of the dataset-condensation line of work: 5 x 5 kernels in
      place of the first, no strides, 2 x 2 pooling; the features are the last map,
      flattened (192 x 4 x 4 for 32 x 32 pixels).

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks" (2014), after Krizhevsky, Sutskever & Hinton (NeurIPS 2012), without
    dropout; `small` after Zhao, Mopuri & Bilen (ICLR 2021).

    Attributes:
      outputs: number of output units; None for none: features.
      size: one of `SIZES`.
      width: what channels and hidden units are multiples of; 64 in the sources.
    """

    outputs: int | None
    size: str = "small"
    width: int = 64

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`, in training or not.

        They need 8 pixels at least as `small`, and 63 as `imagenet`.
        """
        del train
        check_images(images, f"AlexNet of size {self.size!r}", _SMALLEST[self.size])
        hidden = images
        for place, layer in enumerate(_LAYERS[self.size], 1):
            channels, kernel, stride, padding, pooled = layer
            hidden = Convolution(
                channels * self.width, kernel, stride, padding, name=f"conv{place}"
            )(hidden)
            hidden = nn.relu(hidden)
            if pooled:
                hidden = max_pool(hidden, _POOL[self.size], 2, padding=0)
        if self.size == "small":
            return head(hidden.reshape(hidden.shape[0], -1), self.outputs)
        return dense_end(
            hidden, size=_PARTS, units=_HIDDEN * self.width, outputs=self.outputs
        )


def alexnet(*, outputs: int | None, size: str = "small", width: int = 64) -> AlexNet:
    """An `AlexNet`.

    Raises:
      ValueError: a number below 1, or an unknown `size`. Images that are too small are
        refused when the network is applied.
    """
    check_sizes(outputs, width=width)
    check_names(size=(size, SIZES))
    return AlexNet(outputs, size, width)
