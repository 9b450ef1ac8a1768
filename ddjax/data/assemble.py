"""From a source to a `Problem`: read, fit the preprocessing, apply it, place it."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddjax.data import feed, preprocess
from ddjax.data.errors import DataError
from ddjax.data.options import Options
from ddjax.data.problem import Problem, Split
from ddjax.data.resolution import default_float, warn_of_lost_digits, working_float
from ddjax.data.selection import Part, select
from ddjax.data.source import Source
from ddjax.data.stored import StoredInputs

__all__ = ["assemble"]


def assemble(name: str, source: Source, options: Options) -> Problem:
    """Makes a problem of a source.

    Every chosen sample is read block by block: into its place in an array of jax's
    default float (natural units), into the fingerprint and, for the training split,
    into the preprocessing's moments. Then the preprocessing is applied in place; inputs
    that come in float64 or as integers of 32 bits and more are read again for that, so
    that they are rounded to the default float behind the preprocessing and not in front
    of it. A column that keeps few digits of what varies all the same is warned of and
    recorded. Beyond those arrays (files, with `options.scratch`), memory does not
    depend on the number of samples.

    Raises:
      DataError: data that cannot be used.
    """
    parts, class_names, record = select(source, options)
    _refuse_one_row(parts["train"])
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
        names = source.columns.inputs if source.columns else None
        _warn_of_lost_digits(parts["train"], names, report, what="preprocessing")
    of_targets, targets_report = _fit_targets(parts["train"], source, options)
    return Problem(
        name=name,
        **_placed(arrays, parts, _targets(parts, of_targets), options),
        preprocessing=fitted,
        class_names=class_names,
        fingerprint=digest.hexdigest(),
        source={
            **source.origin,
            **record,
            "seed": options.seed,
            "limit": options.limit,
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
    for key, part in parts.items():
        _preprocess(fitted, arrays[key], part, unit)
    return fitted, report


def _in_files(part: Part, unit: float, digest: Any) -> StoredInputs:
    """Inputs that are not read yet; feeds the digest with the files' identity."""
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
    if part.labels is not None and part.targets is not None:
        digest.update(b"labels and targets")
    for known in (part.labels, part.targets):
        if known is not None:
            digest.update(known.astype("<f8").tobytes())


def _allocate(part: Part, key: str, options: Options) -> np.ndarray:
    """An array for a part's inputs, in memory or in a file under `scratch`."""
    dtype = default_float()
    shape = (len(part.indices), *part.rows.read(part.indices[:1]).shape[1:])
    if options.scratch is None:
        return np.empty(shape, dtype)
    try:
        Path(options.scratch).mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataError(f"scratch={str(options.scratch)!r} is no folder") from error
    folder = Path(tempfile.mkdtemp(prefix="ddjax-", dir=options.scratch))
    return np.lib.format.open_memmap(folder / f"{key}.npy", "w+", dtype, shape)


def _read_into(
    out: np.ndarray, part: Part, unit: float, digest: Any
) -> Iterator[np.ndarray]:
    """Reads natural inputs into `out`, feeds the digest and yields every block.

    The blocks are as precise as what is read; `out` is of the default float.
    """
    digest.update(json.dumps([list(out.shape), unit]).encode())
    _digest_choice(digest, part)
    rows = preprocess.rows_per_block(out.shape[1:])
    for start in range(0, len(out), rows):
        indices = part.indices[start : start + rows]
        raw = np.ascontiguousarray(part.rows.read(indices))
        if start == 0:
            digest.update(raw.dtype.str.encode())
        digest.update(raw)
        natural = _natural(raw, unit)
        block = out[start : start + rows]
        # Too large for the default float becomes infinite, which is reported below.
        with np.errstate(over="ignore"):
            block[...] = natural
        finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            _refuse_not_finite(part, int(indices[row]), natural[row], out.dtype)
        yield natural


def _refuse_not_finite(
    part: Part, index: int, sample: np.ndarray, dtype: np.dtype
) -> None:
    flat = sample.reshape(-1)
    with np.errstate(over="ignore"):
        place = int(np.argmin(np.isfinite(flat.astype(dtype))))
    raise DataError(
        f"{part.rows.where}: sample {index} has NaN or infinite values (as {dtype}): "
        f"{'feature' if sample.ndim == 1 else 'value'} {place} is {flat[place]:g}; "
        "leave the sample out, fill the value, or write it in a larger unit"
    )


def _natural(raw: np.ndarray, unit: float) -> np.ndarray:
    """Natural units, in the type that they are worked on in."""
    # Too large becomes infinite, which is reported where it is stored.
    with np.errstate(over="ignore"):
        natural = raw.astype(working_float(raw.dtype))
    if unit != 1:
        natural /= natural.dtype.type(unit)
    return natural


def _preprocess(
    fitted: preprocess.Preprocessing, array: np.ndarray, part: Part, unit: float
) -> None:
    """Applies the preprocessing to natural inputs, in place."""
    if fitted.kind != "none":
        first = part.rows.read(part.indices[:1])
        rounded = working_float(first.dtype) != array.dtype
        rows = preprocess.rows_per_block(array.shape[1:])
        for start in range(0, len(array), rows):
            chosen = slice(start, start + rows)
            natural = array[chosen]
            if rounded:
                natural = _natural(part.rows.read(part.indices[chosen]), unit)
            array[chosen] = preprocess.apply(fitted, natural)
    if isinstance(array, np.memmap):
        array.flush()


def _fit_targets(
    train: Part, source: Source, options: Options
) -> tuple[preprocess.Preprocessing | None, dict[str, Any]]:
    """The map of targets and its record; None and {} without them."""
    if train.targets is None:
        return None, {}
    if (train.targets == train.targets[:1]).all():
        value = ", ".join(f"{each:g}" for each in train.targets[0][:5])
        raise DataError(
            f"{train.rows.where}: the targets are {value} in every training row; there "
            "is nothing to learn"
        )
    kind = "standardize" if options.standardize_targets else "none"
    fitted, report = preprocess.fit_and_report(train.targets, kind=kind)
    names = source.columns.targets if source.columns else None
    _warn_of_lost_digits(train, names, report, what="standardize_targets")
    return fitted, {"targets_preprocessing": report}


def _warn_of_lost_digits(
    train: Part, names: Sequence[str] | None, report: dict[str, Any], *, what: str
) -> None:
    """Warns of the columns that a record calls coarse, by name."""
    found = report.get("coarse_channels", [])
    if not found:
        return
    kind = "target" if what == "standardize_targets" else "feature"
    channels = [each["channel"] for each in found]
    remedy = "subtract an offset from the column, or give it as float64"
    if found[0]["dtype"] == "float64":
        remedy = "subtract an offset from the column, in integers"
    elif report["kind"] not in ("standardize", "zca"):
        chosen = "True" if kind == "target" else "'standardize'"
        remedy = f"choose {what}={chosen}, which centres before it rounds"
    warn_of_lost_digits(
        train.rows.where,
        [repr(names[i]) if names else f"{kind} {i}" for i in channels],
        [(each["mean"], each["std"]) for each in found],
        dtype=np.dtype(found[0]["dtype"]),
        remedy=remedy,
    )


def _refuse_one_row(train: Part) -> None:
    if len(train.indices) < 2:
        raise DataError(
            f"{train.rows.where}: {len(train.indices)} sample is left for training "
            "where test and validation data are held out; at least 2 are needed"
        )


def _targets(
    parts: dict[str, Part], fitted: preprocess.Preprocessing | None
) -> dict[str, np.ndarray | None]:
    """Preprocessed targets of each part, in the default float."""
    found: dict[str, np.ndarray | None] = dict.fromkeys(parts)
    for key, part in parts.items():
        if part.targets is None or fitted is None:
            continue
        targets = part.targets.astype(working_float(part.targets.dtype))
        with np.errstate(over="ignore"):
            mapped = np.asarray(preprocess.apply(fitted, targets), default_float())
        if not np.isfinite(mapped).all():
            raise DataError(
                f"{part.rows.where}: targets reach {np.abs(targets).max():g}, too "
                f"large for {mapped.dtype}"
            )
        found[key] = mapped
    return found


def _placed(
    arrays: dict[str, Any],
    parts: dict[str, Part],
    targets: dict[str, np.ndarray | None],
    options: Options,
) -> dict[str, Split]:
    """The splits, on the device or on the host."""
    on_device = options.on_device
    if on_device == "auto":
        size = sum(array.nbytes for array in arrays.values())
        on_device = size <= options.device_budget
    splits = {}
    for key, inputs in arrays.items():
        labels = parts[key].labels
        labels = None if labels is None else labels.astype(np.int32)
        split = Split(inputs, labels, targets[key])
        if on_device and on_device != "files":
            split = feed.to_device(split)
        splits[key] = split
    return splits
