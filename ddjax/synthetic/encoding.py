"""A distilled set as named arrays and a JSON document, and back."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing
from ddjax.synthetic import parameterization as parameterizations
from ddjax.synthetic.checks import check, check_name
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.parameterization import Parameterization

__all__ = [
    "SCHEMA_VERSION",
    "check_document",
    "decode",
    "digest",
    "dumps",
    "encode",
    "loads",
]

# Version 2 added `targets_preprocessing` and `columns`; version 1 is still read.
SCHEMA_VERSION = 2

_FORMAT = "ddjax distilled set"
_STORED = "stored."
_PREPROCESSING = "preprocessing"
_OF_TARGETS = "targets_preprocessing"
_STATISTICS = ("mean", "std", "whiten", "unwhiten")
_TYPES = {
    "format": str,
    "schema_version": int,
    "digest": str,
    "arrays": dict,
    "parameterization": dict,
    "targets_kind": str,
    "preprocessing": dict,
    "class_names": (list, type(None)),
    "provenance": dict,
    "certificate": (dict, type(None)),
}
_TYPES_SINCE_2 = {_OF_TARGETS: (dict, type(None)), "columns": (dict, type(None))}


def encode(distilled: DistilledSet) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """The JSON document and the named arrays that hold everything of a set.

    Raises:
      ValueError: the set is not sound (see `checks.check`), or something in it cannot
        be written as JSON.
    """
    check(distilled)
    arrays = _arrays(distilled)
    document = {
        "format": _FORMAT,
        "schema_version": SCHEMA_VERSION,
        "digest": digest(distilled),
        "arrays": _describe(arrays),
        **dict.fromkeys(_TYPES_SINCE_2),
        **_meaning(distilled),
        "provenance": _plain(distilled.provenance, "provenance"),
        "certificate": _plain(distilled.certificate, "certificate"),
    }
    check_document(document)
    _parameterization(document["parameterization"])
    return document, arrays


def decode(document: dict[str, Any], arrays: Mapping[str, ndarray]) -> DistilledSet:
    """The set that `encode` took apart; neither part is trusted.

    Raises:
      ValueError: the document is not one of this schema version, the two do not fit
        each other, or what they hold is not sound.
    """
    check_document(document)
    if document["arrays"] != _describe(arrays):
        raise ValueError("the arrays are not the ones that the document declares")
    names = document["class_names"]
    distilled = DistilledSet(
        stored={
            name.removeprefix(_STORED): array
            for name, array in arrays.items()
            if name.startswith(_STORED)
        },
        parameterization=_parameterization(document["parameterization"]),
        targets=arrays["targets"],
        targets_kind=document["targets_kind"],
        labels=arrays.get("labels"),
        preprocessing=_preprocessing(_PREPROCESSING, document, arrays),
        class_names=None if names is None else tuple(names),
        provenance=document["provenance"],
        certificate=document["certificate"],
        targets_preprocessing=(
            _preprocessing(_OF_TARGETS, document, arrays)
            if document.get(_OF_TARGETS)
            else None
        ),
        columns=_columns(document["columns"]) if document.get("columns") else None,
    )
    check(distilled)
    found = digest(distilled)
    if found != document["digest"]:
        raise ValueError(
            f"the content has the digest {found} but was saved with "
            f"{document['digest']}: it was changed or damaged"
        )
    return distilled


def digest(distilled: DistilledSet) -> str:
    """Sha256 (hex) over everything that a learner could see, bit by bit.

    Two runs that agree to the last bit have the same digest: it covers the stored
    numbers, targets, labels and preprocessing (names, dtypes, shapes and bytes), the
    parameterisation, the kinds, the names of classes and columns. It leaves out the
    provenance and the certificate, which say where a set comes from and what it is
    worth.
    """
    arrays = _arrays(distilled)
    what = {"arrays": _describe(arrays), **_meaning(distilled)}
    result = hashlib.sha256(dumps(what).encode())
    for name in sorted(arrays):
        result.update(arrays[name].reshape(-1).view(np.uint8).data)
    return result.hexdigest()


def dumps(document: dict[str, Any]) -> str:
    """JSON text, the same for equal documents; floats read back to the same bits.

    Raises:
      ValueError: a number that JSON does not have (NaN, infinity).
    """
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def loads(text: str | bytes) -> dict[str, Any]:
    """Reads one JSON object; stricter than `json.loads`.

    Raises:
      ValueError: not UTF-8, not JSON, not an object, a key twice, a number that is not
        finite, or too deep a nesting.
    """
    try:
        document = json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_unique,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"JSON holds a {type(document).__name__}, not an object")
    return document


def check_document(document: dict[str, Any]) -> None:
    """Raises unless a JSON document is one of this schema version.

    Raises:
      ValueError: another format, another (such as a newer) schema version, unknown or
        missing keys, or a value of the wrong type.
    """
    if document.get("format") != _FORMAT:
        raise ValueError(
            f"format is {document.get('format')!r}, not {_FORMAT!r}: this is no "
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
    types = _TYPES if version == 1 else {**_TYPES, **_TYPES_SINCE_2}
    _check_keys("the document", document, types)
    _check_keys(
        "parameterization",
        document["parameterization"],
        {"name": str, "settings": dict},
    )
    for where in (_PREPROCESSING, _OF_TARGETS):
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
    _check_array_names(document["arrays"])


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


def _check_array_names(arrays: dict[str, Any]) -> None:
    known = ["targets", "labels"]
    for where in (_PREPROCESSING, _OF_TARGETS):
        known += [f"{where}.{name}" for name in _STATISTICS]
    for name, described in arrays.items():
        if name.startswith(_STORED):
            check_name(name.removeprefix(_STORED))
        elif name not in known:
            raise ValueError(f"unknown array {name!r}")
        if type(described) is not dict:
            raise ValueError(f"array {name} is described by {described!r}")
        _check_keys(f"array {name}", described, {"dtype": str, "shape": list})
        if any(type(n) is not int or n < 0 for n in described["shape"]):
            raise ValueError(f"array {name} has the shape {described['shape']}")
    if "targets" not in arrays:
        raise ValueError("array 'targets' is missing")


def _check_statistics(where: str, arrays: dict[str, Any]) -> None:
    for name in (f"{where}.mean", f"{where}.std"):
        if name not in arrays:
            raise ValueError(f"array {name!r} is missing")


def _preprocessing(
    where: str, document: dict[str, Any], arrays: Mapping[str, ndarray]
) -> Preprocessing:
    mean, std = arrays[f"{where}.mean"], arrays[f"{where}.std"]
    whiten, unwhiten = arrays.get(f"{where}.whiten"), arrays.get(f"{where}.unwhiten")
    return Preprocessing(document[where]["kind"], mean, std, whiten, unwhiten)


def _columns(document: dict[str, Any]) -> Columns:
    inputs, targets = tuple(document["inputs"]), tuple(document["targets"])
    return Columns(inputs, targets, document["units"])


def _parameterization(document: dict[str, Any]) -> Parameterization:
    name, settings = document["name"], document["settings"]
    try:
        return parameterizations.make(name, **settings)
    except TypeError as error:
        raise ValueError(
            f"parameterization {name!r} does not take the settings {settings!r}"
        ) from error


def _meaning(distilled: DistilledSet) -> dict[str, Any]:
    names = distilled.class_names
    meaning = {
        "parameterization": {
            "name": distilled.parameterization.name,
            "settings": _plain(distilled.parameterization.settings, "settings"),
        },
        "targets_kind": distilled.targets_kind,
        "preprocessing": {"kind": distilled.preprocessing.kind},
        "class_names": None if names is None else list(names),
    }
    # Left out where there is nothing to say, so that digests of version 1 still hold.
    if distilled.targets_preprocessing is not None:
        meaning[_OF_TARGETS] = {"kind": distilled.targets_preprocessing.kind}
    if distilled.columns is not None:
        meaning["columns"] = _plain(distilled.columns._asdict(), "columns")
    return meaning


def _arrays(distilled: DistilledSet) -> dict[str, ndarray]:
    named: dict[str, Any] = {
        _STORED + name: array for name, array in distilled.stored.items()
    }
    named |= {"targets": distilled.targets, "labels": distilled.labels}
    for where in (_PREPROCESSING, _OF_TARGETS):
        for name in _STATISTICS:
            named[f"{where}.{name}"] = getattr(getattr(distilled, where), name, None)
    return {name: _host(array) for name, array in named.items() if array is not None}


def _host(array: Any) -> ndarray:
    """On the host, contiguous, little endian."""
    array = np.asarray(array, order="C")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _describe(arrays: Mapping[str, ndarray]) -> dict[str, Any]:
    return {
        name: {"dtype": array.dtype.name, "shape": list(array.shape)}
        for name, array in arrays.items()
    }


def _plain(value: Any, where: str) -> Any:
    """The value with nothing in it but what JSON has; the caller's stays as it is."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON does not have")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not a string")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise ValueError(
        f"{where} is a {type(value).__name__}, which cannot be written as JSON"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"JSON has the key {twice!r} twice in one object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"JSON holds the number {text}, which is not finite")
    return value
