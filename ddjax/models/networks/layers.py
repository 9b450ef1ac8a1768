"""What the families of networks share: layers, checks of sizes and of images.

Convolutions go through `ddjax.models.encoders.layers`, whose derivatives are fast on
CPU, in compiled loops as well; there they have derivatives in reverse mode only.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ddjax.checks import check_counts
from ddjax.kernels._rows import check_floats
from ddjax.models.encoders.layers import (
    at_least_single,
    convolution,
    depthwise,
    max_pool,
)

__all__ = [
    "NORMS",
    "SIZES",
    "BatchNorm",
    "Convolution",
    "DepthwiseConvolution",
    "InstanceNorm",
    "adaptive_average_pool",
    "check_images",
    "check_rank",
    "check_sizes",
    "dense",
    "dense_end",
    "head",
    "max_pool",
    "normalized",
    "uniform",
]

NORMS = ("instance", "batch")
"""How a convolutional network normalises what its convolutions make.

Each channel has a learned scale and shift behind its normalisation, which is by mean
and variance over

- `instance`: the pixels of one image (GroupNorm with one channel a group);
- `batch`: the pixels of all images of the batch in training, and otherwise the running
  statistics, of which a training step keeps 0.9 and takes 0.1 from its batch (the
  unbiased variance, as PyTorch does).

Both add 1e-5 to the variance.
"""

SIZES = ("small", "imagenet")
"""What images a network is laid out for: `small` ones of 32 to 64 pixels, in the manner
of the papers on small images, or `imagenet`'s of 224 pixels, as torchvision defines it.
Either takes other sizes that are not too small."""

_EPSILON = 1e-5
_BATCH_MOMENTUM = 0.1
_NO_PADDING = ((0, 0), (0, 0))


def uniform(fan_in: int) -> Callable[..., Array]:
    """Draws weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    The protocols' learning rates were found with this initialisation, PyTorch's own.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dense(
    inputs: Float[Array, "n d"], outputs: int, name: str | None = None
) -> Float[Array, "n k"]:
    """A dense layer of the module whose `__call__` this is used in."""
    init = uniform(inputs.shape[1])
    return nn.Dense(
        outputs, kernel_init=init, bias_init=init, param_dtype=inputs.dtype, name=name
    )(inputs)


def head(features: Float[Array, "n p"], outputs: int | None) -> Float[Array, "n k"]:
    """The last dense layer, named `head`; the features themselves for None."""
    return features if outputs is None else dense(features, outputs, name="head")


class Convolution(nn.Module):
    """A convolution (cross-correlation) of images.

    Attributes:
      width: output channels.
      kernel: height and width of the kernel.
      stride: in both directions.
      padding: zeros on every side; None: half the kernel, which keeps the size.
      bias: whether a number is added to each channel.
    """

    width: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    bias: bool = True

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 k"]:
        """The maps of a batch of images."""
        channels, dtype = images.shape[-1], images.dtype
        init = uniform(self.kernel**2 * channels)
        shape = (self.kernel, self.kernel, channels, self.width)
        kernel = self.param("kernel", init, shape, dtype)
        margin = self.kernel // 2 if self.padding is None else self.padding
        margins = ((margin, margin), (margin, margin))
        if self.kernel**2 > images.shape[1] * images.shape[2]:
            # XLA would let images and kernel change places, and on CPU run that as a
            # naive loop; without padding of its own it is a matrix product there.
            images, margins = jnp.pad(images, ((0, 0), *margins, (0, 0))), _NO_PADDING
        maps = convolution(images, kernel, stride=self.stride, padding=margins)
        if not self.bias:
            return maps
        bias = self.param("bias", init, (self.width,), dtype)
        return maps + bias.reshape(1, 1, 1, -1)


class DepthwiseConvolution(nn.Module):
    """A 3 x 3 convolution of each channel with its own kernel, without bias.

    Attributes:
      stride: in both directions.
    """

    stride: int = 1

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """The maps of a batch of images."""
        shape = (3, 3, 1, images.shape[-1])
        kernel = self.param("kernel", uniform(9), shape, images.dtype)
        return depthwise(
            images,
            kernel[:, :, 0],
            stride=self.stride,
            padding=((1, 1), (1, 1)),
        )


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis: `batch` of `NORMS`.

    Flax's own has running statistics in float32 only. Statistics are computed at least
    in float32.
    """

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "n *shape k"], train: bool
    ) -> Float[Array, "n *shape k"]:
        """The normalised inputs, of the same shape and dtype."""
        shape, dtype = inputs.shape[-1:], inputs.dtype
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        stored = at_least_single(dtype)
        wide = inputs.astype(stored)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, stored)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, stored)
        scale, bias = scale.astype(stored), bias.astype(stored)
        if not train:
            mean, variance = running_mean.value, running_var.value
            return _standardised(wide, mean, variance, scale, bias).astype(dtype)
        outputs, mean, variance = _by_batch(wide, scale, bias)
        if not self.is_initializing():
            count = inputs.size // inputs.shape[-1]
            unbiased = variance * (count / max(count - 1, 1))
            running_mean.value = _running_average(running_mean.value, mean)
            running_var.value = _running_average(running_var.value, unbiased)
        return outputs.astype(dtype)


@jax.custom_vjp
def _by_batch(inputs: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Inputs normalised by mean and variance of their batch, and these two.

    Written with its derivative, which takes two passes over the batch where JAX's own
    takes several.
    """
    rows = tuple(range(inputs.ndim - 1))
    mean, variance = inputs.mean(axis=rows), inputs.var(axis=rows)
    return _standardised(inputs, mean, variance, scale, bias), mean, variance


def _by_batch_forward(
    inputs: Array, scale: Array, bias: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
    found = _by_batch(inputs, scale, bias)
    return found, (inputs, scale, *found[1:])


def _by_batch_backward(
    saved: tuple[Array, Array, Array, Array], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    inputs, scale, mean, variance = saved
    gradient, of_mean, of_variance = gradients
    rows = tuple(range(inputs.ndim - 1))
    centred = inputs - _per_channel(mean, inputs)
    factor = jax.lax.rsqrt(variance + _EPSILON)
    of_bias = jnp.sum(gradient, axis=rows)
    of_scale = jnp.sum(gradient * centred, axis=rows) * factor
    count = inputs.size // inputs.shape[-1]
    slope = scale * factor
    level = (of_mean - slope * of_bias) / count
    tilt = (2 * of_variance - slope * factor * of_scale) / count
    of_inputs = (
        gradient * _per_channel(slope, inputs)
        + centred * _per_channel(tilt, inputs)
        + _per_channel(level, inputs)
    )
    return of_inputs, of_scale, of_bias


_by_batch.defvjp(_by_batch_forward, _by_batch_backward)


class InstanceNorm(nn.Module):
    """Instance normalisation of maps: `instance` of `NORMS`.

    The variance is the mean square less the squared mean, at least in float32. Flax's
    GroupNorm takes 1.05 to 1.3 times as long with its gradient, and 1.4 to 1.5 times
    with the second derivative that matching of gradients needs (two CPU cores).
    """

    @nn.compact
    def __call__(self, maps: Float[Array, "n h w k"]) -> Float[Array, "n h w k"]:
        """The normalised maps, of the same dtype."""
        shape, dtype = maps.shape[-1:], maps.dtype
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        wide = maps.astype(at_least_single(dtype))
        mean, square = (
            each.mean(axis=(1, 2), keepdims=True) for each in (wide, jnp.square(wide))
        )
        variance = jnp.maximum(0.0, square - jnp.square(mean))
        scale, bias = scale.astype(wide.dtype), bias.astype(wide.dtype)
        return _standardised(wide, mean, variance, scale, bias).astype(dtype)


def _standardised(
    inputs: Array, mean: Array, variance: Array, scale: Array, bias: Array
) -> Array:
    mean, variance, scale, bias = (
        _per_channel(each, inputs) for each in (mean, variance, scale, bias)
    )
    factor = jax.lax.rsqrt(variance + _EPSILON) * scale
    return (inputs - mean) * factor + bias


def _per_channel(values: Array, inputs: Array) -> Array:
    """One number a channel, in the shape that inputs (channels last) broadcast with."""
    ones = (1,) * (inputs.ndim - 1)
    return values.reshape(*ones, -1) if values.ndim == 1 else values


def _running_average(running: Float[Array, " k"], batch: Float[Array, " k"]) -> Array:
    added = _BATCH_MOMENTUM * batch
    return (1 - _BATCH_MOMENTUM) * running + added.astype(running.dtype)


def normalized(
    maps: Float[Array, "n h w k"], norm: str, train: bool, name: str
) -> Float[Array, "n h w k"]:
    """Maps behind one of `NORMS`, or as they are for `none`.

    Used in the `__call__` of a module, which gets the norm's weights under `name`.

    Raises:
      ValueError: instance normalisation of a single pixel, which is always zero.
    """
    if norm == "none":
        return maps
    if norm == "batch":
        return BatchNorm(name=name)(maps, train)
    if maps.shape[1] * maps.shape[2] == 1:
        raise ValueError(
            f"{name}: norm 'instance' over maps of 1 x 1 pixels leaves nothing of "
            "them; give larger images, or norm='batch'"
        )
    return InstanceNorm(name=name)(maps)


def adaptive_average_pool(
    maps: Float[Array, "n h w k"], size: int
) -> Float[Array, "n size size k"]:
    """Means over `size` x `size` parts of the maps, whatever the size of these.

    Part i of s covers rows floor(i h / s) to ceil((i + 1) h / s), as PyTorch has it;
    neighbours share a row where s does not divide h.
    """
    if maps.shape[1:3] == (size, size):
        return maps
    rows, columns = (
        _pooling_weights(length, size, maps.dtype) for length in maps.shape[1:3]
    )
    return jnp.einsum("ih,jw,nhwk->nijk", rows, columns, maps)


def dense_end(
    maps: Float[Array, "n h w k"], *, size: int, units: int, outputs: int | None
) -> Float[Array, "n _"]:
    """The end of the `imagenet` variants of VGG and AlexNet, and their head.

    The maps, averaged to `size` x `size`, are flattened (channels last), and two dense
    layers with ReLU make the features.
    """
    maps = adaptive_average_pool(maps, size)
    features = maps.reshape(maps.shape[0], -1)
    for name in ("dense1", "dense2"):
        features = nn.relu(dense(features, units, name))
    return head(features, outputs)


def _pooling_weights(length: int, size: int, dtype: Any) -> Float[Array, "size length"]:
    """The matrix that averages an axis of `length` pixels down to `size`."""
    shares = np.zeros((size, length))
    for part in range(size):
        first, last = part * length // size, -(-(part + 1) * length // size)
        shares[part, first:last] = 1 / (last - first)
    return jnp.asarray(shares, dtype)


def check_images(images: Any, network: str, smallest: int) -> None:
    """Raises for what a network named so cannot take.

    Raises:
      ValueError: inputs that are no floating numbers, not of shape `(n, height, width,
        channels)`, or with fewer than `smallest` pixels on a side.
    """
    check_floats(images)
    check_rank(images, network)
    if min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"images of {images.shape[1]} x {images.shape[2]} are too small for "
            f"{network}: each side needs at least {smallest} pixels"
        )


def check_sizes(outputs: int | None, **sizes: int) -> None:
    """Raises ValueError for a number below 1; only `outputs` may be None: features."""
    check_counts(outputs=outputs)
    check_counts(required=True, **sizes)


def check_rank(images: Any, network: str) -> None:
    """Raises ValueError for inputs that are not `(n, height, width, channels)`."""
    if len(images.shape) != 4:
        raise ValueError(
            f"{network} takes images (n, height, width, channels), got an array of "
            f"shape {images.shape}; use fully_connected for feature vectors"
        )
