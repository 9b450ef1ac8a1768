r"""Penultimate features of finite random networks, whose Gram tends to the NNGP kernel.

The networks are in the NTK parameterisation: a layer with weights W and biases b drawn
from N(0, 1) computes

.. math::
    z = \frac{w_{std}}{\sqrt{\text{fan in}}} W h + b_{std} b, \qquad h' = \max(z, 0).

The features of N networks are concatenated and scaled so that the inner product of two
inputs' features is an average over networks and units, and therefore tends, as
1/sqrt(N width), to the analytic kernel of the last hidden activation (`features`).

Besides, random Fourier features, whose Gram tends to the Gaussian kernel
(`fourier_features`).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.kernels._rows import check_floats
from ddjax.kernels.convolution import convolve
from ddjax.kernels.precision import product

__all__ = [
    "Architecture",
    "check_architecture",
    "check_image_shape",
    "convolutional",
    "features",
    "fourier_features",
    "fully_connected",
    "init_frequencies",
    "init_networks",
]

Params = list[dict[str, Array]]


class Architecture(NamedTuple):
    """The hidden part of a ReLU network, shared by random features and exact kernels.

    Attributes:
      kind: what a layer is: `"fully_connected"` (inputs are flattened) or
        `"convolutional"` (3 x 3 kernels, stride 1, zero padding to the same size).
      depth: number of hidden layers.
      width: units, or channels, of each hidden layer.
      w_std: standard deviation of the weights before the division by sqrt(fan_in).
      b_std: standard deviation of the biases.
      pooling: `"average"`: 2 x 2 average pooling with stride 2 after each
        convolution's ReLU (an odd last row or column is dropped: 7 -> 3); or `"none"`.
      readout: how a convolutional network's last activation becomes a vector:
        `"flatten"` or `"global_average"`. Without meaning when fully connected.
    """

    kind: Literal["fully_connected", "convolutional"]
    depth: int
    width: int
    w_std: float
    b_std: float
    pooling: Literal["average", "none"]
    readout: Literal["flatten", "global_average"]


def check_architecture(architecture: Architecture) -> Architecture:
    """The architecture itself; raises for a field out of its range."""
    allowed = {
        "kind": ("fully_connected", "convolutional"),
        "pooling": ("average", "none"),
        "readout": ("flatten", "global_average"),
    }
    for field, names in allowed.items():
        value = getattr(architecture, field)
        if value not in names:
            raise ValueError(f"{field} is {value!r}, which is not one of {names}")
    for field in ("depth", "width"):
        value = getattr(architecture, field)
        if value < 1:
            raise ValueError(f"{field} is {value}, but a network needs at least 1")
    for field in ("w_std", "b_std"):
        value = getattr(architecture, field)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{field} is {value}, but must be finite and >= 0")
    return architecture


def fully_connected(
    *,
    depth: int = 3,
    width: int = 1024,
    w_std: float = math.sqrt(2.0),
    b_std: float = 0.1,
) -> Architecture:
    """A fully connected ReLU network over the flattened input.

    >>> fully_connected(depth=2, width=64).width
    64

    Args:
      depth: number of hidden layers.
      width: units of each hidden layer.
      w_std: standard deviation of the weights before the division by sqrt(fan_in).
      b_std: standard deviation of the biases.

    Raises:
      ValueError: depth or width below 1, or a negative or non-finite deviation.
    """
    return check_architecture(
        Architecture("fully_connected", depth, width, w_std, b_std, "none", "flatten")
    )


def convolutional(
    *,
    depth: int = 3,
    width: int = 256,
    w_std: float = math.sqrt(2.0),
    b_std: float = 0.1,
    pooling: Literal["average", "none"] = "average",
    readout: Literal["flatten", "global_average"] = "flatten",
) -> Architecture:
    """A convolutional ReLU network over NHWC images: 3 x 3 kernels, zero padding.

    >>> convolutional(depth=2, readout="global_average").pooling
    'average'

    Args:
      depth: number of convolutions.
      width: channels of each convolution.
      w_std: standard deviation of the weights before the division by sqrt(fan_in).
      b_std: standard deviation of the biases.
      pooling: `"average"` (2 x 2 after each ReLU) or `"none"`.
      readout: `"flatten"` or `"global_average"`.

    Raises:
      ValueError: depth or width below 1, a negative or non-finite deviation, or an
        unknown pooling or readout.
    """
    return check_architecture(
        Architecture("convolutional", depth, width, w_std, b_std, pooling, readout)
    )


def check_image_shape(architecture: Architecture, input_shape: tuple[int, ...]) -> None:
    """Raises for inputs of which a convolutional network leaves nothing."""
    if len(input_shape) != 3 or input_shape[2] < 1:
        raise ValueError(
            "a convolutional network takes images of shape (height, width, channels), "
            f"not inputs of shape {tuple(input_shape)}"
        )
    height, width, _ = input_shape
    if architecture.pooling == "average":
        height, width = height >> architecture.depth, width >> architecture.depth
    if height < 1 or width < 1:
        raise ValueError(
            f"images of {input_shape[0]} x {input_shape[1]} do not survive "
            f"{architecture.depth} halvings by pooling: use a smaller depth or "
            'pooling="none"'
        )


def init_networks(
    key: PRNGKeyArray,
    architecture: Architecture,
    *,
    input_shape: tuple[int, ...],
    networks: int,
    dtype: Any = jnp.float32,
) -> Params:
    """Draws the weights and biases of `networks` independent networks from N(0, 1).

    Args:
      key: random key.
      architecture: the network.
      input_shape: the shape of one input, without the batch axis.
      networks: how many to draw.
      dtype: floating type of the parameters.

    Returns:
      One dictionary per layer with `w`, of shape (networks, fan_in, width) or
      (networks, 3, 3, channels_in, width), and `b`, of shape (networks, width). The
      i-th network is the same whatever their number.

    Raises:
      ValueError: `networks` below 1, or an input shape that does not fit.
    """
    if networks < 1:
        raise ValueError(f"networks is {networks}, but at least 1 is needed")
    check_architecture(architecture)
    if architecture.kind == "convolutional":
        check_image_shape(architecture, input_shape)
        first, kernel = input_shape[-1], (3, 3)
    else:
        first, kernel = math.prod(input_shape), ()
    sizes = (first, *(architecture.width,) * architecture.depth)
    return _draw(key, kernel, sizes, networks, jnp.dtype(dtype))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _draw(key, kernel, sizes, networks, dtype):
    def draw_one(index: Array) -> Params:
        own, layers = jax.random.fold_in(key, index), []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            w_key, b_key = jax.random.split(jax.random.fold_in(own, layer))
            w = jax.random.normal(w_key, (*kernel, fan_in, fan_out), dtype)
            layers.append({"w": w, "b": jax.random.normal(b_key, (fan_out,), dtype)})
        return layers

    return jax.lax.map(draw_one, jnp.arange(networks))


def _average_pool(h: Array) -> Array:
    """Mean of each 2 x 2 square; as four strided slices, which XLA fuses on CPU."""
    n, height, width, channels = h.shape
    height, width = height // 2 * 2, width // 2 * 2
    corners = (
        jax.lax.slice(
            h,
            (0, row, column, 0),
            (n, row + height - 1, column + width - 1, channels),
            (1, 2, 2, 1),
        )
        for row, column in itertools.product((0, 1), repeat=2)
    )
    return 0.25 * functools.reduce(jnp.add, corners)


def _one_network(params: Params, inputs: Array, architecture: Architecture) -> Array:
    """The last activation of one network as rows, scaled by 1/sqrt(its length)."""
    h = inputs
    if architecture.kind == "fully_connected":
        h = h.reshape(h.shape[0], -1)
    for layer in params:
        w, b = layer["w"], layer["b"]
        z = h @ w if architecture.kind == "fully_connected" else convolve(h, w)
        # The scale goes to the activations: a scaled copy of the weights, kept for the
        # backward pass, would cost more than the product when the batch is small.
        scale = architecture.w_std / math.sqrt(math.prod(w.shape[:-1]))
        bias = architecture.b_std * b.reshape((1,) * (z.ndim - 1) + b.shape)
        h = jax.nn.relu(scale * z + bias)
        if architecture.pooling == "average":
            h = _average_pool(h)
    if architecture.kind == "convolutional" and architecture.readout != "flatten":
        h = h.mean(axis=(1, 2))
    h = h.reshape(h.shape[0], -1)
    return h / math.sqrt(h.shape[1])


def _check_inputs(params: Params, inputs: Array, architecture: Architecture) -> None:
    if len(params) != architecture.depth:
        raise ValueError(
            f"{len(params)} layers of parameters, but the depth is {architecture.depth}"
        )
    shape, first = inputs.shape[1:], params[0]["w"].shape[1:]
    if architecture.kind == "fully_connected":
        expected = (math.prod(shape), architecture.width)
    else:
        check_image_shape(architecture, shape)
        expected = (3, 3, shape[-1], architecture.width)
    if first != expected:
        raise ValueError(
            f"inputs of shape {shape} to a {architecture.kind} network of width "
            f"{architecture.width} need first weights of shape {expected}, not {first}"
        )


def features(
    params: Params,
    inputs: Float[Array | np.ndarray, "n ..."],
    *,
    architecture: Architecture,
    chunk: int | None = None,
) -> Float[Array, "n p"]:
    r"""Features of N random networks: concatenated last activations, scaled.

    With h_k(x) the last hidden activation of network k (after its ReLU and pooling, and
    after flattening or global averaging) and q its length,

    .. math::
        \phi(x) = \frac{1}{\sqrt{N q}} [h_1(x), \dots, h_N(x)], \qquad
        \phi(x)^\top \phi(x') \to K(x, x'),

    where K is the NNGP kernel of the hidden part. The kernel of the network with
    its dense readout is :math:`w_{std}^2 K + b_{std}^2`; the readout adds nothing else.
    For `"flatten"`, K is the mean over positions s of the activations' covariance
    between (x, s) and (x', s); for `"global_average"`, the mean over all pairs of
    positions. The error falls as 1/sqrt(N width).

    Args:
      params: from `init_networks`; every leaf has a leading axis of N networks.
      inputs: inputs of the shape the networks were drawn for.
      architecture: the network.
      chunk: how many networks are evaluated at once, the others waiting their turn in a
        `lax.map`; bounds the memory and does not change the result. By default 1 on
        CPU, where that is also fastest, and elsewhere all of them when fully connected,
        1 when convolutional.

    Returns:
      Features, p = N q, network by network.

    Raises:
      ValueError: `chunk` below 1, or inputs that do not fit the parameters or are no
        floats.
    """
    inputs = jnp.asarray(inputs)
    check_floats(inputs)
    _check_inputs(params, inputs, architecture)
    networks = params[0]["b"].shape[0]
    if chunk is None:
        one_by_one = architecture.kind == "convolutional"
        chunk = 1 if one_by_one or jax.default_backend() == "cpu" else networks
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, but at least 1 network runs at once")
    return _features(params, inputs, architecture, min(chunk, networks))


# What a convolution writes at once on CPU: as much as stays in the cache. With 256
# channels and 256 images of 32 x 32, 1.4 times faster than all at once (32 MB: 1.3).
_CACHED_BYTES = 2**23


def _images_at_once(architecture: Architecture, inputs: Array) -> int:
    if architecture.kind == "fully_connected" or jax.default_backend() != "cpu":
        return inputs.shape[0]
    positions = math.prod(inputs.shape[1:3])
    image = positions * architecture.width * inputs.dtype.itemsize
    return max(1, min(inputs.shape[0], _CACHED_BYTES // image))


def _in_groups(function: Callable[[Array], Array], inputs: Array, size: int) -> Array:
    """Rows of `function(inputs)`, in equal groups of at most `size`, one by one."""
    n = inputs.shape[0]
    groups = -(-n // size)
    if groups <= 1:
        return function(inputs)
    size = -(-n // groups)
    padding = [(0, groups * size - n)] + [(0, 0)] * (inputs.ndim - 1)
    padded = jnp.pad(inputs, padding).reshape(groups, size, *inputs.shape[1:])
    return jax.lax.map(function, padded).reshape(groups * size, -1)[:n]


@functools.partial(jax.jit, static_argnums=(2, 3))
def _features(params, inputs, architecture, chunk):
    size = _images_at_once(architecture, inputs)

    def one(params_one: Params) -> Array:
        return _in_groups(
            lambda rows: _one_network(params_one, rows, architecture), inputs, size
        )

    networks = params[0]["b"].shape[0]
    if chunk == networks > 1:
        rows = jax.vmap(one)(params)
    else:
        rows = jax.lax.map(one, params, batch_size=chunk if chunk > 1 else None)
    rows = jnp.swapaxes(rows, 0, 1) / math.sqrt(networks)
    return rows.reshape(rows.shape[0], -1)


# Random Fourier features.


def init_frequencies(
    key: PRNGKeyArray, *, size: int, frequencies: int, dtype: Any = jnp.float32
) -> Float[Array, "k d"]:
    """Draws `frequencies` directions from N(0, I), one a row.

    Args:
      key: random key.
      size: entries of one input, flattened.
      frequencies: how many to draw; the i-th is the same whatever their number.
      dtype: floating type.

    Raises:
      ValueError: `size` or `frequencies` below 1.
    """
    for name, value in (("size", size), ("frequencies", frequencies)):
        if value < 1:
            raise ValueError(f"{name} is {value}, but at least 1 is needed")
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(frequencies))
    return jax.vmap(lambda one: jax.random.normal(one, (size,), dtype))(keys)


def fourier_features(
    frequencies: Float[Array, "k d"],
    inputs: Float[Array | np.ndarray, "n ..."],
    *,
    length_scale: float,
) -> Float[Array, "n p"]:
    r"""Random Fourier features of the Gaussian kernel, p = 2 k.

    .. math::
        \phi(x) = \frac{1}{\sqrt{k}} \big[\cos(\omega_j^\top x / \ell),
          \sin(\omega_j^\top x / \ell)\big]_{j \le k}, \qquad
        \phi(x)^\top \phi(x') \to \exp\Big(-\frac{\lVert x - x' \rVert^2}
          {2 \ell^2}\Big),

    with an error that falls as 1/sqrt(k). All features have the norm 1.

    >>> rows = fourier_features(jnp.ones((3, 2)), jnp.zeros((1, 2)), length_scale=1.0)
    >>> print((rows @ rows.T).round(4))
    [[1.]]

    Args:
      frequencies: from `init_frequencies`.
      inputs: (n, ...), d entries each.
      length_scale: of the kernel, > 0, in the units of the inputs.

    Returns:
      All cosines, then all sines.

    Raises:
      ValueError: inputs of another size, or a length scale that is not > 0.

    Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines"
    (NeurIPS 2007); with pairs instead of random phases the variance is smaller.
    """
    if not (math.isfinite(length_scale) and length_scale > 0):
        raise ValueError(f"length_scale is {length_scale}, but must be > 0")
    rows = jnp.asarray(inputs)
    check_floats(rows)
    rows = rows.reshape(rows.shape[0], -1)
    if rows.shape[1] != frequencies.shape[1]:
        raise ValueError(
            f"inputs have {rows.shape[1]} entries, but the frequencies are for "
            f"{frequencies.shape[1]}"
        )
    angles = product(rows, frequencies.T) / length_scale
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return waves / math.sqrt(frequencies.shape[0])
