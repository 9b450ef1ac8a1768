r"""Convolution whose derivatives stay fast inside compiled loops on CPU.

XLA's CPU compiler brings a convolution into the layout of its fast implementation only
outside loops. The derivatives that JAX derives for a convolution are in other layouts;
inside a `lax.scan` or `lax.map` they therefore run as naive loops, some fifty times
slower. Here the two derivatives are written as convolutions in the fast layout: with
:math:`y = x * w`, odd kernel sizes, stride 1 and zero padding to the same size,

.. math::
    \bar x = \bar y * \mathrm{flip}(w)^\top, \qquad
    \bar w_{ij} = \sum_{n, s} x_{n, s + (i, j)} \, \bar y_{n, s}^\top ,

the latter being the convolution of x with :math:`\bar y` in which samples play the part
of channels. Elsewhere than on CPU the ordinary convolution is used.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["convolve"]


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
    return _same(inputs, weights) if plain else _fast(inputs, weights)


def _padded(inputs: Array, weights: Array, padding: tuple[int, int]) -> Array:
    return jax.lax.conv_general_dilated(
        inputs,
        weights,
        window_strides=(1, 1),
        padding=[(size, size) for size in padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _same(inputs: Array, weights: Array) -> Array:
    return _padded(inputs, weights, (weights.shape[0] // 2, weights.shape[1] // 2))


@jax.custom_vjp
def _fast(inputs: Array, weights: Array) -> Array:
    return _same(inputs, weights)


def _forward(inputs: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return _same(inputs, weights), (inputs, weights)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, weights = saved
    flipped = jnp.swapaxes(weights[::-1, ::-1], 2, 3)
    of_weights = _padded(
        inputs.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (weights.shape[0] // 2, weights.shape[1] // 2),
    )
    return _fast(gradient, flipped), of_weights.transpose(1, 2, 0, 3)


_fast.defvjp(_forward, _backward)
