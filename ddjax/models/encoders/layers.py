r"""Convolutions of frozen networks, fast to differentiate with respect to the pixels.

XLA's CPU compiler runs grouped convolutions, their derivatives, and the derivatives of
every convolution inside compiled loops as naive loops. On CPU they are therefore
written here as what it does well: sums of shifted images for depthwise convolutions,

.. math::
    y_{uvc} = \sum_{ij} w_{ijc} \, x_{su + i, sv + j, c}, \qquad
    \bar x = \mathrm{dilate}_s(\bar y) * \mathrm{flip}(w),

and matrix products of patches for the others. Elsewhere than on CPU the ordinary
convolution is used. Images and kernels are channels last.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ddjax.kernels.convolution import convolve as convolve_same
from ddjax.kernels.convolution import product_of_patches, shifts

__all__ = [
    "Layer",
    "Padding",
    "at_least_single",
    "convolution",
    "convolved",
    "depthwise",
    "folded",
    "layer_shapes",
    "max_pool",
    "relu6",
    "same_padding",
]

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after, for height and for width."""


class Layer(NamedTuple):
    """A convolution without bias and the batch norm behind it.

    Attributes:
      convolution: prefix of the convolution's name.
      norm: prefix of the batch norm's name.
      shape: output channels, input channels (1: depthwise), height and width.
      stride: in both directions.
    """

    convolution: str
    norm: str
    shape: tuple[int, int, int, int]
    stride: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a kernel of its own."""
        return self.shape[1] == 1


def layer_shapes(layers: Iterable[Layer]) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of these layers by name."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        found[f"{layer.convolution}.weight"] = layer.shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{layer.norm}.{name}"] = layer.shape[:1]
    return found


def same_padding(shape: tuple[int, ...], kernel: int, stride: int) -> Padding:
    """TensorFlow's `SAME`: ceil(size / stride) outputs, the odd zero at the end.

    Args:
      shape: of images `(n, h, w, c)`.
      kernel: height and width of the kernel.
      stride: the stride.
    """

    def margins(size: int) -> tuple[int, int]:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    return margins(shape[1]), margins(shape[2])


def convolution(
    images: Float[Array, "n h w c"],
    kernels: Float[Array, "k l c d"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "n h2 w2 d"]:
    """Convolution (cross-correlation); reverse mode only on CPU.

    Args:
      images: channels last.
      kernels: height and width of the kernel, input channels, output channels.
      stride: in both directions.
      padding: zeros around the images.
    """
    size = kernels.shape[:2]
    if size == (1, 1):
        strided = _padded(images, padding)[:, ::stride, ::stride]
        return jnp.einsum("nhwc,cd->nhwd", strided, kernels[0, 0])
    if jax.default_backend() != "cpu":
        return _ordinary(images, kernels, stride, padding, groups=1)
    middle = tuple((length // 2, length // 2) for length in size)
    if stride == 1 and padding == middle and all(length % 2 for length in size):
        return convolve_same(images, kernels)
    return product_of_patches(_padded(images, padding), kernels, stride)


def depthwise(
    images: Float[Array, "n h w c"],
    kernels: Float[Array, "k l c"],
    *,
    stride: int = 1,
    padding: Padding = ((0, 0), (0, 0)),
) -> Float[Array, "n h2 w2 c"]:
    """`convolution` of each channel with its own kernel; reverse mode only on CPU."""
    if jax.default_backend() != "cpu":
        return _ordinary(
            images, kernels[:, :, None], stride, padding, groups=images.shape[-1]
        )
    return _depthwise(_padded(images, padding), kernels, stride)


def _ordinary(
    images: Array, kernels: Array, stride: int, padding: Padding, *, groups: int
) -> Array:
    return lax.conv_general_dilated(
        images,
        kernels,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _padded(images: Array, padding: Padding) -> Array:
    return jnp.pad(images, ((0, 0), *padding, (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(images: Array, kernels: Array, stride: int) -> Array:
    flat = kernels.reshape(-1, kernels.shape[-1])
    shifted = shifts(images, kernels.shape[:2], stride)
    products = [x * w.reshape(1, 1, 1, -1) for x, w in zip(shifted, flat, strict=True)]
    return functools.reduce(jnp.add, products)


def _forward(
    images: Array, kernels: Array, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(images, kernels, stride), (images, kernels)


def _backward(
    stride: int, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernels = saved
    # Dilated by the stride, with all the room that the flipped kernel needs; rows and
    # columns that no output saw lie at the end.
    margins = [(0, 0, 0)]
    for axis in (1, 2):
        before = kernels.shape[axis - 1] - 1
        length = (gradient.shape[axis] - 1) * stride + 1
        margins.append((before, images.shape[axis] - length, stride - 1))
    zero = jnp.zeros((), gradient.dtype)
    dilated = lax.pad(gradient, zero, [*margins, (0, 0, 0)])
    of_images: Any = _depthwise(dilated, kernels[::-1, ::-1], 1)
    shifted = shifts(images, kernels.shape[:2], stride)
    of_kernels = jnp.stack([jnp.sum(x * gradient, axis=(0, 1, 2)) for x in shifted])
    return of_images, of_kernels.reshape(kernels.shape)


_depthwise.defvjp(_forward, _backward)


def folded(
    arrays: Mapping[str, np.ndarray], layers: Iterable[Layer], *, epsilon: float
) -> dict[str, np.ndarray]:
    r"""Convolutions with the stored statistics of the batch norms behind them.

    .. math::
        w' = w \gamma / \sqrt{\sigma^2 + \epsilon}, \qquad
        b' = \beta - \mu \gamma / \sqrt{\sigma^2 + \epsilon} ,

    in float64, the kernels `(height, width, inputs, outputs)`.

    Args:
      arrays: the weights by name, as `layer_shapes` lists them.
      layers: which.
      epsilon: what is added to the variance.
    """
    found: dict[str, np.ndarray] = {}
    for layer in layers:
        scale, shift, mean, variance = (
            arrays[f"{layer.norm}.{name}"].astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + epsilon)
        weights = arrays[f"{layer.convolution}.weight"].astype(np.float64)
        kernels = (weights * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        if layer.is_depthwise:
            kernels = kernels[:, :, 0]
        found[f"{layer.convolution}.kernels"] = kernels
        found[f"{layer.convolution}.bias"] = shift - mean * scale
    return found


def convolved(
    params: dict[str, Array],
    images: Float[Array, "n h w k"],
    layer: Layer,
    *,
    padding: Padding | None = None,
) -> Float[Array, "n h2 w2 d"]:
    """One layer.

    Args:
      params: as `folded` leaves them.
      images: channels last.
      layer: which.
      padding: zeros around the images; None: half the kernel on every side.
    """
    half = layer.shape[-1] // 2
    zeros = ((half, half), (half, half)) if padding is None else padding
    convolve = depthwise if layer.is_depthwise else convolution
    kernels, bias = (params[f"{layer.convolution}.{x}"] for x in ("kernels", "bias"))
    seen = convolve(images, kernels, stride=layer.stride, padding=zeros)
    return seen + bias.reshape(1, 1, 1, -1)


def max_pool(
    images: Float[Array, "n h w c"], window: int = 3, stride: int = 2, padding: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """The largest of each window, as a maximum of shifted images.

    On CPU its derivative takes an eighth of the time of that of XLA's own pooling.

    Args:
      images: without negative numbers, as a ReLU leaves them, where they are padded.
      window: rows and columns of a window.
      stride: from one window to the next.
      padding: zeros on every side.
    """
    padded = _padded(images, ((padding, padding), (padding, padding)))
    return functools.reduce(jnp.maximum, shifts(padded, (window, window), stride))


def at_least_single(dtype: Any) -> np.dtype:
    """float64 for float64, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


@jax.custom_jvp
def relu6(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """min(max(x, 0), 6), with derivative 0 at 0 and at 6 as PyTorch has it."""
    return jnp.clip(values, 0, 6)


@relu6.defjvp
def _relu6_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (values,), (tangent,) = primals, tangents
    inside = (values > 0) & (values < 6)
    return relu6(values), jnp.where(inside, tangent, jnp.zeros_like(tangent))
