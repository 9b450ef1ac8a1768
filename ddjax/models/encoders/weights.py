"""Weights of encoders: safetensors files, checked against the shapes expected."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ddjax.models.encoders.base import EncoderError, MissingWeightsError

__all__ = ["DTYPES", "Shapes", "draw", "read", "sha256", "to_device"]

Shapes = Mapping[str, tuple[int, ...]]

DTYPES = ("float32", "float64", "bfloat16")
"""What an encoder computes in."""

_STORED = ("F16", "BF16", "F32", "F64")
_PICKLES = (".pth", ".pt", ".tar", ".bin", ".pkl", ".ckpt")
# Names of arrays that a message lists.
_MOST_NAMES = 5


def read(
    path: Path,
    shapes: Shapes,
    *,
    where: str,
    ignored: str,
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """The weights in a safetensors file, each checked; nothing is unpickled.

    Weights may be stored as F16, BF16, F32 or F64 and keep that dtype here.

    Args:
      path: the file.
      shapes: of every weight by name, all of them needed.
      where: how to get the file, for the error when it is not there.
      ignored: regular expression of names that may be there and are left out, such as
        those of a classifier.
      convert: from the names and arrays in the file to those in `shapes`, where the
        file has those of another library.

    Raises:
      MissingWeightsError: there is no such file.
      EncoderError: it is a pickle, truncated or damaged; a weight is missing,
        unexpected, of the wrong shape, of a dtype that is no float, or not finite.
    """
    from safetensors import SafetensorError, safe_open

    if path.name.endswith(_PICKLES):
        raise EncoderError(
            f"{path}: a pickle can run any code and is not opened. Convert it with "
            "PyTorch: `state = torch.load(FILE, weights_only=True)`, then "
            "`safetensors.torch.save_file(TENSORS, 'weights.safetensors')` with the "
            "tensors in it by name (of a MoCo-v3 checkpoint: state['state_dict'])"
        )
    if not path.is_file():
        raise MissingWeightsError(f"{path}: there is no such file. {where}")
    skip = re.compile(ignored)
    try:
        # Opening compares the header with the length of the file.
        with safe_open(path, framework="numpy") as file:
            names = [name for name in file.keys() if not skip.fullmatch(name)]
            for name in names:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _STORED:
                    raise EncoderError(
                        f"{path}: {name} has dtype {dtype}; allowed: "
                        f"{', '.join(_STORED)}"
                    )
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"{path}: not a valid safetensors file: {error}") from error
    try:
        arrays = convert(arrays)
        _check(arrays, shapes)
    except (ValueError, KeyError) as error:
        raise EncoderError(f"{path}: {error}") from error
    return arrays


def _check(arrays: dict[str, np.ndarray], shapes: Shapes) -> None:
    for problem, names in (
        ("lacks", set(shapes) - set(arrays)),
        ("has the unexpected", set(arrays) - set(shapes)),
    ):
        if names:
            some = ", ".join(sorted(names)[:_MOST_NAMES])
            more = (
                f" and {len(names) - _MOST_NAMES} more"
                if len(names) > _MOST_NAMES
                else ""
            )
            raise ValueError(f"the file {problem} {some}{more}")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name} has numbers that are not finite")


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def draw(key: Key[Array, ""], shapes: Shapes) -> dict[str, np.ndarray]:
    """Random weights that keep a signal's scale, for dry runs and measuring costs.

    Kernels are normal with variance 2 / (inputs of a unit), embeddings with standard
    deviation 0.02; scales and variances are one, biases and means zero.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return {name: _draw(random, name, shape) for name, shape in shapes.items()}


def _draw(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    last = name.rsplit(".", 1)[-1]
    if len(shape) == 1:
        one = last in ("weight", "gamma", "running_var")
        return np.full(shape, float(one), np.float32)
    scale = math.sqrt(2 / math.prod(shape[1:])) if last == "weight" else 0.02
    return scale * random.standard_normal(shape, dtype=np.float32)


def to_device(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, Array]:
    """The weights in the dtype to compute in: widening is exact, narrowing rounds.

    Raises:
      EncoderError: an unknown dtype, or float64 without 64-bit numbers enabled.
    """
    if dtype not in DTYPES:
        raise EncoderError(f"dtype={dtype!r}; allowed: {', '.join(DTYPES)}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise EncoderError("dtype='float64' needs jax.config's jax_enable_x64")
    return {
        name: jnp.asarray(array.astype(jnp.dtype(dtype)))
        for name, array in arrays.items()
    }
