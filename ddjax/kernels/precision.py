"""The precision of matrix products: one policy, by name.

Accelerators multiply float32 matrices with fewer digits (TF32, bfloat16) unless told
otherwise: a relative error of 1e-3, which a Gram matrix that is solved with, or a bound
that is to hold, cannot bear. Products that end in a solve, a Gram or a certificate run
at `EXACT`, and their derivatives with them. Whatever else is computed follows jax's
default, and with it `jax_default_matmul_precision`: the forward passes of student
networks, of frozen encoders and of the random networks in
`ddjax.kernels.random_features`, convolutions included. The rounding there is that of a
slightly different feature map, the same wherever its features are used.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["EXACT", "gram", "product", "transposed_product"]

EXACT = jax.lax.Precision.HIGHEST
"""Every digit of the inputs' dtype, on every device."""

_Real = Array | np.ndarray


def product(a: Float[_Real, "..."], b: Float[_Real, "..."]) -> Float[Array, "..."]:
    """`a @ b` at `EXACT` precision.

    Args:
      a: as `jnp.matmul` takes them: vectors, matrices or stacks of matrices.
      b: the same.
    """
    return jnp.matmul(a, b, precision=EXACT)


def transposed_product(
    a: Float[_Real, "n p"], b: Float[_Real, "n *c"]
) -> Float[Array, "p *c"]:
    """`a.T @ b` at `EXACT` precision, as a contraction over rows.

    No transpose is written out: XLA on CPU runs the transposed matrix-vector product 20
    times slower.

    Args:
      a: `(n, p)`.
      b: `(n, c)` or `(n,)`.
    """
    return jnp.tensordot(a, b, axes=((0,), (0,)), precision=EXACT)


def gram(
    rows: Float[_Real, "n p"], columns: Float[_Real, "m p"] | None = None
) -> Float[Array, "n m"]:
    """Inner products of feature vectors, `rows @ columns.T`, at `EXACT` precision.

    Args:
      rows: `(n, p)`.
      columns: `(m, p)`; None takes `rows`.
    """
    return product(rows, (rows if columns is None else columns).T)
