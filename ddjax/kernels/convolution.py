r"""Convolution whose derivatives stay fast inside compiled loops on CPU.

XLA's CPU compiler brings a convolution into the layout of its fast implementation only
outside loops. The derivatives that JAX derives for a convolution are in other layouts;
inside a `lax.scan` or `lax.map` they therefore run as naive loops, some fifty times
slower. Here the two derivatives are written in the fast layout: with :math:`y = x * w`,
odd kernel sizes, stride 1 and zero padding to the same size,

.. math::
    \bar x = \bar y * \mathrm{flip}(w)^\top, \qquad
    \bar w_{ij} = \sum_{n, s} x_{n, s + (i, j)} \, \bar y_{n, s}^\top .

The latter is a convolution too, of a few images at a time, which take the place of the
channels, by the gradient, which takes that of the kernel. Its own derivatives are again
these two functions. Elsewhere than on CPU the ordinary convolution is used.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["convolve", "product_of_patches", "shifts"]

# As many lie along the innermost axis where they take the place of the channels: they
# fill a vector register.
_IMAGES_AT_ONCE = 8
# Maps of so few positions are multiplied as patches: XLA's convolution of 2 x 2 takes
# fifty times as long.
_FEW_POSITIONS = 9
# XLA gives convolutions of at most so many channels, before and after, to a library
# that takes up to three times as long as the other one.
_THIN = 16


def convolve(
    inputs: Float[Array, "n h w c"], weights: Float[Array, "k l c d"]
) -> Float[Array, "n h w d"]:
    """Convolution (cross-correlation) with stride 1, zero-padded to the same size.

    Differentiable in reverse mode, any number of times; on CPU not in forward mode.

    >>> import jax.numpy as jnp
    >>> print(convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)))[0, :2, 0, 0])
    [4. 6.]

    Args:
      inputs: images, channels last.
      weights: kernels of odd height and width, input channels, output channels.

    Raises:
      ValueError: kernels of even size.
    """
    if weights.shape[0] % 2 == 0 or weights.shape[1] % 2 == 0:
        raise ValueError(
            f"kernels of {weights.shape[0]} x {weights.shape[1]} have no middle; "
            "both sizes must be odd"
        )
    if jax.default_backend() != "cpu":
        return _convolution(inputs, weights, weights.shape[:2])
    return _fast_convolution(inputs, weights)


def _convolution(inputs: Array, weights: Array, size: tuple[int, ...]) -> Array:
    """Padded by half a kernel of that size."""
    return jax.lax.conv_general_dilated(
        inputs,
        weights,
        window_strides=(1, 1),
        padding=_margins(size),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _margins(size: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(length // 2, length // 2) for length in size]


def shifts(
    images: Float[Array, "n h w c"], size: tuple[int, ...], stride: int = 1
) -> list[Float[Array, "n h2 w2 c"]]:
    """For each place in a kernel, row by row, what it sees at each output.

    Args:
      images: padded, channels last.
      size: height and width of the kernel.
      stride: in both directions.
    """
    height, width = images.shape[1] - size[0] + 1, images.shape[2] - size[1] + 1
    return [
        images[:, i : i + height : stride, j : j + width : stride]
        for i in range(size[0])
        for j in range(size[1])
    ]


def product_of_patches(
    images: Float[Array, "n h w c"], weights: Float[Array, "k l c d"], stride: int = 1
) -> Float[Array, "n h2 w2 d"]:
    """Convolution of padded images as one matrix product.

    Args:
      images: padded, channels last.
      weights: as those of `convolve`, of any size.
      stride: in both directions.
    """
    patches = jnp.concatenate(shifts(images, weights.shape[:2], stride), axis=-1)
    flat = weights.reshape(-1, weights.shape[-1])
    return jnp.einsum("nhwc,cd->nhwd", patches, flat)


def _padded(inputs: Array, weights: Array) -> Array:
    return jnp.pad(inputs, ((0, 0), *_margins(weights.shape[:2]), (0, 0)))


@jax.custom_vjp
def _fast_convolution(inputs: Array, weights: Array) -> Array:
    if inputs.shape[1] * inputs.shape[2] <= _FEW_POSITIONS:
        return product_of_patches(_padded(inputs, weights), weights)
    channels, outputs = weights.shape[2:]
    # Three channels can take thrice as long as four.
    room, beside = -channels % 4, 0
    if channels <= _THIN and outputs < channels:
        room = _THIN + 4 - channels
    elif channels <= _THIN and outputs <= _THIN:
        beside = _THIN + 1 - outputs
    inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, room)))
    weights = jnp.pad(weights, ((0, 0), (0, 0), (0, room), (0, beside)))
    return _convolution(inputs, weights, weights.shape[:2])[..., :outputs]


def _convolution_forward(
    inputs: Array, weights: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _fast_convolution(inputs, weights), (inputs, weights)


def _convolution_backward(
    saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    inputs, weights = saved
    return _of_inputs(gradient, weights), _of_weights(
        inputs, gradient, weights.shape[:2]
    )


_fast_convolution.defvjp(_convolution_forward, _convolution_backward)


def _of_inputs(gradient: Array, weights: Array) -> Array:
    """What the inputs get of the outputs' gradient."""
    return _fast_convolution(gradient, jnp.swapaxes(weights[::-1, ::-1], 2, 3))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _of_weights(inputs: Array, gradient: Array, size: tuple[int, ...]) -> Array:
    """What weights of that size get of the outputs' gradient, summed over images."""
    whole = len(inputs) // _IMAGES_AT_ONCE * _IMAGES_AT_ONCE
    total = jnp.zeros((*size, inputs.shape[-1], gradient.shape[-1]), inputs.dtype)
    if whole < len(inputs):
        total = _of_rows(inputs[whole:], gradient[whole:], size)
    some = [
        each[:whole].reshape(-1, _IMAGES_AT_ONCE, *each.shape[1:])
        for each in (inputs, gradient)
    ]

    def add(total: Array, few: list[Array]) -> tuple[Array, None]:
        images, slopes = few
        return total + _of_images(images, slopes, size), None

    return jax.lax.scan(add, total, some)[0]


def _of_images(images: Array, gradient: Array, size: tuple[int, ...]) -> Array:
    """`_of_weights` with the images in the place of the channels."""
    across = images.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
    return _convolution(*across, size).transpose(1, 2, 0, 3)


def _of_rows(images: Array, gradient: Array, size: tuple[int, ...]) -> Array:
    """`_of_weights` with all rows of all images in that place, for a few images."""
    margin, height = size[0] // 2, images.shape[1]
    padded = jnp.pad(images, ((0, 0), (margin, margin), (0, 0), (0, 0)))
    shifted = [padded[:, place : place + height] for place in range(size[0])]

    def rows(images: Array) -> Array:
        return images.reshape(-1, 1, *images.shape[2:])

    seen = rows(gradient)
    return jnp.concatenate([_of_images(rows(x), seen, (1, size[1])) for x in shifted])


def _of_weights_forward(
    inputs: Array, gradient: Array, size: tuple[int, ...]
) -> tuple[Array, tuple[Array, Array]]:
    return _of_weights(inputs, gradient, size), (inputs, gradient)


def _of_weights_backward(
    size: tuple[int, ...], saved: tuple[Array, Array], change: Array
) -> tuple[Array, Array]:
    del size
    inputs, gradient = saved
    return _of_inputs(gradient, change), _fast_convolution(inputs, change)


_of_weights.defvjp(_of_weights_forward, _of_weights_backward)
