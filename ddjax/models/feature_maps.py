"""Descriptions of feature maps and kernels that a file can hold and rebuild.

A convex learner sees its inputs through a feature map or a kernel. What a distilled set
was made for, and what it is probed with, are both named by a `FeatureMap`: small,
hashable, JSON-able, and enough to rebuild the very same random networks.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ddjax.checks import check_counts, check_names, check_positive
from ddjax.kernels import infinite_width, random_features
from ddjax.kernels._rows import check_floats
from ddjax.kernels.random_features import Architecture

__all__ = [
    "KINDS",
    "FeatureMap",
    "application",
    "as_architecture",
    "build",
    "exact",
    "fourier",
    "from_recipe",
    "from_settings",
    "in_blocks",
    "inputs",
    "kernel",
    "random",
    "to_recipe",
]

KINDS = ("inputs", "random_features", "fourier", "nngp", "ntk")
"""What a learner may see its inputs through."""

_ARCHITECTURES = {
    "fully_connected": random_features.fully_connected,
    "convolutional": random_features.convolutional,
}
_NETWORKS = {"fully_connected": 30, "convolutional": 8}
_FREQUENCIES = 256
# Kinds that are drawn at random.
_DRAWN = ("random_features", "fourier")
Features = Callable[[Any, Array], Array]
Kernel = Callable[[Array, Array], Array]


class FeatureMap(NamedTuple):
    """What a learner sees its inputs through.

    Attributes:
      kind: `inputs` (the flattened inputs themselves), `random_features` (penultimate
        features of finite random networks), `fourier` (random Fourier features of the
        Gaussian kernel), `nngp` or `ntk` (an exact kernel: no features, use `kernel`).
      architecture: of the networks; None for `inputs` and `fourier`.
      networks: number of random networks (0 unless `random_features`).
      key_data: the random key's `uint32` words (`random_features` and `fourier`).
      key_impl: the random key's generator.
      readout: whether the dense head is counted: features `[w_std f, b_std]`, hence
        the kernel `w_std² f·f' + b_std²` (`random_features` only).
      frequencies: number of random frequencies, half that of features (0 unless
        `fourier`).
      length_scale: of the Gaussian kernel, relative to the square root of the number
        of an input's entries (`fourier` only).
    """

    kind: str
    architecture: Architecture | None = None
    networks: int = 0
    key_data: tuple[int, ...] = ()
    key_impl: str = "threefry2x32"
    readout: bool = False
    frequencies: int = 0
    length_scale: float = 1.0


def inputs() -> FeatureMap:
    """The flattened inputs themselves: a linear model."""
    return FeatureMap("inputs")


def random(
    key: PRNGKeyArray,
    architecture: Architecture,
    *,
    networks: int,
    readout: bool = False,
) -> FeatureMap:
    """The features of `networks` random networks drawn from `key`.

    Args:
      key: a single typed key (`jax.random.key`).
      architecture: of every network.
      networks: how many, >= 1.
      readout: count the dense head's `w_std` and `b_std` (see `FeatureMap`).

    Raises:
      ValueError: `networks` below 1.
    """
    check_counts(required=True, networks=networks)
    return FeatureMap(
        "random_features", architecture, networks, *_words(key), readout=readout
    )


def fourier(
    key: PRNGKeyArray, *, frequencies: int = _FREQUENCIES, length_scale: float = 1.0
) -> FeatureMap:
    """Random Fourier features of the Gaussian kernel, drawn from `key`.

    Args:
      key: a single typed key (`jax.random.key`).
      frequencies: how many, >= 1; features are twice as many.
      length_scale: > 0, relative to the square root of the number of an input's
        entries: two standardised inputs are some sqrt(2 d) apart.

    Raises:
      ValueError: a number out of range.
    """
    check_counts(required=True, frequencies=frequencies)
    check_positive(required=True, length_scale=length_scale)
    words, implementation = _words(key)
    return FeatureMap(
        "fourier",
        key_data=words,
        key_impl=implementation,
        frequencies=frequencies,
        length_scale=float(length_scale),
    )


def _words(key: PRNGKeyArray) -> tuple[tuple[int, ...], str]:
    words = tuple(int(word) for word in np.asarray(jax.random.key_data(key)).ravel())
    return words, str(jax.random.key_impl(key))


def exact(kind: str, architecture: Architecture) -> FeatureMap:
    """The exact infinite-width kernel `nngp` or `ntk` of an architecture.

    The dense head is counted, as by random features with `readout`.

    Raises:
      ValueError: another kind.
    """
    if kind not in ("nngp", "ntk"):
        raise ValueError(f"exact kernels are 'nngp' and 'ntk', got {kind!r}")
    return FeatureMap(kind, architecture)


def as_architecture(what: Architecture | Mapping[str, Any] | str) -> Architecture:
    """An architecture from a config's plain values.

    >>> as_architecture({"kind": "fully_connected", "width": 64}).width
    64

    Args:
      what: an architecture, its kind, or its kind with other fields; those not named
        take the defaults of `ddjax.kernels.random_features`.

    Raises:
      ValueError: an unknown kind, or a field that the kind does not have.
    """
    if isinstance(what, Architecture):
        return what
    fields = {"kind": what} if isinstance(what, str) else dict(what)
    kind = fields.pop("kind", None)
    known = ", ".join(_ARCHITECTURES)
    if kind is None:
        raise ValueError(f"an architecture needs a 'kind' ({known}), got {fields}")
    check_names(architecture=(kind, _ARCHITECTURES))
    try:
        return _ARCHITECTURES[kind](**fields)
    except TypeError as error:
        raise ValueError(f"architecture {kind!r}: {error}") from error


def from_settings(
    key: PRNGKeyArray, settings: Mapping[str, Any] | None = None
) -> FeatureMap:
    """A feature map from a config's plain values.

    Args:
      key: the random networks' key; not used by the other kinds.
      settings: `kind` (default `random_features`), `architecture` (see
        `as_architecture`; default `fully_connected`), and for random features
        `networks` (default 30 fully connected or 8 convolutional ones, DGKIP's numbers)
        and `readout` (default False). `fourier` takes `frequencies` and `length_scale`
        (see there), `inputs` the kind alone.

    Raises:
      ValueError: an unknown kind, or a setting that the kind does not have.
    """
    given = {"kind": "random_features", **(settings or {})}
    kind = given.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"unknown feature map {kind!r}; known: {', '.join(KINDS)}")
    allowed = {
        "inputs": (),
        "random_features": ("architecture", "networks", "readout"),
        "fourier": ("frequencies", "length_scale"),
    }
    unknown = sorted(set(given) - set(allowed.get(kind, ("architecture",))))
    if unknown:
        raise ValueError(f"feature map {kind!r} does not take the settings {unknown}")
    if kind == "inputs":
        return inputs()
    if kind == "fourier":
        return fourier(key, **given)
    architecture = as_architecture(given.get("architecture", "fully_connected"))
    if kind != "random_features":
        return exact(kind, architecture)
    networks = given.get("networks", _NETWORKS[architecture.kind])
    readout = given.get("readout", False)
    return random(key, architecture, networks=networks, readout=readout)


def to_recipe(feature_map: FeatureMap) -> dict[str, Any]:
    """The description as JSON-able values; `from_recipe` is its inverse."""
    recipe: dict[str, Any] = {"kind": feature_map.kind}
    if feature_map.architecture is not None:
        recipe["architecture"] = dict(feature_map.architecture._asdict())
    if feature_map.kind == "random_features":
        recipe["networks"] = feature_map.networks
        recipe["readout"] = feature_map.readout
    if feature_map.kind == "fourier":
        recipe["frequencies"] = feature_map.frequencies
        recipe["length_scale"] = feature_map.length_scale
    if feature_map.kind in _DRAWN:
        recipe["key_data"] = list(feature_map.key_data)
        recipe["key_impl"] = feature_map.key_impl
    return recipe


def from_recipe(recipe: dict[str, Any]) -> FeatureMap:
    """Reads what `to_recipe` wrote (for instance from a distilled set's provenance).

    Raises:
      ValueError: unknown kind or field, or a field that the kind needs is missing.
    """
    kind = recipe.get("kind")
    if kind not in KINDS:
        raise ValueError(f"unknown feature map {kind!r}; known: {', '.join(KINDS)}")
    needed = {
        "inputs": (),
        "random_features": ("architecture", "networks", "key_data"),
        "fourier": ("frequencies", "length_scale", "key_data"),
    }
    missing = [k for k in needed.get(kind, ("architecture",)) if k not in recipe]
    unknown = sorted(set(recipe) - set(FeatureMap._fields))
    if missing or unknown:
        raise ValueError(
            f"feature map {kind!r}: missing fields {missing}, unknown fields {unknown}"
        )
    fields = dict(recipe)
    if "architecture" in fields:
        fields["architecture"] = _architecture(fields["architecture"])
    if "key_data" in fields:
        fields["key_data"] = tuple(int(word) for word in fields["key_data"])
    return FeatureMap(**fields)


def _architecture(fields: dict[str, Any]) -> Architecture:
    if set(fields) != set(Architecture._fields):
        raise ValueError(
            f"an architecture has the fields {Architecture._fields}, "
            f"got {tuple(sorted(fields))}"
        )
    return Architecture(**fields)


def build(
    feature_map: FeatureMap, input_shape: tuple[int, ...], *, chunk: int | None = None
) -> tuple[Any, Features]:
    """Rebuilds the networks and the function that applies them.

    Numbers are drawn in float32 whatever the precision, so that a description means the
    same networks everywhere; under x64 they are brought to float64, and the features
    with them.

    Args:
      feature_map: of kind `inputs`, `random_features` or `fourier`.
      input_shape: shape of one input, without the sample axis.
      chunk: how many networks are applied at once (see
        `ddjax.kernels.random_features.features`).

    Returns:
      `(params, features)` with `features(params, inputs (n, *shape)) -> (n, p)`, pure
      and differentiable; pass `params` as an argument of whatever is compiled.

    Raises:
      ValueError: an exact kernel, which has no features (use `kernel`).
    """
    apply = application(feature_map, chunk=chunk)
    if feature_map.kind == "inputs":
        return {}, apply
    words = jnp.asarray(feature_map.key_data, jnp.uint32)
    key = jax.random.wrap_key_data(words, impl=feature_map.key_impl)
    if feature_map.architecture is None:
        frequencies = random_features.init_frequencies(
            key,
            size=math.prod(input_shape),
            frequencies=feature_map.frequencies,
            dtype=jnp.float32,
        )
        return _widened(frequencies), apply
    params = random_features.init_networks(
        key,
        feature_map.architecture,
        input_shape=input_shape,
        networks=feature_map.networks,
        dtype=jnp.float32,
    )
    return _widened(params), apply


def _widened(params: Any) -> Any:
    """The parameters in jax's default float type: float64 under x64, or float32."""
    dtype = jnp.result_type(float)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def application(feature_map: FeatureMap, *, chunk: int | None = None) -> Features:
    """The `(params, inputs) -> features` of `build`, without drawing networks.

    Features have the dtype of the parameters, to which the inputs are brought.

    Raises:
      ValueError: an exact kernel, which has no features (use `kernel`).
    """
    if feature_map.kind == "inputs":
        return _flatten
    if feature_map.kind == "fourier":
        return _fourier_features(feature_map.length_scale)
    if feature_map.kind != "random_features" or feature_map.architecture is None:
        raise ValueError(
            f"feature map {feature_map.kind!r} has no features; use kernel() instead"
        )
    return _random_features(feature_map.architecture, feature_map.readout, chunk)


def in_blocks(apply: Features, block: int | None) -> Features:
    """The same features, `block` samples at a time inside the compiled program.

    Bounds the memory of activations, and on CPU is faster than all samples at once when
    their activations do not fit in the caches. Differentiable.

    Args:
      apply: `(params, inputs) -> features`.
      block: samples at once, >= 1; None leaves `apply` as it is.

    Raises:
      ValueError: `block` below 1.
    """
    if block is None:
        return apply
    if block < 1:
        raise ValueError(f"a block has at least 1 sample, got {block}")

    def blocked(params: Any, inputs: Array) -> Array:
        if inputs.shape[0] <= block:
            return apply(params, inputs)
        whole = inputs.shape[0] // block * block
        blocks = inputs[:whole].reshape(-1, block, *inputs.shape[1:])
        rows = jax.lax.map(lambda part: apply(params, part), blocks)
        rows = rows.reshape(whole, -1)
        if whole == inputs.shape[0]:
            return rows
        return jnp.concatenate([rows, apply(params, inputs[whole:])])

    return blocked


def kernel(feature_map: FeatureMap) -> Kernel:
    """The exact kernel's function `k(x1 (n, *shape), x2 (m, *shape)) -> (n, m)`.

    Raises:
      ValueError: a description that has features (use `build`).
    """
    if feature_map.kind not in ("nngp", "ntk") or feature_map.architecture is None:
        raise ValueError(
            f"feature map {feature_map.kind!r} is no exact kernel; use build() instead"
        )
    return infinite_width.kernel_fn(feature_map.architecture, kind=feature_map.kind)


@jax.jit
def _flatten(params: Any, inputs: Array) -> Float[Array, "n d"]:
    del params
    check_floats(inputs)
    return inputs.reshape(inputs.shape[0], -1)


@functools.lru_cache(maxsize=32)
def _fourier_features(length_scale: float) -> Features:
    @jax.jit
    def apply(params: Any, inputs: Array) -> Float[Array, "n q"]:
        check_floats(inputs)
        scale = length_scale * math.sqrt(math.prod(inputs.shape[1:]))
        inputs = inputs.astype(params.dtype)
        return random_features.fourier_features(params, inputs, length_scale=scale)

    return apply


# The same function for the same architecture, so that it is compiled once.
@functools.lru_cache(maxsize=32)
def _random_features(
    architecture: Architecture, readout: bool, chunk: int | None
) -> Features:
    @jax.jit
    def apply(params: Any, inputs: Array) -> Float[Array, "n q"]:
        check_floats(inputs)
        inputs = inputs.astype(jax.tree.leaves(params)[0].dtype)
        features = random_features.features(
            params, inputs, architecture=architecture, chunk=chunk
        )
        if not readout:
            return features
        constant = jnp.full_like(features[:, :1], architecture.b_std)
        return jnp.concatenate([architecture.w_std * features, constant], axis=1)

    return apply
