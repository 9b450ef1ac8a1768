r"""Exact NNGP and NTK kernels of infinitely wide ReLU networks, and finite ones' NTK.

The networks are those of `random_features.Architecture`, in the NTK parameterisation: a
layer computes :math:`z = w_{std} W h / \sqrt{\text{fan in}} + b_{std} b` with W and b
standard normal. As the width grows, the outputs at initialisation become a Gaussian
process with covariance K (the NNGP kernel), and training by gradient descent follows
the fixed kernel :math:`\Theta = \langle \partial f(x), \partial f(x') \rangle`, over
all weights and biases (the NTK). With the layer's linear map :math:`A` (the mean over a
3 x 3 window, or nothing when fully connected), the ReLU's moments :math:`\kappa_0,
\kappa_1` (`_arc_cosine`) and the standard deviations :math:`r = \sqrt{K(x, x)}`:

.. math::
    K_1 = w_{std}^2 A(x x'^\top / c) + b_{std}^2, \qquad \Theta_1 = K_1,

    K'_l = r_l r'_l \kappa_1(K_l / r_l r'_l), \qquad
    \Theta'_l = \kappa_0(K_l / r_l r'_l) \Theta_l,

    K_{l+1} = w_{std}^2 A(K'_l) + b_{std}^2, \qquad
    \Theta_{l+1} = K_{l+1} + w_{std}^2 A(\Theta'_l),

with average pooling, where there is any, applied to K' and Theta'.

Float64. The closed form, the default, runs everywhere. The neural-tangents backend
consists of padded one-channel convolutions, which jaxlib 0.8.0 to 0.10.2 miscompiles in
float64 on CPUs with AVX-512: the process can end with a segmentation fault. There,
`kernel_fn` refuses float64 convolutional kernels of that backend unless
`XLA_FLAGS=--xla_cpu_max_isa=AVX2` was in the environment before jax started.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddjax.kernels import _arc_cosine, _neural_tangents
from ddjax.kernels._rows import check_floats
from ddjax.kernels.precision import EXACT
from ddjax.kernels.random_features import (
    Architecture,
    check_architecture,
    check_image_shape,
)

__all__ = [
    "KernelFn",
    "diagonal_fn",
    "empirical_ntk",
    "kernel_fn",
]

_KINDS = ("nngp", "ntk")
_BACKENDS = ("closed_form", "neural_tangents")


@runtime_checkable
class KernelFn(Protocol):
    """A kernel: inputs `(n, *shape)` and `(m, *shape)` to their matrix `(n, m)`."""

    def __call__(
        self, x1: Float[Array, "n *shape"], x2: Float[Array, "m *shape"], /
    ) -> Float[Array, "n m"]:
        """The kernel matrix."""
        ...


def _check(architecture: Architecture, kind: str) -> None:
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, which is not one of {_KINDS}")
    check_architecture(architecture)


def _rows(inputs: Array, architecture: Architecture, name: str) -> Array:
    """Inputs as the architecture takes them; refuses those it cannot."""
    check_floats(inputs)
    if architecture.kind == "fully_connected":
        if inputs.ndim < 2 or inputs[0].size == 0:
            raise ValueError(f"{name} has shape {inputs.shape}, not (n, d) with d >= 1")
        return inputs.reshape(inputs.shape[0], -1)
    check_image_shape(architecture, inputs.shape[1:])
    return inputs


def kernel_fn(
    architecture: Architecture,
    *,
    kind: Literal["nngp", "ntk"] = "nngp",
    include_readout: bool = True,
    backend: Literal["closed_form", "neural_tangents"] = "closed_form",
    block: int | None = None,
) -> KernelFn:
    r"""The NNGP or NTK kernel of an infinitely wide network (module docstring).

    Relation to `random_features`: its features converge to the NNGP kernel of the
    network up to its last hidden activation, so `features(x) @ features(x').T` tends to
    `kernel_fn(architecture, include_readout=False)(x, x')`. The dense readout turns
    that K' into :math:`w_{std}^2 K' + b_{std}^2`, and the tangent kernel Theta' into
    :math:`w_{std}^2 (K' + \Theta') + b_{std}^2`.

    The function is pure and compiled, and can be differentiated with respect to its
    inputs, mapped, and used within other compiled functions. Kernel and gradients are
    finite for finite inputs. The closed form agrees with neural-tangents to 2e-6 in
    float32 and 1e-12 in float64, except where two inputs (or two patches) all but
    coincide, within an angle of 2e-3 and 1e-7: there the NTK has a cone, which
    amplifies rounding to its square root, so that it is right to 1e-3 and 1e-7 only. At
    the coincidence itself, as on a Gram's diagonal, the closed form is exact and the
    cone's gradient is taken as 0.

    >>> import jax, jax.numpy as jnp
    >>> from ddjax.kernels import random_features
    >>> images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    >>> kernel = kernel_fn(random_features.fully_connected(depth=1), kind="ntk")
    >>> kernel(images, images[:2]).shape
    (3, 2)
    >>> gradient = jax.grad(lambda x: jnp.sum(kernel(x, images)))(images[:2])
    >>> gradient.shape
    (2, 8, 8, 1)

    A convolutional kernel takes the memory of `block` pairs beside its inputs and the
    n x m result; a fully connected one takes a few arrays of n x m. For a matrix larger
    than the device, block by block on the host:

    >>> from ddjax.kernels import blocks
    >>> blocks.gram_in_blocks(kernel, images, block=2).shape
    (3, 3)

    Args:
      architecture: the network; its width does not matter here.
      kind: `"nngp"` or `"ntk"`.
      include_readout: whether the network ends with a dense layer of one output, or
        with its last hidden activation.
      backend: `"closed_form"`: this library's. `"neural_tangents"`: the package of that
        name, which must be installed; on a CPU it is slower and takes more memory.
      block: convolutional networks only: how many pairs of images are held at once,
        forward and backward. A pair of 28 x 28 images in float32 takes 2 MB with
        pooling, 0.1 MB without if it ends by flattening, and 100 MB if by averaging;
        in neural-tangents 30 MB. Results do not depend on it. None: in the closed form
        as many as take some 10 MB (or one), in neural-tangents all n x m pairs.

    Returns:
      The kernel: `k(x1, x2)` with `x1` of shape (n, \*shape) and `x2` of (m, \*shape),
      images NHWC for convolutional networks and anything, which is flattened, for fully
      connected ones, returns the (n, m) matrix.

    Raises:
      ValueError: an unknown kind, backend or field of the architecture, or `block`
        below 1. From the kernel itself: inputs that are not floating point, do not fit
        the architecture, or differ in shape.
      ImportError: neural-tangents is wanted and is not installed, or does not import on
        this jax.
      RuntimeError: from the kernel: neural-tangents' convolutional kernel in float64
        where jaxlib could crash on it.

    References:
      Lee et al. (2018), "Deep neural networks as Gaussian processes", eq. 5; Jacot et
      al. (2018), "Neural tangent kernel", theorem 1; Arora et al. (2019), "On exact
      computation with an infinitely wide neural net", section 4 (which lacks the bias
      and the pooling here).
    """
    _check(architecture, kind)
    if backend not in _BACKENDS:
        raise ValueError(f"backend is {backend!r}, which is not one of {_BACKENDS}")
    if block is not None and block < 1:
        raise ValueError(f"block is {block}, but at least 1 pair is held at once")
    # The width does not matter: kernels that differ in it share a compilation.
    architecture = architecture._replace(width=1)
    if backend == "closed_form":
        evaluate = functools.partial(
            _closed_form,
            architecture=architecture,
            ntk=kind == "ntk",
            include_readout=include_readout,
            block=block,
        )
    else:
        evaluate = _neural_tangents_kernel(architecture, kind, include_readout, block)

    def kernel(
        x1: Float[Array, "n *shape"], x2: Float[Array, "m *shape"]
    ) -> Float[Array, "n m"]:
        if x1.shape[1:] != x2.shape[1:]:
            raise ValueError(
                f"x1 and x2 are of different shapes: {x1.shape} and {x2.shape}"
            )
        x1, x2 = _rows(x1, architecture, "x1"), _rows(x2, architecture, "x2")
        return evaluate(x1, x2)

    return kernel


def diagonal_fn(
    architecture: Architecture,
    *,
    kind: Literal["nngp", "ntk"] = "nngp",
    include_readout: bool = True,
) -> Callable[[Float[Array, "n *shape"]], Float[Array, " n"]]:
    r"""The diagonal k(x, x) of `kernel_fn`'s kernel, without the matrix.

    These are the squared norms :math:`\|\phi(x)\|^2` of the kernel's features.

    >>> import jax.numpy as jnp
    >>> from ddjax.kernels import random_features
    >>> network = random_features.fully_connected(depth=1, w_std=1.0, b_std=0.0)
    >>> diagonal_fn(network, include_readout=False)(jnp.full((2, 4), 2.0)).tolist()
    [2.0, 2.0]

    Args:
      architecture: the network.
      kind: `"nngp"` or `"ntk"`.
      include_readout: as in `kernel_fn`.

    Returns:
      A function from inputs (n, \*shape) to the (n,) values of the closed form.

    Raises:
      ValueError: as `kernel_fn`.
    """
    _check(architecture, kind)
    architecture = architecture._replace(width=1)

    def diagonal(x: Float[Array, "n *shape"]) -> Float[Array, " n"]:
        return _closed_form_diagonal(
            _rows(x, architecture, "x"),
            architecture=architecture,
            ntk=kind == "ntk",
            include_readout=include_readout,
        )

    return diagonal


# Compiled here, once per description, however often a kernel is made from it.
_DESCRIPTION = ("architecture", "ntk", "include_readout")


@functools.partial(jax.jit, static_argnames=(*_DESCRIPTION, "block"))
def _closed_form(x1: Array, x2: Array, *, block: int | None, **network: Any) -> Array:
    if network["architecture"].kind == "convolutional":
        return _arc_cosine.convolutional_kernel(x1, x2, block=block, **network)
    return _arc_cosine.fully_connected_kernel(x1, x2, **network)


@functools.partial(jax.jit, static_argnames=_DESCRIPTION)
def _closed_form_diagonal(x: Array, **network: Any) -> Array:
    if network["architecture"].kind == "convolutional":
        return _arc_cosine.convolutional_diagonal(x, **network)
    return _arc_cosine.fully_connected_diagonal(x, **network)


def _stax_network(stax: Any, architecture: Architecture, include_readout: bool) -> Any:
    """neural-tangents' kernel function of the same network."""
    convolutional = architecture.kind == "convolutional"
    settings = {"W_std": architecture.w_std, "b_std": architecture.b_std}
    layers = []
    for _ in range(architecture.depth):
        if convolutional:
            layers.append(stax.Conv(1, (3, 3), padding="SAME", **settings))
        else:
            layers.append(stax.Dense(1, **settings))
        layers.append(stax.Relu())
        if convolutional and architecture.pooling == "average":
            layers.append(stax.AvgPool((2, 2), strides=(2, 2)))
    if convolutional:
        flat = architecture.readout == "flatten"
        layers.append(stax.Flatten() if flat else stax.GlobalAvgPool())
    if include_readout:
        layers.append(stax.Dense(1, **settings))
    *_, kernel_of = stax.serial(*layers)
    return kernel_of


def _neural_tangents_kernel(
    architecture: Architecture, kind: str, include_readout: bool, block: int | None
) -> Callable[[Array, Array], Array]:
    stax = _neural_tangents.load().stax
    kernel_of = _stax_network(stax, architecture, include_readout)
    convolutional = architecture.kind == "convolutional"

    def tile(x1: Array, x2: Array) -> Array:
        with _neural_tangents.calling():
            return kernel_of(x1, x2, kind)

    @jax.jit
    def compiled(x1: Array, x2: Array) -> Array:
        if not convolutional or block is None:
            return tile(x1, x2)
        return _arc_cosine.in_blocks(tile, x1, x2, block=block)

    def kernel(x1: Array, x2: Array) -> Array:
        double = jnp.float64 in (x1.dtype, x2.dtype)
        if (
            convolutional
            and double
            and _neural_tangents.float64_convolutions_may_crash()
        ):
            raise RuntimeError(
                "neural-tangents' convolutional kernels in float64 can crash this "
                "jaxlib on CPUs with AVX-512: set XLA_FLAGS=--xla_cpu_max_isa=AVX2 in "
                'the environment before jax starts, or use backend="closed_form"'
            )
        return compiled(x1, x2)

    return kernel


def empirical_ntk(
    apply: Callable[[Any, Array], Array],
    params: Any,
    x1: Float[Array, "n *shape"],
    x2: Float[Array, "m *shape"],
) -> Float[Array, "n m"]:
    r"""The tangent kernel of a finite network at its present parameters.

    .. math::
        \hat\Theta(x, x') = \frac{1}{c} \sum_{o=1}^c
        \langle \nabla_\theta f_o(x), \nabla_\theta f_o(x') \rangle,

    the mean over the c outputs of the kernel's diagonal blocks. In the NTK
    parameterisation it tends to `kernel_fn(..., kind="ntk")` as the width grows, with
    an error that falls as 1/sqrt(width).

    >>> import jax.numpy as jnp
    >>> linear = lambda params, x: x @ params
    >>> params, x = jnp.ones((2, 5)), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> empirical_ntk(linear, params, x, x[:1]).tolist()
    [[5.0], [11.0]]

    It holds both sets' Jacobians, (n + m) c numbers for each parameter. In blocks:

    >>> import functools
    >>> from ddjax.kernels import blocks
    >>> kernel = functools.partial(empirical_ntk, linear)
    >>> blocks.gram_in_blocks(kernel, x, block=1, arguments=[params]).tolist()
    [[5.0, 11.0], [11.0, 25.0]]

    Args:
      apply: `apply(params, x (n, *shape)) -> (n, c)`; each output depends on its own
        input alone.
      params: pytree of floating-point arrays.
      x1: inputs.
      x2: inputs.

    References:
      Jacot et al. (2018), "Neural tangent kernel", section 4.
    """

    def jacobian(x: Array) -> list[Array]:
        outputs = jax.jacrev(lambda params, one: apply(params, one[None])[0])
        leaves = jax.tree.leaves(jax.vmap(outputs, in_axes=(None, 0))(params, x))
        return [leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves]

    parts = [
        jnp.einsum("ncp,mcp->nm", a, b, precision=EXACT) / a.shape[1]
        for a, b in zip(jacobian(x1), jacobian(x2), strict=True)
    ]
    return sum(parts[1:], parts[0])
