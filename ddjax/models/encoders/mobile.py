"""Networks of inverted residuals: MobileNetV2 and EfficientNet-Lite0.

Sources: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR
2018), Table 2; Tan & Le, "EfficientNet" (ICML 2019), Table 1, with the changes that
make it Lite: ReLU6, no squeeze-and-excitation, stem and head of fixed width. The key
names are those of the published PyTorch weights; a block is the expansion, the
depthwise convolution and the projection, each with its batch norm.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.models.encoders.layers import (
    Layer,
    convolved,
    folded,
    layer_shapes,
    relu6,
    same_padding,
)
from ddjax.models.parts import a_few_at_a_time

__all__ = [
    "EFFICIENTNET_LITE0",
    "MOBILENETV2",
    "MobileSpec",
    "Stage",
    "apply",
    "prepared",
    "shapes",
]

# Their activations have fewer channels than those of the papers' ConvNets.
_PIXELS_AT_ONCE = 2**16


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
      expansion: of the channels inside a block.
      outputs: channels.
      repeats: number of blocks.
      stride: of the first block.
      kernel: height and width of the depthwise kernels.
    """

    expansion: int
    outputs: int
    repeats: int
    stride: int
    kernel: int = 3


class MobileSpec(NamedTuple):
    """A network of inverted residuals.

    Attributes:
      keys: whose key names: `mobilenetv2` or `efficientnet`.
      stem: channels behind the first convolution.
      stages: the blocks.
      head: channels of the last convolution, the feature width.
      epsilon: of the batch norms.
      tensorflow_padding: whether zeros are laid around the images as TensorFlow does,
        rather than the same number on every side.
    """

    keys: str
    stem: int
    stages: tuple[Stage, ...]
    head: int
    epsilon: float
    tensorflow_padding: bool


MOBILENETV2 = MobileSpec(
    keys="mobilenetv2",
    stem=32,
    stages=(
        Stage(1, 16, 1, 1),
        Stage(6, 24, 2, 2),
        Stage(6, 32, 3, 2),
        Stage(6, 64, 4, 2),
        Stage(6, 96, 3, 1),
        Stage(6, 160, 3, 2),
        Stage(6, 320, 1, 1),
    ),
    head=1280,
    epsilon=1e-5,
    tensorflow_padding=False,
)
EFFICIENTNET_LITE0 = MobileSpec(
    keys="efficientnet",
    stem=32,
    stages=(
        Stage(1, 16, 1, 1),
        Stage(6, 24, 2, 2),
        Stage(6, 40, 2, 2, 5),
        Stage(6, 80, 3, 2),
        Stage(6, 112, 3, 1, 5),
        Stage(6, 192, 4, 2, 5),
        Stage(6, 320, 1, 1),
    ),
    head=1280,
    epsilon=1e-3,
    tensorflow_padding=True,
)


class _Block(NamedTuple):
    expand: Layer | None
    depthwise: Layer
    project: Layer
    residual: bool


def _layer_names(spec: MobileSpec, block: int, expands: bool) -> list[tuple[str, str]]:
    """Names of a block's convolutions with their batch norms, in order."""
    if spec.keys == "efficientnet":
        prefix = f"_blocks.{block}"
        names = ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1")
        names = (*names, ("_project_conv", "_bn2"))
        return [(f"{prefix}.{c}", f"{prefix}.{n}") for c, n in names[not expands :]]
    # In a sequence with the activations, which have a place but no weights.
    prefix = f"features.{block + 1}.conv"
    return [(f"{prefix}.{i}", f"{prefix}.{i + 1}") for i in (0, 3, 6)[: 2 + expands]]


def _stem_and_head(spec: MobileSpec) -> tuple[Layer, Layer]:
    blocks = sum(stage.repeats for stage in spec.stages)
    stem, head = ("_conv_stem", "_bn0"), ("_conv_head", "_bn1")
    if spec.keys == "mobilenetv2":
        stem = ("features.0.0", "features.0.1")
        head = (f"features.{blocks + 1}.0", f"features.{blocks + 1}.1")
    return (
        Layer(*stem, shape=(spec.stem, 3, 3, 3), stride=2),
        Layer(*head, shape=(spec.head, spec.stages[-1].outputs, 1, 1)),
    )


def _blocks(spec: MobileSpec) -> list[_Block]:
    blocks, inputs = [], spec.stem
    for stage in spec.stages:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            expanded = inputs * stage.expansion
            expands = stage.expansion > 1
            *first, second, third = _layer_names(spec, len(blocks), expands)
            kernel = (stage.kernel, stage.kernel)
            blocks.append(
                _Block(
                    Layer(*first[0], (expanded, inputs, 1, 1)) if expands else None,
                    Layer(*second, (expanded, 1, *kernel), stride),
                    Layer(*third, (stage.outputs, expanded, 1, 1)),
                    residual=stride == 1 and inputs == stage.outputs,
                )
            )
            inputs = stage.outputs
    return blocks


def _layers(spec: MobileSpec) -> list[Layer]:
    stem, head = _stem_and_head(spec)
    rest = [layer for block in _blocks(spec) for layer in block[:3] if layer]
    return [stem, *rest, head]


def shapes(spec: MobileSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name."""
    return layer_shapes(_layers(spec))


def prepared(
    arrays: Mapping[str, np.ndarray], *, spec: MobileSpec
) -> dict[str, np.ndarray]:
    """The weights, as `shapes` lists them, with the batch norms folded in."""
    return folded(arrays, _layers(spec), epsilon=spec.epsilon)


def apply(
    params: dict[str, Array], images: Float[Array, "n h w 3"], *, spec: MobileSpec
) -> Float[Array, "n p"]:
    """The last convolution's output, averaged over the image.

    Args:
      params: the weights, `prepared`.
      images: normalised, in the dtype of the weights.
      spec: the network.
    """

    def layer(images: Array, layer: Layer) -> Array:
        padding = None
        if spec.tensorflow_padding:
            padding = same_padding(images.shape, layer.shape[-1], layer.stride)
        return convolved(params, images, layer, padding=padding)

    def features(images: Array) -> Array:
        stem, head = _stem_and_head(spec)
        hidden = relu6(layer(images, stem))
        for block in _blocks(spec):
            inside = hidden
            if block.expand:
                inside = relu6(layer(inside, block.expand))
            inside = relu6(layer(inside, block.depthwise))
            inside = layer(inside, block.project)
            hidden = hidden + inside if block.residual else inside
        return jnp.mean(relu6(layer(hidden, head)), axis=(1, 2))

    return a_few_at_a_time(features, images, pixels=_PIXELS_AT_ONCE)
