"""Networks that were trained here and are used as they are: teachers, frozen encoders.

A trained network without its head turns images into representations. It lies in one
safetensors file: the arrays, and in the metadata as JSON which network they are of,
what its inputs are normalised with, where it comes from, and a digest.
"""

import functools
import hashlib
import inspect
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from ddjax.kernels._keywords import check_keywords
from ddjax.models.encoders import weights as weights_files
from ddjax.models.encoders.base import Encoder, EncoderError, MissingWeightsError
from ddjax.models.encoders.images import as_pixels
from ddjax.models.encoders.layers import at_least_single
from ddjax.models.networks import NETWORKS, check_name, make
from ddjax.storage import atomic
from ddjax.storage.checksum import checksum

__all__ = [
    "ENCODER_NAME",
    "TrainedNetwork",
    "as_encoder",
    "digest",
    "load",
    "make_network",
    "network_setting",
    "save",
]

ENCODER_NAME = "network_file"
"""What an encoder that is a trained network is called."""

_FORMAT, _VERSION = "ddjax.trained_network", 1
_METADATA = "ddjax"
_WHERE = "Train one, or give the path of a file that ddjax.models.trained.save wrote"


class TrainedNetwork(NamedTuple):
    """A network without its head, and all that is needed to use it.

    Attributes:
      network: `name` in `ddjax.models.networks.NETWORKS` and every keyword of that
        factory but `outputs`, see `network_setting`.
      input_shape: `(height, width, channels)` that it was trained on, 1 or 3 channels.
      variables: as flax applies them: `params` and, of batch normalisation,
        `batch_stats`.
      mean: of pixels in [0, 1], one a channel; the network sees (pixels - mean) / std.
      std: one a channel, > 0.
      provenance: where it comes from (JSON-able); no part of the digest.
    """

    network: dict[str, Any]
    input_shape: tuple[int, ...]
    variables: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: dict[str, Any]


def network_setting(setting: str | Mapping[str, Any]) -> dict[str, Any]:
    """The name and every keyword of a network without a head, defaults included.

    Args:
      setting: a name in `ddjax.models.networks.NETWORKS`, or a mapping with `name` and
        keywords of that factory; `outputs` is not among them.

    Raises:
      ValueError: an unknown name or keyword, with the known ones.
    """
    given = {"name": setting} if isinstance(setting, str) else dict(setting)
    name: Any = given.pop("name", None)
    check_name(name)
    if given.pop("outputs", None) is not None:
        raise ValueError(f"network {name!r} is made without its head: give no outputs")
    check_keywords(f"network {name!r}", NETWORKS[name], {"outputs", *given})
    parameters = inspect.signature(NETWORKS[name]).parameters
    defaults = {key: each.default for key, each in parameters.items()}
    defaults.pop("outputs")
    # In JSON's types, for a network to be the same before and after it was saved.
    return json.loads(json.dumps({"name": name, **defaults, **given}))


def make_network(setting: str | Mapping[str, Any]) -> nn.Module:
    """The network of a setting, without a head.

    Raises:
      ValueError: see `network_setting`; or a setting that the factory refuses.
    """
    keywords = network_setting(setting)
    return make(keywords.pop("name"), outputs=None, **keywords)


def save(path: str | os.PathLike[str], trained: TrainedNetwork) -> Path:
    """Writes a trained network to one file, in one step. Equal ones give equal bytes.

    Args:
      path: ends in `.safetensors`; missing parent folders are made, an older file is
        replaced.
      trained: the network.

    Raises:
      ValueError: a path with another ending, or a provenance that is not JSON-able.
      ddjax.storage.CannotWrite: a full or read-only disk.
    """
    from safetensors.numpy import save as serialized

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a trained network's file ends in .safetensors")
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "digest": digest(trained),
        **_meaning(trained),
        "provenance": trained.provenance,
    }
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
    arrays = {name: np.asarray(array) for name, array in _flat_arrays(trained).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.sweep(path.parent, re.escape(path.name))
    atomic.replace_file(path, serialized(arrays, {_METADATA: text}))
    return path


def load(path: str | os.PathLike[str]) -> TrainedNetwork:
    """Reads what `save` wrote, to the bit; nothing in it is executed.

    Every array is compared with the shape that the network has it in and must be
    finite, and all of it must have the digest that it was saved with.

    Returns:
      The network, its arrays on the host with the dtypes that they were saved with.

    Raises:
      MissingWeightsError: there is no such file.
      EncoderError: it is a pickle, damaged, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(f"{path}: there is no such file. {_WHERE}")
    document = _document(path)
    try:
        described = _parsed(document)
        shapes = _shapes(described)
    except ValueError as error:
        raise EncoderError(f"{path}: {error}") from error
    arrays = weights_files.read(
        path, shapes, where=_WHERE, ignored="", convert=lambda arrays: arrays
    )
    trained = described._replace(variables=unflatten_dict(arrays, sep="/"))
    found = digest(trained)
    if found != document["digest"]:
        raise EncoderError(
            f"{path}: the content has the digest {found[:16]}…, the file says "
            f"{str(document['digest'])[:16]}…: it was changed or damaged"
        )
    return trained


def digest(trained: TrainedNetwork) -> str:
    """The sha256 (hex) over all that its representations depend on, bit by bit."""
    meaning = json.dumps(_meaning(trained), sort_keys=True, allow_nan=False)
    return hashlib.sha256(
        f"{meaning}\n{checksum(_flat_arrays(trained))}".encode()
    ).hexdigest()


def as_encoder(trained: TrainedNetwork, *, dtype: str | None = None) -> Encoder:
    """A trained network as a frozen encoder.

    It takes RGB pixels in [0, 1] and normalises them itself; a network of one channel
    sees their mean over the channels. Its features are the representations that the
    network's head would be given, with running statistics in its normalisations.

    Args:
      trained: the network.
      dtype: what it computes in: `float32`, `float64` or `bfloat16`; None takes that of
        its parameters. Features are float32, or float64 if that is it.

    Returns:
      The encoder. Of equal networks `apply` is the same function, so that networks of
      one run are compiled once.

    Raises:
      EncoderError: an unknown dtype, or inputs that are not square.
    """
    height, width, _ = trained.input_shape
    if height != width:
        raise EncoderError(
            f"the network was trained on {height} x {width} images; an encoder's are "
            "square"
        )
    arrays = {name: np.asarray(array) for name, array in _flat_arrays(trained).items()}
    chosen = dtype or next(iter(_trained_arrays(arrays).values())).dtype.name
    params = weights_files.to_device(_trained_arrays(arrays), chosen)
    # Statistics stay as wide as they are: networks compute with them in float32.
    params |= {name: jnp.asarray(arrays[name]) for name in arrays.keys() - params}
    meaning = _meaning(trained)
    apply = _application(json.dumps(meaning, sort_keys=True))
    images = jax.ShapeDtypeStruct((1, height, width, 3), np.float32)
    features = jax.eval_shape(apply, params, images)
    return Encoder(
        name=ENCODER_NAME,
        params=params,
        apply=apply,
        input_size=height,
        width=features.shape[1],
        source={**meaning, "dtype": chosen, "sha256": digest(trained)},
    )


@functools.lru_cache(maxsize=16)
def _application(text: str) -> Any:
    meaning = json.loads(text)
    network, channels = make_network(meaning["network"]), meaning["input_shape"][-1]

    def apply(params: dict[str, Array], images: Any) -> Float[Array, "b p"]:
        images = as_pixels(images)
        dtype = next(iter(_trained_arrays(params).values())).dtype
        wide = at_least_single(dtype), at_least_single(images.dtype)
        images = images.astype(np.result_type(*wide))
        if channels == 1:
            images = images.mean(axis=-1, keepdims=True)
        mean, std = (
            jnp.asarray(meaning[name], images.dtype).reshape(1, 1, 1, -1)
            for name in ("mean", "std")
        )
        normalised = ((images - mean) / std).astype(dtype)
        features: Any = network.apply(unflatten_dict(params, sep="/"), normalised)
        return features.astype(at_least_single(dtype))

    return apply


def _meaning(trained: TrainedNetwork) -> dict[str, Any]:
    """All but the arrays and where they come from, JSON-able."""
    return {
        "network": trained.network,
        "input_shape": [int(size) for size in trained.input_shape],
        "mean": [float(value) for value in trained.mean],
        "std": [float(value) for value in trained.std],
    }


def _flat_arrays(trained: TrainedNetwork) -> dict[str, Any]:
    return flatten_dict(trained.variables, sep="/")


def _trained_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that an optimiser changed: all but the running statistics."""
    return {name: arrays[name] for name in arrays if name.startswith("params/")}


def _shapes(trained: TrainedNetwork) -> dict[str, tuple[int, ...]]:
    """The shape of every array of the network by name."""
    images = jax.ShapeDtypeStruct((1, *trained.input_shape), np.float32)
    network = make_network(trained.network)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    flat: dict[str, Any] = flatten_dict(variables, sep="/")
    return {name: each.shape for name, each in flat.items()}


def _document(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        # Opening compares the header with the length of the file.
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path}: not a valid safetensors file: {error}") from error
    try:
        document = json.loads(metadata[_METADATA])
        if document["format"] != _FORMAT:
            raise ValueError
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise EncoderError(
            f"{path}: its metadata do not say that it is a trained network "
            f"({_FORMAT}). {_WHERE}"
        ) from error
    return document


def _parsed(document: dict[str, Any]) -> TrainedNetwork:
    """The network that a document describes, without its arrays; nothing is trusted."""
    if document.get("version") != _VERSION:
        raise ValueError(
            f"version {document.get('version')!r} of the format; known: {_VERSION}"
        )
    kinds = {"digest": str, "network": dict, "input_shape": list}
    kinds |= {"mean": list, "std": list, "provenance": dict}
    for name, kind in kinds.items():
        if not isinstance(document.get(name), kind):
            raise ValueError(f"its metadata lack {name} ({kind.__name__})")
    shape, mean, std = (document[name] for name in ("input_shape", "mean", "std"))
    sizes = all(type(size) is int and size > 0 for size in shape)
    if not (sizes and len(shape) == 3 and shape[2] in (1, 3)):
        raise ValueError(
            f"input_shape is {shape}; allowed: height, width and 1 or 3 channels"
        )
    for name, values, least in (("mean", mean, -np.inf), ("std", std, 0.0)):
        numbers = all(type(value) is float and value > least for value in values)
        if not (numbers and len(values) == shape[2] and np.isfinite(values).all()):
            raise ValueError(
                f"{name} is {values}; it must be {shape[2]} finite numbers"
                + (" > 0" if name == "std" else "")
            )
    try:
        known = network_setting(document["network"])
        make_network(known)
    except TypeError as error:
        raise ValueError(f"network {document['network']}: {error}") from error
    if known != document["network"]:
        raise ValueError(
            f"network {document['network']} is not described in full: {known}"
        )
    return TrainedNetwork(
        document["network"],
        tuple(shape),
        {},
        tuple(mean),
        tuple(std),
        document["provenance"],
    )
