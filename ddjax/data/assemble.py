"""From a source to a `Problem`: read, fit the preprocessing, apply it, place it."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ddjax.data import preprocess
from ddjax.data.errors import DataError
from ddjax.data.options import Options
from ddjax.data.problem import Problem, Split
from ddjax.data.selection import Part, select
from ddjax.data.source import Source
from ddjax.data.stored import StoredInputs

__all__ = ["assemble"]


def assemble(name: str, source: Source, options: Options) -> Problem:
    """Makes a problem of a source.

    Every chosen sample is read once, block by block: into its place in a float32
    array (of natural units), into the fingerprint and, for the training split, into
    the preprocessing's moments. Then the preprocessing is applied in place. Beyond
    those float32 arrays (files, with `options.scratch`), memory does not depend on the
    number of samples.

    Args:
      name: the problem's name.
      source: the data.
      options: what to do with them.

    Returns:
      The problem.

    Raises:
      DataError: data that cannot be used.
    """
    parts, class_names, record = select(source, options)
    digest = hashlib.sha256(json.dumps(class_names).encode())
    if source.columns is not None:
        names = [source.columns.inputs, source.columns.targets]
        digest.update(json.dumps(names).encode())
    arrays: dict[str, Any]
    if options.on_device == "files":
        arrays = {
            key: _in_files(part, source.unit, digest) for key, part in parts.items()
        }
        fitted = preprocess.identity()
        report = {"kind": fitted.kind, "count": len(arrays["train"])}
    else:
        arrays = {key: _allocate(part, key, options) for key, part in parts.items()}
        fitted, report = _read_all(arrays, parts, source.unit, digest, options)
    of_targets, targets_report = _fit_targets(parts["train"], options)
    return Problem(
        name=name,
        **_placed(arrays, _with_targets(parts, of_targets), options),
        preprocessing=fitted,
        class_names=class_names,
        fingerprint=digest.hexdigest(),
        source={
            **source.origin,
            **record,
            "seed": int(options.seed),
            "limit": None if options.limit is None else int(options.limit),
            "unit": source.unit,
            "counts": {key: len(array) for key, array in arrays.items()},
            "preprocessing": report,
            **targets_report,
        },
        targets_preprocessing=of_targets,
        columns=source.columns,
    )


def _read_all(
    arrays: dict[str, np.ndarray],
    parts: dict[str, Part],
    unit: float,
    digest: Any,
    options: Options,
) -> tuple[preprocess.Preprocessing, dict[str, Any]]:
    """Fills the arrays with preprocessed inputs; the preprocessing and its record."""
    # The parts are read in this order, which is part of the fingerprint.
    reading = {
        key: _read_into(arrays[key], part, unit, digest) for key, part in parts.items()
    }
    fitted, report = preprocess.fit_and_report(
        reading.pop("train"), kind=options.preprocessing, zca_ridge=options.zca_ridge
    )
    for rest in reading.values():
        for _ in rest:
            pass
    for array in arrays.values():
        _apply_in_place(fitted, array)
    return fitted, report


def _in_files(part: Part, unit: float, digest: Any) -> StoredInputs:
    """Inputs that are not read yet; feeds the digest with what tells them apart."""
    if part.rows.identity is None:
        raise DataError(
            f"{part.rows.where}: on_device='files' is for data that are read sample by "
            "sample, image folders and TFDS in ArrayRecord files"
        )
    first = part.rows.read(part.indices[:1])
    # Floats may hold NaN, which only reading them shows.
    if first.dtype.kind not in "iub":
        raise DataError(
            f"{part.rows.where}: inputs of {first.dtype}; on_device='files' is for "
            "images of integer pixels"
        )
    shape = first.shape[1:]
    digest.update(json.dumps(["files", len(part.indices), list(shape), unit]).encode())
    _digest_choice(digest, part)
    digest.update(part.rows.identity(part.indices))
    return StoredInputs(part.rows.read, part.indices, shape=shape, unit=unit)


def _digest_choice(digest: Any, part: Part) -> None:
    digest.update(part.indices.astype("<i8").tobytes())
    if part.targets is not None:
        digest.update(part.targets.astype("<f8").tobytes())


def _allocate(part: Part, key: str, options: Options) -> np.ndarray:
    """A float32 array for a part's inputs, in memory or in a file under `scratch`."""
    shape = (len(part.indices), *part.rows.read(part.indices[:1]).shape[1:])
    if options.scratch is None:
        return np.empty(shape, np.float32)
    Path(options.scratch).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ddjax-", dir=options.scratch))
    return np.lib.format.open_memmap(folder / f"{key}.npy", "w+", np.float32, shape)


def _read_into(
    out: np.ndarray, part: Part, unit: float, digest: Any
) -> Iterator[np.ndarray]:
    """Reads natural inputs into `out`, feeds the digest and yields every block."""
    digest.update(json.dumps([list(out.shape), unit]).encode())
    _digest_choice(digest, part)
    rows = preprocess.rows_per_block(out.shape[1:])
    for start in range(0, len(out), rows):
        indices = part.indices[start : start + rows]
        raw = np.ascontiguousarray(part.rows.read(indices))
        if start == 0:
            digest.update(raw.dtype.str.encode())
        digest.update(raw)
        block = out[start : start + rows]
        # Too large for float32 becomes infinite, which is reported below.
        with np.errstate(over="ignore"):
            block[...] = raw
        if unit != 1:
            block /= np.float32(unit)
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not finite.all():
            sample = int(indices[np.argmin(finite)])
            raise DataError(
                f"{part.rows.where}: sample {sample} has NaN or infinite values (as "
                "float32)"
            )
        yield block


def _apply_in_place(fitted: preprocess.Preprocessing, array: np.ndarray) -> None:
    if fitted.kind != "none":
        for block in preprocess.blocks(array):
            block[...] = preprocess.apply(fitted, block)
    if isinstance(array, np.memmap):
        array.flush()


def _fit_targets(
    train: Part, options: Options
) -> tuple[preprocess.Preprocessing | None, dict[str, Any]]:
    """The map of regression targets and its record; None and {} without them."""
    if train.targets is None or train.targets.ndim == 1:
        return None, {}
    kind = "standardize" if options.standardize_targets else "none"
    fitted, report = preprocess.fit_and_report(train.targets, kind=kind)
    return fitted, {"targets_preprocessing": report}


def _with_targets(
    parts: dict[str, Part], fitted: preprocess.Preprocessing | None
) -> dict[str, Part]:
    """The parts with preprocessed targets, where they are real-valued."""
    if fitted is None:
        return parts
    mapped = {}
    for key, part in parts.items():
        assert part.targets is not None  # every part has targets, or none
        targets = np.asarray(preprocess.apply(fitted, part.targets))
        with np.errstate(over="ignore"):
            finite = np.isfinite(targets.astype(np.float32)).all()
        if not finite:
            raise DataError(
                f"{part.rows.where}: targets reach {np.abs(part.targets).max():g}, "
                "too large for float32"
            )
        mapped[key] = part._replace(targets=targets)
    return mapped


def _placed(
    arrays: dict[str, Any], parts: dict[str, Part], options: Options
) -> dict[str, Split]:
    on_device = options.on_device
    if on_device == "auto":
        size = sum(array.nbytes for array in arrays.values())
        on_device = size <= options.device_budget
    splits = {}
    for key, inputs in arrays.items():
        targets = parts[key].targets
        if targets is not None:
            targets = targets.astype(np.float32 if targets.ndim == 2 else np.int32)
        if on_device and on_device != "files":
            inputs = jnp.asarray(inputs)
            targets = None if targets is None else jnp.asarray(targets)
        splits[key] = Split(inputs, targets)
    return splits
