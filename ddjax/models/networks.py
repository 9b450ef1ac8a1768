"""Student networks: what practitioners train on a distilled set (flax linen).

A network is applied as `network.apply(variables, inputs)`. Its variables are
`variables["params"]`, which an optimiser changes, and, where it has batch
normalisation, `variables["batch_stats"]`: running statistics, which are neither
differentiated nor decayed. In training, `network.apply(variables, inputs, train=True,
mutable=["batch_stats"])` normalises by the batch and returns the outputs and the new
statistics. Weights have the dtype of the inputs that the network was made for.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.kernels._rows import check_floats
from ddjax.kernels.convolution import convolve

__all__ = [
    "NETWORKS",
    "NORMS",
    "ConvNet",
    "FullyConnected",
    "convnet",
    "fully_connected",
]

NORMS = ("instance", "batch")
"""How a `ConvNet` normalises what its convolutions make."""

_EPSILON = 1e-5
_BATCH_MOMENTUM = 0.1


def _uniform(fan_in: int) -> Callable[..., Array]:
    """Draws weights and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    The protocols' learning rates were found with this initialisation.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def _dense(inputs: Float[Array, "n d"], outputs: int) -> Float[Array, "n k"]:
    init = _uniform(inputs.shape[1])
    return nn.Dense(
        outputs, kernel_init=init, bias_init=init, param_dtype=inputs.dtype
    )(inputs)


class _Convolution(nn.Module):
    """A 3 x 3 convolution that keeps the size, fast to differentiate in a loop."""

    width: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"]) -> Float[Array, "n h w k"]:
        channels, dtype = images.shape[-1], images.dtype
        init = _uniform(9 * channels)
        kernel = self.param("kernel", init, (3, 3, channels, self.width), dtype)
        bias = self.param("bias", init, (self.width,), dtype)
        return convolve(images, kernel) + bias.reshape(1, 1, 1, -1)


class _BatchNorm(nn.Module):
    """Batch normalisation; flax's own has running statistics in float32 only."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w k"], train: bool
    ) -> Float[Array, "n h w k"]:
        shape, dtype = images.shape[-1:], images.dtype
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        mean, variance = running_mean.value, running_var.value
        if train:
            mean, variance = images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2))
            if not self.is_initializing():
                count = images.size // images.shape[-1]
                unbiased = variance * (count / max(count - 1, 1))
                running_mean.value = _moved(running_mean.value, mean)
                running_var.value = _moved(running_var.value, unbiased)
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        mean, factor, bias = (
            each.reshape(1, 1, 1, -1) for each in (mean, factor, bias)
        )
        return (images - mean) * factor + bias


def _moved(running: Float[Array, " k"], batch: Float[Array, " k"]) -> Array:
    return (1 - _BATCH_MOMENTUM) * running + _BATCH_MOMENTUM * batch


def _average_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    total = nn.pooling.pool(
        images, 0.0, jax.lax.add, window_shape=(2, 2), strides=(2, 2), padding="VALID"
    )
    return total / 4.0


class ConvNet(nn.Module):
    """The "ConvNet-D" of the dataset-condensation line of work.

    D blocks of 3 x 3 convolution, normalisation of each channel, ReLU and 2 x 2 average
    pooling, then a linear head on the flattened result. Each channel has a learned
    scale and shift behind its normalisation, which is by mean and variance over

    - `instance`: the pixels of one image (GroupNorm with one channel a group);
    - `batch`: the pixels of all images of the batch in training, and otherwise the
      running statistics, of which a training step keeps 0.9 and takes 0.1 from its
      batch (the unbiased variance, as PyTorch does).

    Both add 1e-5 to the variance.

    Source: Zhao, Mopuri & Bilen, "Dataset Condensation with Gradient Matching"
    (ICLR 2021), section 4.1, after Gidaris & Komodakis (2018), with `instance`. With
    depth 3, width 128, 32 x 32 x 3 images and 10 classes it has 320 010 parameters.

    Attributes:
      outputs: number of output units.
      depth: number of blocks D.
      width: channels of each convolution.
      first_padding: zero padding of the first convolution; 1 keeps the size, 3 turns
        28 x 28 into 32 x 32 (what the source does with single-channel images).
      norm: one of `NORMS`.
    """

    outputs: int
    depth: int = 3
    width: int = 128
    first_padding: int = 1
    norm: str = "instance"

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of images `(n, h, w, c)`.

        Args:
          images: preprocessed.
          train: whether `batch` normalises by this batch and updates the running
            statistics; makes no difference to `instance`.
        """
        check_floats(images)
        self._check(images.shape)
        margin = (self.first_padding - 1,) * 2
        hidden = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        for _ in range(self.depth):
            hidden = _Convolution(self.width)(hidden)
            hidden = _average_pool(nn.relu(self._normalized(hidden, train)))
        return _dense(hidden.reshape(hidden.shape[0], -1), self.outputs)

    def _normalized(
        self, hidden: Float[Array, "n h w k"], train: bool
    ) -> Float[Array, "n h w k"]:
        if self.norm == "batch":
            return _BatchNorm()(hidden, train)
        # In the dtype of what it is given, which float64 under strict promotion needs.
        return nn.GroupNorm(
            num_groups=self.width,
            epsilon=_EPSILON,
            param_dtype=hidden.dtype,
            force_float32_reductions=False,
        )(hidden)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4:
            raise ValueError(
                "ConvNet takes images (n, height, width, channels), got an array of "
                f"shape {shape}; use fully_connected for feature vectors"
            )
        smallest = min(shape[1], shape[2]) + 2 * (self.first_padding - 1)
        if smallest < 2**self.depth:
            deepest = max(0, smallest.bit_length() - 1)
            raise ValueError(
                f"images of {shape[1]} x {shape[2]} are too small for depth "
                f"{self.depth}: each block halves them; the largest depth is {deepest}"
            )


class FullyConnected(nn.Module):
    """A ReLU network over flattened inputs: `depth` dense layers, the head included.

    Source: the "MLP" of the dataset-condensation line of work has depth 3 and width
    128, that is two hidden layers of 128 units and a head.

    Attributes:
      outputs: number of output units.
      depth: number of dense layers, the head included; 1 is a linear model.
      width: units of each hidden layer.
    """

    outputs: int
    depth: int = 3
    width: int = 128

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Float[Array, "n k"]:
        """Outputs for a batch of inputs of any shape, in training or not."""
        del train
        check_floats(inputs)
        hidden = inputs.reshape(inputs.shape[0], -1)
        for _ in range(self.depth - 1):
            hidden = nn.relu(_dense(hidden, self.width))
        return _dense(hidden, self.outputs)


def convnet(
    *,
    outputs: int,
    depth: int = 3,
    width: int = 128,
    first_padding: int = 1,
    norm: str = "instance",
) -> ConvNet:
    """A `ConvNet`.

    Raises:
      ValueError: a size below 1, or an unknown `norm`. Images too small for the depth
        are refused when the network is applied.
    """
    _check_sizes(outputs=outputs, depth=depth, width=width, first_padding=first_padding)
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; known: {', '.join(NORMS)}")
    return ConvNet(outputs, depth, width, first_padding, norm)


def fully_connected(
    *, outputs: int, depth: int = 3, width: int = 128
) -> FullyConnected:
    """A `FullyConnected` network.

    Raises:
      ValueError: a size below 1.
    """
    _check_sizes(outputs=outputs, depth=depth, width=width)
    return FullyConnected(outputs, depth, width)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "fully_connected": fully_connected,
}
"""Student networks by name; each factory takes `outputs` and its own sizes."""
