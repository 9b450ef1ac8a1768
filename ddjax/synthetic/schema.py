"""What the JSON document and the arrays of a distilled set on disk are called."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from ddjax.synthetic.checks import check_path
from ddjax.synthetic.json_text import dumps

__all__ = [
    "FORMAT",
    "OF_TARGETS",
    "PREPROCESSING",
    "SCHEMA_VERSION",
    "STATISTICS",
    "STORED",
    "check_digest",
    "check_document",
    "content_digest",
    "described",
]

# Version 2 added `targets_preprocessing` and `columns`. Version 3 has `decoder` in
# place of `parameterization`, a `recipe`, and targets among the stored arrays.
SCHEMA_VERSION = 3

FORMAT = "ddjax distilled set"
STORED = "stored."
PREPROCESSING = "preprocessing"
OF_TARGETS = "targets_preprocessing"
STATISTICS = ("mean", "std", "whiten", "unwhiten")

_DICT_OR_NONE = (dict, type(None))
_TYPES_OF_1 = {
    "format": str,
    "schema_version": int,
    "digest": str,
    "arrays": dict,
    "parameterization": dict,
    "targets_kind": str,
    "preprocessing": dict,
    "class_names": (list, type(None)),
    "provenance": dict,
    "certificate": _DICT_OR_NONE,
}
_TYPES_OF_2 = {**_TYPES_OF_1, OF_TARGETS: _DICT_OR_NONE, "columns": _DICT_OR_NONE}
_REPLACED_IN_3 = ("parameterization", "targets_kind")
_TYPES_OF_3 = {
    **{key: types for key, types in _TYPES_OF_2.items() if key not in _REPLACED_IN_3},
    "decoder": dict,
    "recipe": dict,
}
_TYPES = {1: _TYPES_OF_1, 2: _TYPES_OF_2, 3: _TYPES_OF_3}


def check_document(document: dict[str, Any]) -> None:
    """Raises unless a JSON document is one of a known schema version.

    Raises:
      ValueError: another format, another (such as a newer) schema version, unknown or
        missing keys, or a value of the wrong type.
    """
    if document.get("format") != FORMAT:
        raise ValueError(
            f"format is {document.get('format')!r}, not {FORMAT!r}: this is no "
            "distilled set"
        )
    version = document.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version is {version!r}; expected a positive integer")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"schema_version is {version}, newer than {SCHEMA_VERSION}, the newest "
            "that this version of ddjax reads: upgrade ddjax to load it"
        )
    _check_keys("the document", document, _TYPES[version])
    decoder = "parameterization" if version < 3 else "decoder"
    _check_keys(decoder, document[decoder], {"name": str, "settings": dict})
    for where in (PREPROCESSING, OF_TARGETS):
        if document.get(where) is not None:
            _check_keys(where, document[where], {"kind": str})
            _check_statistics(where, document["arrays"])
    if document.get("columns") is not None:
        _check_keys(
            "columns",
            document["columns"],
            {"inputs": list, "targets": list, "units": dict},
        )
    for name in document["class_names"] or ():
        if type(name) is not str:
            raise ValueError(f"class_names holds {name!r}, which is not a string")
    _check_array_names(document["arrays"], version)


def described(arrays: Mapping[str, ndarray]) -> dict[str, Any]:
    """Name -> dtype and shape."""
    return {
        name: {"dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in arrays.items()
    }


def content_digest(meaning: dict[str, Any], arrays: Mapping[str, ndarray]) -> str:
    """Sha256 (hex) over the arrays, bit by bit, and over what they mean.

    Args:
      meaning: what has to be known to read the arrays (JSON-able).
      arrays: contiguous, little endian.
    """
    what = {"arrays": described(arrays), **meaning}
    result = hashlib.sha256(dumps(what).encode())
    for name in sorted(arrays):
        result.update(arrays[name].reshape(-1).view(np.uint8).data)
    return result.hexdigest()


def check_digest(declared: str, found: str) -> None:
    """Raises unless the content is what was saved.

    Raises:
      ValueError: it is not.
    """
    if found != declared:
        raise ValueError(
            f"the content has the digest {found} but was saved with {declared}: it was "
            "changed or damaged"
        )


def _check_keys(where: str, found: dict[str, Any], types: dict[str, Any]) -> None:
    unknown, missing = sorted(found.keys() - types), sorted(types - found.keys())
    if unknown:
        raise ValueError(f"{where} has unknown keys: {', '.join(map(repr, unknown))}")
    if missing:
        raise ValueError(f"{where} lacks keys: {', '.join(map(repr, missing))}")
    for key, allowed in types.items():
        # A bool is an int to isinstance, but not in this schema.
        if type(found[key]) not in (allowed if type(allowed) is tuple else (allowed,)):
            raise ValueError(f"{where} has a wrong type of {key}: {found[key]!r}")


def _check_array_names(arrays: dict[str, Any], version: int) -> None:
    known = ["labels"] if version > 2 else ["targets", "labels"]
    for where in (PREPROCESSING, OF_TARGETS):
        known += [f"{where}.{name}" for name in STATISTICS]
    for name, array in arrays.items():
        if name.startswith(STORED):
            path = name.removeprefix(STORED)
            names = path.split(".") if version > 2 else [path]
            check_path(*names)
            _check_no_folder(name, arrays)
        elif name not in known:
            raise ValueError(f"unknown array {name!r}")
        if type(array) is not dict:
            raise ValueError(f"array {name} is described by {array!r}")
        _check_keys(f"array {name}", array, {"dtype": str, "shape": list})
        if any(type(n) is not int or n < 0 for n in array["shape"]):
            raise ValueError(f"array {name} has the shape {array['shape']}")
    if version < 3 and "targets" not in arrays:
        raise ValueError("array 'targets' is missing")


def _check_no_folder(name: str, arrays: dict[str, Any]) -> None:
    """A name stands for an array or for more names, not for both."""
    above = name
    while "." in (above := above.rpartition(".")[0]):
        if above in arrays:
            raise ValueError(f"array {above!r} is also the beginning of {name!r}")


def _check_statistics(where: str, arrays: dict[str, Any]) -> None:
    for name in (f"{where}.mean", f"{where}.std"):
        if name not in arrays:
            raise ValueError(f"array {name!r} is missing")
