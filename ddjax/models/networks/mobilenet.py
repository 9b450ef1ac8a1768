"""MobileNetV2: inverted residuals with depthwise convolutions."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.checks import check_names
from ddjax.models.encoders.layers import relu6
from ddjax.models.encoders.mobile import MOBILENETV2, Stage
from ddjax.models.networks.layers import (
    SIZES,
    BatchNorm,
    Convolution,
    DepthwiseConvolution,
    check_images,
    check_sizes,
    head,
)

__all__ = ["MobileNetV2", "mobilenetv2"]

_WIDTH = MOBILENETV2.stem


class _InvertedResidual(nn.Module):
    """1 x 1 expansion, depthwise 3 x 3, 1 x 1 projection, each with batch norm.

    ReLU6 behind the first two; there is no expansion where it would be by 1, and the
    input is added where the shape stays.
    """

    width: int
    expansion: int
    stride: int

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool
    ) -> Float[Array, "n h2 w2 k"]:
        channels = images.shape[-1]
        hidden = images
        if self.expansion != 1:
            inside = self.expansion * channels
            hidden = Convolution(inside, kernel=1, bias=False, name="expand")(hidden)
            hidden = relu6(BatchNorm(name="expand_norm")(hidden, train))
        hidden = DepthwiseConvolution(self.stride, name="depthwise")(hidden)
        hidden = relu6(BatchNorm(name="depthwise_norm")(hidden, train))
        hidden = Convolution(self.width, kernel=1, bias=False, name="project")(hidden)
        hidden = BatchNorm(name="project_norm")(hidden, train)
        return images + hidden if hidden.shape == images.shape else hidden


class MobileNetV2(nn.Module):
    """Inverted residuals with linear bottlenecks; features are the last map's mean.

    - `imagenet`: 3 504 872 parameters with 1000 outputs.
    - `small`: the first convolution and the second stage have stride 1 in place of 2,
      so that 32 x 32 pixels end in a map of 4 x 4; the weights are of the same shapes.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
    (CVPR 2018), Table 2. Without dropout; batch normalisation is part of it.

    Attributes:
      outputs: number of output units; None for none: features, `40 width` of them.
      size: one of `SIZES`.
      width: channels of the first convolution, 32 in the source; a multiple of 4, which
        the others are in proportion to.
      stages: the stages of blocks, for width 32 and `imagenet`.
    """

    outputs: int | None
    size: str = "small"
    width: int = _WIDTH
    stages: tuple[Stage, ...] = MOBILENETV2.stages

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`, of 8 pixels at least."""
        check_images(images, "MobileNetV2", 8)
        small = self.size == "small"
        stem = Convolution(
            self.width, stride=1 if small else 2, bias=False, name="conv"
        )
        hidden = relu6(BatchNorm(name="norm")(stem(images), train))
        for place, stage in enumerate(self.stages, 1):
            for block in range(stage.repeats):
                # The second stage is the first that halves.
                halves = block == 0 and not (small and place == 2)
                hidden = _InvertedResidual(
                    self._channels(stage.outputs),
                    stage.expansion,
                    stage.stride if halves else 1,
                    name=f"stage{place}_block{block + 1}",
                )(hidden, train)
        last = Convolution(
            self._channels(MOBILENETV2.head), kernel=1, bias=False, name="last_conv"
        )
        hidden = relu6(BatchNorm(name="last_norm")(last(hidden), train))
        return head(jnp.mean(hidden, axis=(1, 2)), self.outputs)

    def _channels(self, of_source: int) -> int:
        return of_source * self.width // _WIDTH


def mobilenetv2(
    *, outputs: int | None, size: str = "small", width: int = _WIDTH
) -> MobileNetV2:
    """A `MobileNetV2`.

    Raises:
      ValueError: a number below 1, a `width` that is no multiple of 4, or an unknown
        `size`. Images of fewer than 8 pixels are refused when the network is applied.
    """
    check_sizes(outputs, width=width)
    if width % 4:
        raise ValueError(f"width must be a multiple of 4, got {width}")
    check_names(size=(size, SIZES))
    return MobileNetV2(outputs, size, width)
