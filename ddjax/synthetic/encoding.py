"""A distilled set as named arrays and a JSON document, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from ddjax.data.columns import Columns
from ddjax.data.preprocess import Preprocessing
from ddjax.synthetic import decoders, older_schemas, schema
from ddjax.synthetic.checks import check, named
from ddjax.synthetic.decoders.base import Decoder, Stored
from ddjax.synthetic.distilled import DistilledSet
from ddjax.synthetic.json_text import plain

__all__ = ["decode", "digest", "encode"]


def encode(distilled: DistilledSet) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """The JSON document and the named arrays that hold everything of a set.

    Raises:
      ValueError: the set is not valid (see `checks.check`), or something in it cannot
        be written as JSON.
    """
    check(distilled)
    arrays = _arrays(distilled)
    document = {
        "format": schema.FORMAT,
        "schema_version": schema.SCHEMA_VERSION,
        "digest": digest(distilled),
        "arrays": schema.described(arrays),
        schema.OF_TARGETS: None,
        "columns": None,
        **_meaning(distilled),
        "provenance": plain(distilled.provenance, "provenance"),
        "certificate": plain(distilled.certificate, "certificate"),
    }
    schema.check_document(document)
    _decoder(document["decoder"])
    return document, arrays


def decode(document: dict[str, Any], arrays: Mapping[str, ndarray]) -> DistilledSet:
    """The set of which `encode` made these; neither is trusted.

    Raises:
      ValueError: the document is not one of a known schema version, the two do not fit
        each other, or what they hold is not valid.
    """
    schema.check_document(document)
    if document["arrays"] != schema.described(arrays):
        raise ValueError("the arrays are not the ones that the document declares")
    older = document["schema_version"] < schema.SCHEMA_VERSION
    if older:
        # Its digest covers other things and is verified on the way.
        document, arrays = older_schemas.upgraded(document, arrays)
    names = document["class_names"]
    distilled = DistilledSet(
        stored=_nested(arrays),
        decoder=_decoder(document["decoder"]),
        recipe=document["recipe"],
        labels=arrays.get("labels"),
        preprocessing=_preprocessing(schema.PREPROCESSING, document, arrays),
        class_names=None if names is None else tuple(names),
        provenance=document["provenance"],
        certificate=document["certificate"],
        targets_preprocessing=(
            _preprocessing(schema.OF_TARGETS, document, arrays)
            if document[schema.OF_TARGETS]
            else None
        ),
        columns=_columns(document["columns"]) if document["columns"] else None,
    )
    check(distilled)
    if not older:
        schema.check_digest(document["digest"], digest(distilled))
    return distilled


def digest(distilled: DistilledSet) -> str:
    """Sha256 (hex) over everything that a learner could see, bit by bit.

    Two runs that agree to the last bit have the same digest: it covers the stored
    numbers, labels and preprocessing (names, dtypes, shapes and bytes), the decoder,
    the recipe, the names of classes and columns. It leaves out the provenance and the
    certificate, which say where a set comes from and what it is worth.
    """
    return schema.content_digest(_meaning(distilled), _arrays(distilled))


def _preprocessing(
    where: str, document: dict[str, Any], arrays: Mapping[str, ndarray]
) -> Preprocessing:
    mean, std = arrays[f"{where}.mean"], arrays[f"{where}.std"]
    whiten, unwhiten = arrays.get(f"{where}.whiten"), arrays.get(f"{where}.unwhiten")
    return Preprocessing(document[where]["kind"], mean, std, whiten, unwhiten)


def _columns(document: dict[str, Any]) -> Columns:
    inputs, targets = tuple(document["inputs"]), tuple(document["targets"])
    return Columns(inputs, targets, document["units"])


def _decoder(document: dict[str, Any]) -> Decoder:
    name, settings = document["name"], document["settings"]
    try:
        return decoders.make(name, **settings)
    except TypeError as error:
        raise ValueError(
            f"decoder {name!r} does not take the settings {settings!r}: {error}"
        ) from error


def _meaning(distilled: DistilledSet) -> dict[str, Any]:
    names = distilled.class_names
    meaning = {
        "decoder": {
            "name": distilled.decoder.name,
            "settings": plain(distilled.decoder.settings, "settings"),
        },
        "recipe": plain(distilled.recipe, "recipe"),
        schema.PREPROCESSING: {"kind": distilled.preprocessing.kind},
        "class_names": None if names is None else list(names),
    }
    # Left out where there is nothing to say, so that what a later version adds leaves
    # the digests of sets without it as they are.
    if distilled.targets_preprocessing is not None:
        meaning[schema.OF_TARGETS] = {"kind": distilled.targets_preprocessing.kind}
    if distilled.columns is not None:
        meaning["columns"] = plain(distilled.columns._asdict(), "columns")
    return meaning


def _arrays(distilled: DistilledSet) -> dict[str, ndarray]:
    arrays: dict[str, Any] = dict(named(distilled.stored, schema.STORED[:-1]))
    arrays["labels"] = distilled.labels
    for where in (schema.PREPROCESSING, schema.OF_TARGETS):
        for name in schema.STATISTICS:
            arrays[f"{where}.{name}"] = getattr(getattr(distilled, where), name, None)
    return {name: _host(array) for name, array in arrays.items() if array is not None}


def _nested(arrays: Mapping[str, ndarray]) -> Stored:
    """The stored arrays as dictionaries in dictionaries, along their paths."""
    stored: Stored = {}
    for path, array in arrays.items():
        if path.startswith(schema.STORED):
            *above, name = path.removeprefix(schema.STORED).split(".")
            inner = stored
            for each in above:
                inner = inner.setdefault(each, {})
            inner[name] = array
    return stored


def _host(array: Any) -> ndarray:
    """On the host, contiguous, little endian."""
    array = np.asarray(array, order="C")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
