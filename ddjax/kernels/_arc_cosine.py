r"""Closed-form NNGP and NTK kernels of infinitely wide ReLU networks.

The recursion of Cho & Saul (2009), "Kernel methods for deep learning", and Jacot et al.
(2018), "Neural tangent kernel", with convolutions as in Novak et al. (2019), "Bayesian
deep convolutional networks with many channels are Gaussian processes", and Arora et al.
(2019), "On exact computation with an infinitely wide neural net". For Gaussian
pre-activations with standard deviations r, r' and correlation c = cos(theta),

.. math::
    E[\sigma(u) \sigma(v)] = r r' \kappa_1(c), \quad
    \kappa_1 = \frac{\sqrt{1 - c^2} + c (\pi - \theta)}{2 \pi}, \qquad
    E[\sigma'(u) \sigma'(v)] = \kappa_0(c) = \frac{\pi - \theta}{2 \pi}.

An image's covariance has a pair of positions for every pair of images, 28^4 numbers at
28 x 28. Pooling averages 4 x 4 of them at once, so that they are summed as they are
made (`_activation`): the largest array held is 16 times smaller. Nothing here is a
convolution in the sense of XLA: slices and additions are faster on a CPU, and safe in
float64 (see `infinite_width`).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ddjax.kernels.precision import EXACT
from ddjax.kernels.random_features import Architecture

__all__ = [
    "convolutional_diagonal",
    "convolutional_kernel",
    "fully_connected_diagonal",
    "fully_connected_kernel",
    "in_blocks",
    "relu_moments",
]

# Covariances of positions in one array of the convolutional kernel, when the caller
# names no block: 0.5 MiB in float32, small enough for a CPU's cache.
_ENTRIES_AT_ONCE = 2**17


class _KernelPair(NamedTuple):
    """Covariance of the outputs and tangent kernel (None when it is not wanted)."""

    nngp: Array
    ntk: Array | None


def _arcsin_series(eps: float) -> list[float]:
    """Coefficients of arcsin(x) / x in x^2, to within `eps` on 0 <= x <= 1/2."""
    series = (math.comb(2 * i, i) / (4**i * (2 * i + 1)) for i in itertools.count())
    coefficients = [next(series)]
    while coefficients[-1] / 4 ** len(coefficients) > eps / 8:
        coefficients.append(next(series))
    return coefficients


def _arccos_turns(c: Array) -> Array:
    """arccos(c) / (2 pi) in arithmetic that XLA vectorises.

    On a CPU XLA's own arccos costs 40 ns an entry and this 1 ns.
    """
    size = jnp.abs(c)
    near = size > 0.5
    square = jnp.where(near, (1 - size) / 2, c * c)
    sine = jnp.where(near, jnp.sqrt(square), size)
    *lower, total = _arcsin_series(float(jnp.finfo(c.dtype).eps))
    for coefficient in reversed(lower):
        total = total * square + coefficient
    angle = total * sine / (2 * math.pi)
    angle = jnp.where(near, 2 * angle, 0.25 - angle)
    return jnp.where(c < 0, 0.5 - angle, angle)


def _coincide(c: Array) -> Array:
    """Correlations of 1 or -1 up to rounding: an angle of 2e-3 in float32."""
    return 1 - jnp.abs(c) <= 16 * float(jnp.finfo(c.dtype).eps)


@jax.custom_jvp
def relu_moments(
    correlation: Float[Array, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""The arc-cosine functions kappa_1 and kappa_0 of degree one and zero.

    Their derivatives are :math:`\kappa_1' = \kappa_0` and
    :math:`\kappa_0' = 1 / (2 \pi \sqrt{1 - c^2})`. The latter is infinite at c = 1,
    where two inputs coincide and kappa_0 has a cone in them, which turns an error in c
    into its square root. Within 16 rounding errors of 1, therefore, kappa_0 is 1/2 and
    its derivative 0, the mean over the directions of approach.

    Args:
      correlation: c; clipped to [-1, 1].

    Returns:
      kappa_1 (0 to 1/2) and kappa_0 (0 to 1/2), of c's shape.
    """
    c = jnp.clip(correlation, -1, 1)
    kappa_0 = 0.5 - _arccos_turns(c)
    kappa_1 = c * kappa_0 + jnp.sqrt((1 - c) * (1 + c)) / (2 * math.pi)
    return kappa_1, jnp.where(_coincide(c), jnp.where(c > 0, 0.5, 0.0), kappa_0)


@relu_moments.defjvp
def _relu_moments_jvp(primals, tangents):
    (correlation,), (tangent,) = primals, tangents
    kappa_1, kappa_0 = relu_moments(correlation)
    _, slope = _sine_and_slope(jnp.clip(correlation, -1, 1))
    return (kappa_1, kappa_0), (kappa_0 * tangent, slope * tangent)


def _sine_and_slope(c: Array) -> tuple[Array, Array]:
    """sin(theta), and the derivative of kappa_0; both 0 where inputs coincide."""
    coincide = _coincide(c)
    sine = jnp.sqrt(jnp.where(coincide, 1, (1 - c) * (1 + c)))
    zero = jnp.zeros_like(c)
    slope = jnp.where(coincide, zero, 1 / (2 * math.pi * sine))
    return jnp.where(coincide, zero, sine), slope


def _root(variance: Array) -> Array:
    """Square root whose derivative at 0 is 0."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0)


def _inverse_or_zero(root: Array) -> Array:
    return jnp.where(root > 0, 1 / jnp.where(root > 0, root, 1), 0)


def _outer(columns: Array, rows: Array) -> Array:
    """(j, q) and (p,) to their products (j, q, p); or (n,) and (m,) to (n, m)."""
    lead = (1,) * columns.ndim
    return columns[..., None] * rows.reshape(*lead, rows.shape[-1])


def _matmul(a: Array, b: Array) -> Array:
    """Inner products of rows."""
    return jnp.einsum("...qf,pf->...qp", a, b, precision=EXACT)


def _with_bias(rows: Array, w_std: float, b_std: float) -> Array:
    """Rows whose inner products are the first layer's covariance, bias included."""
    rows = rows * (w_std / math.sqrt(rows.shape[-1]))
    return jnp.concatenate([rows, jnp.full_like(rows[..., :1], b_std)], axis=-1)


@jax.custom_jvp
def _activate(pair: _KernelPair, roots: Array) -> _KernelPair:
    r"""One activation, of covariances k and tangent kernels t of pre-activations.

    With r the product of the standard deviations and c = k / r: r kappa_1(c), whose
    derivatives are kappa_0 in k and :math:`\sqrt{1 - c^2} / 2 \pi` in r, and
    t kappa_0(c). Written out, since what JAX derives takes twice as long.

    Args:
      pair: k and t.
      roots: r.
    """
    kappa_1, kappa_0 = relu_moments(pair.nngp * _inverse_or_zero(roots))
    return _KernelPair(
        kappa_1 * roots, None if pair.ntk is None else pair.ntk * kappa_0
    )


@_activate.defjvp
def _activate_jvp(primals, tangents):
    (pair, roots), (moved, moved_roots) = primals, tangents
    inverse = _inverse_or_zero(roots)
    c = pair.nngp * inverse
    kappa_1, kappa_0 = relu_moments(c)
    sine, slope = _sine_and_slope(jnp.clip(c, -1, 1))
    nngp = kappa_0 * moved.nngp + sine / (2 * math.pi) * moved_roots
    if pair.ntk is None:
        return _KernelPair(kappa_1 * roots, None), _KernelPair(nngp, None)
    slope = pair.ntk * slope * inverse
    ntk = kappa_0 * moved.ntk + slope * moved.nngp - slope * c * moved_roots
    out = _KernelPair(kappa_1 * roots, pair.ntk * kappa_0)
    return out, _KernelPair(nngp, ntk)


def _affine(
    pair: _KernelPair, architecture: Architecture, average: Callable[[Array], Array]
) -> _KernelPair:
    """One layer of weights: `average` over its window, and its own tangents."""
    w_std, b_std = architecture.w_std, architecture.b_std
    nngp = w_std**2 * average(pair.nngp) + b_std**2
    if pair.ntk is None:
        return _KernelPair(nngp, None)
    return _KernelPair(nngp, nngp + w_std**2 * average(pair.ntk))


def _identity(covariance: Array) -> Array:
    return covariance


def _finish(
    pair: _KernelPair, architecture: Architecture, include_readout: bool
) -> Array:
    if include_readout:
        pair = _affine(pair, architecture, _identity)
    return pair.nngp if pair.ntk is None else pair.ntk


def fully_connected_kernel(
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"],
    *,
    architecture: Architecture,
    ntk: bool,
    include_readout: bool,
) -> Float[Array, "n m"]:
    """Kernel of an infinitely wide fully connected network; see `infinite_width`."""
    w_std, b_std = architecture.w_std, architecture.b_std
    rows1, rows2 = (_with_bias(x, w_std, b_std) for x in (x1, x2))
    variances = [jnp.sum(rows**2, axis=-1) for rows in (rows1, rows2)]
    nngp = _matmul(rows1, rows2)
    pair = _KernelPair(nngp, nngp if ntk else None)
    for layer in range(architecture.depth):
        if layer > 0:
            pair = _affine(pair, architecture, _identity)
            variances = [w_std**2 * v / 2 + b_std**2 for v in variances]
        root1, root2 = map(_root, variances)
        pair = _activate(pair, _outer(root1, root2))
    return _finish(pair, architecture, include_readout)


def fully_connected_diagonal(
    x: Float[Array, "n d"],
    *,
    architecture: Architecture,
    ntk: bool,
    include_readout: bool,
) -> Float[Array, " n"]:
    """The kernel of each input with itself, where kappa_1 = kappa_0 = 1/2."""
    rows = _with_bias(x, architecture.w_std, architecture.b_std)
    nngp = jnp.sum(rows**2, axis=-1)
    pair = _KernelPair(nngp, nngp if ntk else None)
    for layer in range(architecture.depth):
        if layer > 0:
            pair = _affine(pair, architecture, _identity)
        pair = jax.tree.map(lambda c: c / 2, pair)
    return _finish(pair, architecture, include_readout)


# Convolutional networks. With pooling the axes of a covariance are (j, h, w, h', w'),
# between all positions of the second argument's j images and of one image of the first
# argument; with positions in a row: (j, q, p). Without pooling they are (h, w, pair)
# between equal positions of the first's i images and the second's j, or
# (h', w', h, w, pair) between all of them, with i j pairs, those of the first image
# before those of the second: a window's sums are then of contiguous numbers.


def _patches(images: Array, architecture: Architecture) -> Array:
    """3 x 3 neighbourhoods, zero outside the image, with the bias as a feature."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]
    rows = jnp.concatenate(shifted, axis=-1)
    return _with_bias(rows, architecture.w_std, architecture.b_std)


def _window_mean(covariance: Array, slides: Sequence[tuple[int, ...]]) -> Array:
    """Mean over a 3 x 3 window, of positions that slide together.

    It is its own adjoint, which is what `custom_linear_solve` is told (nothing is
    solved): the derivative of slices would be a sum of padded arrays, which XLA
    computes ten times as slowly as these slices.

    Args:
      covariance: zero outside.
      slides: the axes of all vertical positions, and those of all horizontal ones.
    """

    def mean(_: Any, c: Array) -> Array:
        # Behind a barrier the padded array is made once, not again for every slice.
        sliding = {axis for axes in slides for axis in axes}
        total = jnp.pad(c, [(int(axis in sliding),) * 2 for axis in range(c.ndim)])
        for axes in slides:
            total = lax.optimization_barrier(total)
            first, middle, last = (_shifted(total, axes, start) for start in range(3))
            total = first + middle + last
        return total / 9

    return lax.custom_linear_solve(_identity, covariance, mean, symmetric=True)


def _shifted(padded: Array, axes: tuple[int, ...], start: int) -> Array:
    """The part from `start` along the axes, two entries shorter along each."""
    for axis in axes:
        end = start + padded.shape[axis] - 2
        padded = lax.slice_in_dim(padded, start, end, axis=axis)
    return padded


def _by_offset(maps: Array, axis: int) -> Array:
    """(.., h, w, ..) at `axis` to (.., offset in the 2 x 2 window, position, ..).

    An odd last row or column is dropped, as the pooling drops it.
    """
    height, width = (size // 2 for size in maps.shape[axis : axis + 2])
    for dim, size in ((axis, height), (axis + 1, width)):
        maps = lax.slice_in_dim(maps, 0, 2 * size, axis=dim)
    before, after = maps.shape[:axis], maps.shape[axis + 2 :]
    maps = maps.reshape(*before, height, 2, width, 2, *after)
    maps = jnp.moveaxis(maps, (axis + 1, axis + 3), (axis, axis + 1))
    return maps.reshape(*before, 4, height * width, *after)


_AtOffsets = Callable[[Array, Array], _KernelPair]
"""The offset u in the first image's pooling windows and v in the others' -> the pair
(j, q, p) between the positions there."""


def _first_layer(patches1: Array, patches2: Array, ntk: bool) -> _AtOffsets:
    rows, columns = _by_offset(patches1, 0), _by_offset(patches2, 1)

    def at(u: Array, v: Array) -> _KernelPair:
        nngp = _matmul(columns[:, v], rows[u])
        return _KernelPair(nngp, nngp if ntk else None)

    return at


def _later_layer(pair: _KernelPair) -> _AtOffsets:
    def split(c: Array) -> Array:
        c = _by_offset(_by_offset(c, 1), 3)
        return jnp.transpose(c, (3, 1, 0, 2, 4))

    stored = jax.tree.map(split, pair)
    return lambda u, v: jax.tree.map(lambda c: c[u, v], stored)


def _pooled_relu(at: _AtOffsets, root1: Array, root2: Array) -> _KernelPair:
    """ReLU, then average pooling, a pair of offsets in the pooling windows at a time.

    Args:
      at: the pre-activations.
      root1: (h, w) standard deviations of the first image's.
      root2: (j, h, w) the same of the others.
    """
    root1, root2 = _by_offset(root1, 0), _by_offset(root2, 1)

    @jax.checkpoint
    def one(u: Array, v: Array) -> _KernelPair:
        return _activate(at(u, v), _outer(root2[:, v], root1[u]))

    def add(total: _KernelPair, index: Array) -> tuple[_KernelPair, None]:
        part = one(index // 4, index % 4)
        return jax.tree.map(jnp.add, total, part), None

    shape = jax.eval_shape(one, jnp.int32(0), jnp.int32(0))
    zero = jax.tree.map(lambda c: jnp.zeros(c.shape, c.dtype), shape)
    total, _ = lax.scan(add, zero, jnp.arange(16, dtype=jnp.int32))
    return jax.tree.map(lambda c: c / 16, total)


def _pooled(
    patches1: Array,
    patches2: Array,
    roots1: Sequence[Array] | None,
    roots2: Sequence[Array] | None,
    *,
    architecture: Architecture,
    ntk: bool,
) -> tuple[_KernelPair, list[Array]]:
    """Hidden kernel (j, q, p) of one image with j others, with pooling.

    Without roots the second argument must be the first, alone: its standard deviations
    at each layer are then read off its own covariance; they are returned.
    """
    height, width = patches1.shape[:2]
    window_mean = functools.partial(_window_mean, slides=((1, 3), (2, 4)))
    roots, pair = [], None
    for layer in range(architecture.depth):
        if pair is None:
            variance = jnp.sum(patches1**2, axis=-1)
        else:
            shape = (-1, height, width, height, width)
            pair = jax.tree.map(functools.partial(jnp.reshape, shape=shape), pair)
            pair = _affine(pair, architecture, window_mean)
            variance = jnp.einsum("abab->ab", pair.nngp[0])
        one = _root(variance) if roots1 is None else roots1[layer]
        many = one[None] if roots2 is None else roots2[layer]
        if pair is None:
            at = _first_layer(patches1, patches2, ntk)
        else:
            at = _later_layer(pair)
        pair = _pooled_relu(at, one, many)
        roots.append(one)
        height, width = height // 2, width // 2
    assert pair is not None, "an architecture has at least one layer"
    return pair, roots


def _unpooled(
    images1: Float[Array, "i h w c"],
    images2: Float[Array, "j h w c"],
    roots1: Float[Array, "i depth h w"],
    roots2: Float[Array, "j depth h w"],
    *,
    architecture: Architecture,
    ntk: bool,
) -> _KernelPair:
    """Hidden kernel of i images with j others, without pooling.

    It is (h, w, pair) between equal positions, which is all that flattening reads, or
    (h', w', h, w, pair) between all of them.
    """
    equal = architecture.readout == "flatten"
    slides = ((0,), (1,)) if equal else ((0, 2), (1, 3))
    window_mean = functools.partial(_window_mean, slides=slides)

    def products(one: Array, other: Array) -> Array:
        """(i, k, h, w) and (j, k, h, w) to k products of a covariance's shape each."""
        one, other = (jnp.moveaxis(each, 0, -1) for each in (one, other))
        if not equal:
            one, other = one[:, :, :, None, None], other[:, None, None]
        product = one[..., :, None] * other[..., None, :]
        return product.reshape(*product.shape[:-2], -1)

    def layer(pair: _KernelPair, roots: Array) -> tuple[_KernelPair, None]:
        return _activate(_affine(pair, architecture, window_mean), roots), None

    channels_first = (jnp.moveaxis(each, -1, 1) for each in (images1, images2))
    nngp = jnp.sum(products(*channels_first), axis=0)
    start = _KernelPair(nngp, jnp.zeros_like(nngp) if ntk else None)
    # A loop, as XLA would compute each unrolled layer again for every shift of it. What
    # it goes through is made before it: pairs in one axis, for fast inner loops.
    return lax.scan(layer, start, products(roots1, roots2))[0]


def _unpooled_roots(images: Array, architecture: Architecture) -> Array:
    """Standard deviations (n, depth, h, w) of each layer's pre-activations."""

    def layer(variance: Array, _: None) -> tuple[Array, Array]:
        mean = _window_mean(variance, ((1,), (2,)))
        variance = architecture.w_std**2 * mean + architecture.b_std**2
        return variance / 2, _root(variance)

    variance = jnp.sum(images**2, axis=-1)
    _, roots = lax.scan(layer, variance, length=architecture.depth)
    return jnp.moveaxis(roots, 0, 1)


def _prepare(images: Array, architecture: Architecture) -> tuple[Array, Any]:
    """What a tile needs of every image: inputs, and standard deviations by layer."""
    if architecture.pooling == "none":
        images = images / math.sqrt(images.shape[-1])
        return images, _unpooled_roots(images, architecture)
    patches = _patches(images, architecture)
    settings: dict[str, Any] = {"architecture": architecture, "ntk": False}

    @jax.checkpoint
    def roots(one: Array) -> list[Array]:
        return _pooled(one, one[None], None, None, **settings)[1]

    return patches, lax.map(roots, patches)


def _read_out(
    pair: _KernelPair, architecture: Architecture, include_readout: bool
) -> Array:
    """From positions to one number a pair of images."""

    def mean(covariance: Array) -> Array:
        if architecture.pooling == "none":
            return jnp.mean(covariance, axis=tuple(range(covariance.ndim - 1)))
        if architecture.readout == "flatten":
            return jnp.einsum("jpp->j", covariance) / covariance.shape[-1]
        return jnp.mean(covariance, axis=(1, 2))

    return _finish(jax.tree.map(mean, pair), architecture, include_readout)


def _largest_array_size(architecture: Architecture, height: int, width: int) -> int:
    """Size of the largest array that a pair of images takes."""
    if architecture.pooling == "average":
        return ((height // 2) * (width // 2)) ** 2
    return (
        height * width if architecture.readout == "flatten" else (height * width) ** 2
    )


def convolutional_kernel(
    x1: Float[Array, "n h w c"],
    x2: Float[Array, "m h w c"],
    *,
    architecture: Architecture,
    ntk: bool,
    include_readout: bool,
    block: int | None,
) -> Float[Array, "n m"]:
    """Kernel of an infinitely wide convolutional network; see `infinite_width`."""
    if x1.shape[0] > x2.shape[0]:
        swapped = convolutional_kernel(
            x2,
            x1,
            architecture=architecture,
            ntk=ntk,
            include_readout=include_readout,
            block=block,
        )
        return swapped.T
    # Prepared apart: what belongs to an argument that is not learned is not
    # differentiated.
    rows, columns = (_prepare(x, architecture) for x in (x1, x2))
    settings: dict[str, Any] = {"architecture": architecture, "ntk": ntk}

    def tile(some: tuple, many: tuple) -> Array:
        def pooled(one: tuple) -> Array:
            pair, _ = _pooled(one[0], many[0], one[1], many[1], **settings)
            return _read_out(pair, architecture, include_readout)

        if architecture.pooling == "average":
            return lax.map(pooled, some)
        pair = _unpooled(some[0], many[0], some[1], many[1], **settings)
        values = _read_out(pair, architecture, include_readout)
        return values.reshape(len(some[0]), len(many[0]))

    if block is None:
        block = max(
            1, _ENTRIES_AT_ONCE // _largest_array_size(architecture, *x1.shape[1:3])
        )
    return in_blocks(tile, rows, columns, block=block)


def convolutional_diagonal(
    x: Float[Array, "n h w c"],
    *,
    architecture: Architecture,
    ntk: bool,
    include_readout: bool,
) -> Float[Array, " n"]:
    """The kernel of each image with itself."""
    settings: dict[str, Any] = {"architecture": architecture, "ntk": ntk}

    @jax.checkpoint
    def one(image: Array) -> Array:
        if architecture.pooling == "average":
            patches = _patches(image[None], architecture)
            pair, _ = _pooled(patches[0], patches, None, None, **settings)
        else:
            images, roots = _prepare(image[None], architecture)
            pair = _unpooled(images, images, roots, roots, **settings)
        return _read_out(pair, architecture, include_readout).reshape(())

    return lax.map(one, x)


def in_blocks(
    tile: Callable[[Any, Any], Array], rows: Any, columns: Any, *, block: int
) -> Float[Array, "n m"]:
    """A kernel matrix by at most `block` pairs at a time, in one compiled loop.

    Differentiable: where there are several tiles the backward pass computes each again
    instead of storing it.

    Args:
      tile: maps i rows and j columns to their (i, j) kernel values.
      rows: pytree whose leaves have a leading axis n.
      columns: pytree whose leaves have a leading axis m.
      block: pairs at a time, at least 1.
    """
    n, m = (jax.tree.leaves(each)[0].shape[0] for each in (rows, columns))
    if n * m <= block:
        return tile(rows, columns)
    rows, columns = _cut(rows, max(1, block // m)), _cut(columns, block)

    def of_rows(some: Any) -> Array:
        values = lax.map(jax.checkpoint(lambda many: tile(some, many)), columns)
        return jnp.moveaxis(values, 0, 1).reshape(values.shape[1], -1)[:, :m]

    return lax.map(of_rows, rows).reshape(-1, m)[:n]


def _cut(tree: Any, block: int) -> Any:
    """Leaves with their leading axis in equal blocks of at most `block` entries.

    The last entry is repeated to fill the last block with harmless numbers, of which up
    to twice as many blocks as are needed may save some.
    """
    count = jax.tree.leaves(tree)[0].shape[0]
    least = -(-count // block)
    blocks = min(range(least, 2 * least + 1), key=lambda n: n * -(-count // n))
    block = -(-count // blocks)

    def cut(leaf: Array) -> Array:
        spare = [(0, blocks * block - count)] + [(0, 0)] * (leaf.ndim - 1)
        leaf = jnp.pad(leaf, spare, mode="edge")
        return leaf.reshape(blocks, block, *leaf.shape[1:])

    return jax.tree.map(cut, tree)
