"""Vision transformers: the blocks of `ddjax.models.encoders.vit`, to be trained."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from ddjax.checks import check_names
from ddjax.models.encoders import vit
from ddjax.models.networks.layers import (
    SIZES,
    check_images,
    check_sizes,
    uniform,
)

__all__ = ["VisionTransformer", "vit_small"]

_PATCH = {"small": 4, "imagenet": 16}
_normal = nn.initializers.normal(0.02)


class VisionTransformer(nn.Module):
    """Patches as tokens, blocks of self-attention and perceptrons with norms in front.

    The features are the class token behind the last layer norm. The perceptrons have
    four times the width inside, with GELU. Positions are learned, for the resolution of
    the images that the network is made for: square ones of three channels.

    - `imagenet`: patches of 16 pixels. ViT-S/16 has 22 050 664 parameters with 1000
      outputs and images of 224 pixels.
    - `small`: patches of 4 pixels.

    Weights of dense layers, positions and the class token are drawn from N(0, 0.02²),
    those of the patches as convolutions have them; biases start at 0.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); width,
    depth and heads of ViT-S are those of Touvron et al., DeiT (ICML 2021), Table 1.
    Without dropout and stochastic depth.

    Attributes:
      outputs: number of output units; None for none: features, `width` of them.
      size: one of `SIZES`.
      width: of a token; a multiple of `heads`.
      depth: number of blocks.
      heads: of the attention.
    """

    outputs: int | None
    size: str = "small"
    width: int = 384
    depth: int = 12
    heads: int = 6

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, s, s, 3)`, in training or not.

        Their sides are multiples of the patch.
        """
        del train
        patch = _PATCH[self.size]
        check_images(images, "VisionTransformer", patch)
        _check_squares(images.shape, patch)
        spec = vit.VisionTransformerSpec(
            patch=patch,
            image_size=images.shape[1],
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=4 * self.width,
        )
        params = {
            name: self.param(
                name.replace(".", "_"),
                _initializer(name, shape, patch),
                shape,
                images.dtype,
            )
            for name, shape in vit.shapes(spec).items()
        }
        features = vit.apply(params, images, spec=spec)
        if self.outputs is None:
            return features
        return nn.Dense(
            self.outputs, kernel_init=_normal, param_dtype=images.dtype, name="head"
        )(features)


def _initializer(name: str, shape: tuple[int, ...], patch: int) -> Any:
    if name.startswith("patch_embed"):
        return uniform(3 * patch**2)
    if len(shape) > 1:
        return _normal
    return nn.initializers.zeros if name.endswith("bias") else nn.initializers.ones


def _check_squares(shape: tuple[int, ...], patch: int) -> None:
    if shape[1] != shape[2] or shape[1] % patch or shape[3] != 3:
        raise ValueError(
            f"VisionTransformer takes square images of 3 channels whose side is a "
            f"multiple of its patch, {patch}; got {shape[1]} x {shape[2]} x {shape[3]}"
        )


def vit_small(
    *,
    outputs: int | None,
    size: str = "small",
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
) -> VisionTransformer:
    """A `VisionTransformer`, by default ViT-S.

    Raises:
      ValueError: a number below 1, a `width` that is no multiple of `heads`, or an
        unknown `size`. Images of other shapes than the network takes are refused when
        it is applied.
    """
    check_sizes(outputs, width=width, depth=depth, heads=heads)
    if width % heads:
        raise ValueError(f"width {width} must be a multiple of heads, {heads}")
    check_names(size=(size, SIZES))
    return VisionTransformer(outputs, size, width, depth, heads)
