"""Frozen pretrained encoders as pure functions over a flat dict of weights."""

import difflib
import functools
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ddjax.models.encoders import weights as _weights
from ddjax.models.encoders.base import Encoder, EncoderError, MissingWeightsError
from ddjax.models.encoders.images import as_pixels
from ddjax.models.encoders.layers import at_least_single
from ddjax.models.encoders.registry import ENTRIES, Entry
from ddjax.storage.places import data_directory

__all__ = [
    "ENTRIES",
    "Encoder",
    "EncoderError",
    "MissingWeightsError",
    "load",
    "random",
    "weights_file",
]


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    **options: Any,
) -> Encoder:
    """An encoder with its weights from a safetensors file.

    Args:
      name: one of `ENTRIES`.
      weights: the file. Default: the entry's file name in `directory/encoders`.
      directory: the data directory. Default: the environment's `DDJAX_DATA_DIR`, then
        `./local_data`.
      dtype: what the encoder computes in: `float32`, `float64` or `bfloat16`. Weights
        stored in F16, BF16, F32 or F64 are brought to it. Features are float32, or
        float64 if that is it.
      **options: of the entry; an unknown one is an error that lists them.

    Raises:
      MissingWeightsError: there is no such file; the message says where to get it.
      EncoderError: an unknown name, option or dtype; a file that is a pickle, damaged,
        or does not hold exactly these weights.
    """
    entry = _entry(name, options)
    path = weights_file(name, weights=weights, directory=directory)
    arrays = _weights.read(
        path,
        entry.shapes(entry.spec),
        where=f"Get {entry.original} ({entry.terms.licence}) from {entry.repository}, "
        "as safetensors, and put it there or give weights=PATH",
        ignored=entry.ignored,
        convert=entry.convert,
    )
    source = {"file": path.name, "sha256": _weights.sha256(path)}
    return _encoder(name, entry, arrays, options, source, dtype)


def random(
    name: str, key: Key[Array, ""], *, dtype: str = "float32", **options: Any
) -> Encoder:
    """An encoder with random weights of the right names and shapes.

    For dry runs and for measuring costs; its `source` says that it is random.

    Args:
      name: one of `ENTRIES`.
      key: of the weights.
      dtype: see `load`.
      **options: see `load`.

    Raises:
      EncoderError: an unknown name, option or dtype.
    """
    entry = _entry(name, options)
    arrays = _weights.draw(key, entry.shapes(entry.spec))
    source = {"file": None, "sha256": None, "random": True}
    return _encoder(name, entry, arrays, options, source, dtype)


def _entry(name: str, options: dict[str, Any]) -> Entry:
    if name not in ENTRIES:
        close = difflib.get_close_matches(name, ENTRIES, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise EncoderError(
            f"unknown encoder {name!r}; known: {', '.join(ENTRIES)}.{guess}"
        )
    entry = ENTRIES[name]
    for option, value in options.items():
        if option not in entry.options:
            known = ", ".join(("dtype", *entry.options))
            raise EncoderError(f"{name} has no option {option!r}; it has: {known}")
        if value not in entry.options[option]:
            allowed = ", ".join(repr(other) for other in entry.options[option])
            raise EncoderError(f"{option}={value!r}; allowed: {allowed}")
    return entry


def weights_file(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> Path:
    """Where `load` looks for weights.

    Raises:
      EncoderError: an unknown name.
    """
    entry = _entry(name, {})
    if weights is not None:
        return Path(weights)
    folder = data_directory(directory)
    if folder.name != "encoders":
        folder = folder / "encoders"
    return folder / entry.file


def _encoder(
    name: str,
    entry: Entry,
    arrays: dict[str, np.ndarray],
    options: dict[str, Any],
    source: dict[str, Any],
    dtype: str,
) -> Encoder:
    options = {option: values[0] for option, values in entry.options.items()} | options
    return Encoder(
        name=name,
        params=_weights.to_device(entry.prepare(arrays, spec=entry.spec), dtype),
        apply=functools.partial(_features, entry=entry, options=options),
        input_size=entry.input_size,
        width=entry.width,
        source={
            "repository": entry.repository,
            "licence": entry.terms.licence,
            "dtype": dtype,
            "options": options,
            **source,
        },
    )


def _features(
    params: dict[str, Array],
    images: Any,
    *,
    entry: Entry,
    options: dict[str, Any],
) -> Float[Array, "b p"]:
    images = as_pixels(images)
    dtype = next(iter(params.values())).dtype
    images = images.astype(jnp.promote_types(images.dtype, at_least_single(dtype)))
    mean = jnp.asarray(entry.mean, images.dtype).reshape(1, 1, 1, 3)
    std = jnp.asarray(entry.std, images.dtype).reshape(1, 1, 1, 3)
    normalised = ((images - mean) / std).astype(dtype)
    features = entry.apply(params, normalised, spec=entry.spec, **options)
    return features.astype(at_least_single(dtype))
