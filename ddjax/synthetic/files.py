"""Distilled sets on disk: safetensors for the numbers, JSON for the rest."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from numpy import ndarray

from ddjax.storage import atomic
from ddjax.synthetic import encoding
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import dumps, loads
from ddjax.synthetic.schema import check_document

__all__ = ["DOCUMENT", "RUN_SUBFOLDER", "DistilledSetError", "load", "save"]

DOCUMENT = "distilled.json"

RUN_SUBFOLDER = "distilled"
"""Where a run's folder holds its set."""

_METADATA = "ddjax"
_TENSORS = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")
_LARGEST_DOCUMENT = 64 * 2**20
_DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "I32": "int32"}


class DistilledSetError(ValueError):
    """A distilled set that cannot be saved or loaded: which file, and why."""


def save(path: str | os.PathLike[str], distilled: DistilledSet) -> Path:
    """Writes a distilled set, in one step even when the machine stops half way.

    A path that ends in `.safetensors` becomes one file, with the JSON in its metadata.
    Any other becomes a folder: `distilled.json`, and beside it the tensors under a name
    made from their digest. The tensors are written first, and replacing
    `distilled.json` is the step that makes them the set: before it the folder holds the
    old set, after it the new one. Equal sets give equal bytes. One process may write to
    a path at a time; any number may read.

    Args:
      path: where; missing parent folders are made, an older set there is replaced,
        other files in the folder stay.
      distilled: what; its provenance and certificate may hold what JSON has, tuples
        (which become lists) and NumPy scalars.

    Raises:
      DistilledSetError: the set is not valid (see `checks.check`), not JSON-able, or
        cannot be written there. What is there then is the old set or the new, whole.
    """
    path = Path(path)
    try:
        document, arrays = encoding.encode(distilled)
    except (ValueError, RecursionError) as error:
        raise DistilledSetError(f"{path}: cannot be saved: {error}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(path.parent, re.escape(path.name))
        if path.suffix == ".safetensors":
            metadata = {_METADATA: dumps(document)}
            atomic.replace_file(path, _serialized(arrays, metadata))
        else:
            _save_folder(path, document, arrays)
    except OSError as error:
        raise DistilledSetError(f"{path}: cannot be written: {error}") from error
    return path


def load(path: str | os.PathLike[str]) -> DistilledSet:
    """Reads what `save` wrote, to the bit; nothing in it is trusted or executed.

    The sizes, dtypes and names in the tensor file are compared with the JSON and with
    the file's length before anything is allocated; every number must be finite, and the
    content must have the digest that it was saved with.

    Args:
      path: a folder or a `.safetensors` file.

    Returns:
      The set, its arrays in host memory with the dtypes they were saved with.

    Raises:
      DistilledSetError: there is none, or it is damaged, inconsistent, or written by a
        newer version of the schema.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise DistilledSetError(f"{path}: there is no such file or folder")
    return _load_tensors(path, None)


def _save_folder(
    path: Path, document: dict[str, Any], arrays: dict[str, ndarray]
) -> None:
    if path.is_dir():
        _write_set(path, document, arrays)
        return
    folder = atomic.beside(path)
    folder.mkdir()
    try:
        _write_set(folder, document, arrays)
        folder.rename(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    atomic.sync_folder(path.parent)


def _write_set(
    folder: Path, document: dict[str, Any], arrays: dict[str, ndarray]
) -> None:
    tensors = f"tensors-{document['digest'][:16]}.safetensors"
    atomic.replace_file(folder / tensors, _serialized(arrays, None))
    text = dumps({**document, "tensors": tensors})
    atomic.replace_file(folder / DOCUMENT, text.encode())
    atomic.sweep(folder, f"{_TENSORS.pattern}|{re.escape(DOCUMENT)}")
    for old in folder.iterdir():
        if _TENSORS.fullmatch(old.name) and old.name != tensors:
            old.unlink(missing_ok=True)


def _serialized(arrays: dict[str, ndarray], metadata: dict[str, str] | None) -> bytes:
    from safetensors.numpy import save

    return save(arrays, metadata)


def _load_folder(path: Path) -> DistilledSet:
    document, tensors = _read_document(path)
    if not tensors.exists():
        # Replaced by another process between the two looks.
        document, tensors = _read_document(path)
    return _load_tensors(tensors, document)


def _read_document(path: Path) -> tuple[dict[str, Any], Path]:
    file = path / DOCUMENT
    if not file.is_file():
        own = path / RUN_SUBFOLDER
        hint = f"; load the run's set, {own}" if (own / DOCUMENT).is_file() else ""
        raise DistilledSetError(f"{path}: there is no {DOCUMENT} in this folder{hint}")
    try:
        if file.stat().st_size > _LARGEST_DOCUMENT:
            raise ValueError(f"larger than {_LARGEST_DOCUMENT} bytes")
        document = loads(file.read_bytes())
        tensors = document.pop("tensors", None)
        check_document(document)
        if not (isinstance(tensors, str) and _TENSORS.fullmatch(tensors)):
            raise ValueError(
                f"names the tensor file {tensors!r}; allowed is a name like "
                "tensors-0123456789abcdef.safetensors in the same folder"
            )
    except (ValueError, OSError) as error:
        raise DistilledSetError(f"{file}: {error}") from error
    return document, path / tensors


def _load_tensors(path: Path, document: dict[str, Any] | None) -> DistilledSet:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DistilledSetError(f"{path}: there is no such file")
    try:
        # Opening compares the header with the length of the file.
        with safe_open(path, framework="numpy") as file:
            if document is None:
                document = _document_in(file.metadata())
            _check_header(file, document["arrays"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return encoding.decode(document, arrays)
    except SafetensorError as error:
        raise DistilledSetError(
            f"{path}: not a valid safetensors file: {error}"
        ) from error
    except (ValueError, OSError) as error:
        raise DistilledSetError(f"{path}: {error}") from error


def _document_in(metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or set(metadata) != {_METADATA}:
        raise ValueError(
            f"metadata has the keys {sorted(metadata or {})}, not [{_METADATA!r}]: "
            "this is no distilled set"
        )
    document = loads(metadata[_METADATA])
    check_document(document)
    return document


def _check_header(file: Any, declared: dict[str, Any]) -> None:
    names = set(file.keys())
    if names != set(declared):
        raise ValueError(
            f"the file holds the arrays {sorted(names)}, the JSON declares "
            f"{sorted(declared)}"
        )
    for name in names:
        view = file.get_slice(name)
        dtype, shape = _DTYPES.get(view.get_dtype()), list(view.get_shape())
        if dtype is None:
            allowed = ", ".join(_DTYPES)
            raise ValueError(
                f"array {name} has dtype {view.get_dtype()}; allowed: {allowed}"
            )
        if {"dtype": dtype, "shape": shape} != declared[name]:
            raise ValueError(
                f"array {name} has dtype {dtype} and shape {shape}, the JSON declares "
                f"{declared[name]}"
            )
