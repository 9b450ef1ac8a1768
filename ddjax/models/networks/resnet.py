"""ResNet-18: residual networks of two 3 x 3 convolutions a block."""

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
    head,
    max_pool,
    normalized,
)

__all__ = ["ResNet", "resnet18"]


class _Block(nn.Module):
    """relu(N(conv(relu(N(conv(x))))) + shortcut(x)) with norms N.

    The shortcut is the identity, or a 1 x 1 convolution with a norm where the shape
    changes.
    """

    width: int
    stride: int
    norm: str

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool
    ) -> Float[Array, "n h2 w2 k"]:
        width, stride = self.width, self.stride
        hidden = Convolution(width, stride=stride, bias=False, name="conv1")(images)
        hidden = nn.relu(normalized(hidden, self.norm, train, "norm1"))
        hidden = Convolution(width, bias=False, name="conv2")(hidden)
        hidden = normalized(hidden, self.norm, train, "norm2")
        if stride != 1 or images.shape[-1] != width:
            images = Convolution(
                width, kernel=1, stride=stride, bias=False, name="shortcut_conv"
            )(images)
            images = normalized(images, self.norm, train, "shortcut_norm")
        return nn.relu(hidden + images)


class ResNet(nn.Module):
    """A residual network of basic blocks; the features are the last map's mean.

    Each stage but the first starts with stride 2 and has twice the channels of the one
    before it.

    - `imagenet`: 7 x 7 convolution with stride 2, norm, ReLU, 3 x 3 max-pooling with
      stride 2, then the stages. ResNet-18 has 11 689 512 parameters with 1000 outputs.
    - `small`: a 3 x 3 convolution with stride 1, norm and ReLU in front of the stages.
      ResNet-18 has 11 173 962 parameters with 10 outputs.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), Table
    1, with 1 x 1 convolutions in the shortcuts that change the shape (its option B).

    Attributes:
      outputs: number of output units; None for none: features, `8 width` of them with
        four stages.
      size: one of `SIZES`.
      width: channels of the first convolution and of the first stage.
      norm: one of `NORMS`.
      depths: blocks of each stage.
    """

    outputs: int | None
    size: str = "small"
    width: int = 64
    norm: str = "batch"
    depths: tuple[int, ...] = (2, 2, 2, 2)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`, of 8 pixels at least."""
        check_images(images, "ResNet", 8)
        small = self.size == "small"
        kernel, stride = (3, 1) if small else (7, 2)
        stem = Convolution(self.width, kernel, stride, bias=False, name="conv")
        hidden = nn.relu(normalized(stem(images), self.norm, train, "norm"))
        if not small:
            hidden = max_pool(hidden)
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                width = self.width * 2**stage
                hidden = _Block(width, stride, self.norm, name=name)(hidden, train)
        return head(jnp.mean(hidden, axis=(1, 2)), self.outputs)


def resnet18(
    *,
    outputs: int | None,
    size: str = "small",
    width: int = 64,
    norm: str = "batch",
) -> ResNet:
    """A `ResNet` with 18 layers of weights.

    Raises:
      ValueError: a number below 1, an unknown `size` or `norm`. Images of fewer than 8
        pixels, and with `norm="instance"` those that shrink to one pixel, are refused
        when the network is applied.
    """
    check_sizes(outputs, width=width)
    check_names(size=(size, SIZES), norm=(norm, NORMS))
    return ResNet(outputs, size, width, norm)
