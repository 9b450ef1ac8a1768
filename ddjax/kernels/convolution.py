r"""Convolution whose derivatives stay fast inside compiled loops on CPU.

XLA's CPU compiler brings a convolution into the layout of its fast implementation only
outside loops. The derivatives that JAX derives for a convolution are in other layouts;
inside a `lax.scan` or `lax.map` they therefore run as naive loops, some fifty times
slower. Here the two derivatives are written as what is fast: with :math:`y = x * w`,
odd kernel sizes, stride 1 and zero padding to the same size,

.. math::
    \bar x = \bar y * \mathrm{flip}(w)^\top, \qquad
    \bar w_{ij} = \sum_{n, s} x_{n, s + (i, j)} \, \bar y_{n, s}^\top ,

the former a convolution, the latter a matrix product for each place (i, j) of the
kernel and each few images, which stay in the processor's cache. Elsewhere than on CPU
the ordinary convolution is used.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["convolve", "product_of_patches", "shifts"]

# The derivative by the weights is taken over so many images at once.
_IMAGES_AT_ONCE = 8
# Maps of so few positions are multiplied as patches: XLA's convolution of 2 x 2 takes
# fifty times as long.
_FEW_POSITIONS = 9


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
    plain = jax.default_backend() != "cpu"
    return (
        _convolution(inputs, weights) if plain else _fast_convolution(inputs, weights)
    )


def _convolution(inputs: Array, weights: Array) -> Array:
    return jax.lax.conv_general_dilated(
        inputs,
        weights,
        window_strides=(1, 1),
        padding=[(size // 2, size // 2) for size in weights.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


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
    margins = [(length // 2, length // 2) for length in weights.shape[:2]]
    return jnp.pad(inputs, ((0, 0), *margins, (0, 0)))


@jax.custom_vjp
def _fast_convolution(inputs: Array, weights: Array) -> Array:
    if inputs.shape[1] * inputs.shape[2] > _FEW_POSITIONS:
        return _convolution(inputs, weights)
    return product_of_patches(_padded(inputs, weights), weights)


def _forward(inputs: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return _fast_convolution(inputs, weights), (inputs, weights)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, weights = saved

    def of_weights(inputs: Array, gradient: Array) -> Array:
        places = [
            jnp.einsum("nhwc,nhwd->cd", shifted, gradient)
            for shifted in shifts(_padded(inputs, weights), weights.shape[:2])
        ]
        return jnp.stack(places).reshape(weights.shape)

    whole = len(inputs) // _IMAGES_AT_ONCE * _IMAGES_AT_ONCE
    total = of_weights(inputs[whole:], gradient[whole:])
    chunks = [
        each[:whole].reshape(-1, _IMAGES_AT_ONCE, *each.shape[1:])
        for each in (inputs, gradient)
    ]
    total, _ = jax.lax.scan(
        lambda total, chunk: (total + of_weights(*chunk), None), total, chunks
    )
    flipped = jnp.swapaxes(weights[::-1, ::-1], 2, 3)
    return _fast_convolution(gradient, flipped), total


_fast_convolution.defvjp(_forward, _backward)
