"""Residual networks of bottlenecks: ResNet-50 in torchvision's layout.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), Table 1,
with the stride at the 3 x 3 convolution of a block, as torchvision and timm have it.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.models.encoders.layers import (
    Layer,
    convolved,
    folded,
    layer_shapes,
    max_pool,
)

__all__ = ["RESNET50", "ResNetSpec", "apply", "prepared", "shapes"]

_EPSILON = 1e-5
_EXPANSION = 4


class ResNetSpec(NamedTuple):
    """A residual network of bottlenecks.

    Attributes:
      stem: channels of the first convolution.
      depths: number of blocks of each stage.
      widths: channels inside the blocks of each stage; four times as many between.
    """

    stem: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]


RESNET50 = ResNetSpec(stem=64, depths=(3, 4, 6, 3), widths=(64, 128, 256, 512))


class _Block(NamedTuple):
    layers: tuple[Layer, Layer, Layer]
    shortcut: Layer | None


def _stem(spec: ResNetSpec) -> Layer:
    return Layer("conv1", "bn1", (spec.stem, 3, 7, 7), 2)


def _blocks(spec: ResNetSpec) -> list[_Block]:
    blocks, inputs = [], spec.stem
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        outputs = _EXPANSION * width
        for block in range(depth):
            prefix = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            sizes = (
                ((width, inputs, 1, 1), 1),
                ((width, width, 3, 3), stride),
                ((outputs, width, 1, 1), 1),
            )
            first, second, third = (
                Layer(f"{prefix}.conv{place}", f"{prefix}.bn{place}", *size)
                for place, size in enumerate(sizes, 1)
            )
            shortcut = None
            if stride != 1 or inputs != outputs:
                names = f"{prefix}.downsample.0", f"{prefix}.downsample.1"
                shortcut = Layer(*names, (outputs, inputs, 1, 1), stride)
            blocks.append(_Block((first, second, third), shortcut))
            inputs = outputs
    return blocks


def _layers(spec: ResNetSpec) -> list[Layer]:
    blocks = _blocks(spec)
    rest = [x for block in blocks for x in (*block.layers, block.shortcut) if x]
    return [_stem(spec), *rest]


def shapes(spec: ResNetSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name."""
    return layer_shapes(_layers(spec))


def prepared(
    arrays: Mapping[str, np.ndarray], *, spec: ResNetSpec
) -> dict[str, np.ndarray]:
    """The weights, as `shapes` lists them, with the batch norms folded in."""
    return folded(arrays, _layers(spec), epsilon=_EPSILON)


def apply(
    params: dict[str, Array], images: Float[Array, "n h w 3"], *, spec: ResNetSpec
) -> Float[Array, "n p"]:
    """The last block's output, averaged over the image.

    Args:
      params: the weights, `prepared`.
      images: normalised, in the dtype of the weights.
      spec: the network.
    """
    layer = functools.partial(convolved, params)
    hidden = max_pool(jax.nn.relu(layer(images, _stem(spec))))
    for block in _blocks(spec):
        first, second, third = block.layers
        inside = jax.nn.relu(layer(hidden, first))
        inside = layer(jax.nn.relu(layer(inside, second)), third)
        shortcut = layer(hidden, block.shortcut) if block.shortcut else hidden
        hidden = jax.nn.relu(shortcut + inside)
    return jnp.mean(hidden, axis=(1, 2))
