"""What a distilled set is, in words: rows of a name and a text, read off the set."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from ddjax.data.registry import terms_of
from ddjax.evaluation.wording import number
from ddjax.models.encoders import ENTRIES
from ddjax.runtime.scores import certificate_rows, samples_in_words
from ddjax.storage.terms import Terms
from ddjax.synthetic.budget import floats, images_equivalent
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes
from ddjax.synthetic.learn_with import learn_with

__all__ = [
    "about_certificate",
    "about_learning",
    "about_origin",
    "about_samples",
    "about_terms",
    "printable",
    "terms_of_data",
    "terms_of_weights",
]

Rows = Iterator[tuple[str, str]]

_MOST_NAMES = 12


def about_samples(distilled: DistilledSet) -> Rows:
    """How many samples of what, with targets and names, and what they take to store."""
    inputs, targets = decoded_shapes(distilled)
    what = samples_in_words(distilled)
    shape = " x ".join(map(str, inputs.shape[1:]))
    yield "samples", f"{inputs.shape[0]} {what} of {shape}, {inputs.dtype}"
    columns = 1 if targets.ndim == 1 else targets.shape[1]
    yield "targets", f"{distilled.targets_kind}, {columns} a sample, {targets.dtype}"
    if distilled.class_names:
        names = distilled.class_names
        yield "classes", f"{len(names)}: {_several(names)}"
    if distilled.columns:
        yield "columns", _several(distilled.columns.inputs)
        yield "target columns", _several(distilled.columns.targets)
    decoder = distilled.decoder
    yield "decoder", _with_settings(decoder.name, decoder.settings)
    yield "storage", _storage(distilled)


def about_learning(distilled: DistilledSet) -> Rows:
    """What a learner has to do to train on the set."""
    learner = learn_with(distilled)
    yield (
        "learner",
        f"outputs {learner['outputs']}, loss {learner['loss']}: {learner['formula']}; "
        f"{learner['prediction_in_words']}",
    )
    for key, value in distilled.recipe.items():
        if key != "targets_kind":
            yield f"recipe {key}", _json(value)
    yield "preprocessing", distilled.preprocessing.kind
    if distilled.targets_preprocessing is not None:
        yield "of targets", distilled.targets_preprocessing.kind


def about_origin(distilled: DistilledSet) -> Rows:
    """Where the set says that it comes from."""
    known = distilled.provenance
    if not known:
        yield "provenance", "none"
        return
    if "method" in known:
        yield "method", _with_settings(known["method"], known.get("settings"))
    for key in ("steps", "lengthened_from", "seeds"):
        if key in known:
            yield key, _json(known[key])
    source = known.get("data")
    if isinstance(source, Mapping):
        yield "data", f"{source.get('name')}, fingerprint {source.get('fingerprint')}"
    versions = known.get("versions")
    if isinstance(versions, Mapping):
        yield "versions", ", ".join(f"{k} {v}" for k, v in versions.items())


def about_certificate(distilled: DistilledSet) -> Rows:
    """What is proven about the set; `none` where there is no certificate."""
    certificate = distilled.certificate
    if not certificate:
        yield "certificate", "none"
        return
    yield "certificate", str(certificate.get("says", "numbers without a sentence"))
    for what, value in certificate_rows(certificate):
        yield "", f"{what}: {value}"


def about_terms(distilled: DistilledSet) -> Rows:
    """Under which terms what the set was made from may be used."""
    data = terms_of_data(distilled)
    if data is not None:
        yield "terms of data", f"{data[0]}: {data[1].in_words}"
    for name, terms in terms_of_weights(distilled).items():
        yield "terms of weights", f"{name}: {terms.in_words}"


def terms_of_data(distilled: DistilledSet) -> tuple[str, Terms] | None:
    """The name of the real data and their terms; None where the set knows no data."""
    known = distilled.provenance.get("data")
    if not isinstance(known, Mapping):
        return None
    name, source = str(known.get("name")), known.get("source")
    # Arrays have the name that the caller gave them, which may be that of other data.
    reader = source.get("reader") if isinstance(source, Mapping) else None
    return name, terms_of("arrays" if reader == "arrays" else name)


def terms_of_weights(distilled: DistilledSet) -> dict[str, Terms]:
    """The terms of the pretrained encoders that the set was made with, by name."""
    recipe = distilled.recipe
    used = [*(recipe.get("encoders") or ()), recipe.get("teacher")]
    return {
        each["name"]: ENTRIES[each["name"]].terms
        for each in used
        if isinstance(each, Mapping)
        and each.get("name") in ENTRIES
        and not each.get("random")
    }


def printable(text: str) -> str:
    """Without what a terminal would obey; a set may come from anybody."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _storage(distilled: DistilledSet) -> str:
    size = sum(np.asarray(each).nbytes for each in jax.tree.leaves(distilled.stored))
    inputs, whole = (floats(distilled, targets=each) for each in (False, True))
    return (
        f"{inputs} numbers for inputs (those of "
        f"{number(images_equivalent(distilled))} {samples_in_words(distilled)}), "
        f"{whole} with targets, {size} bytes"
    )


def _with_settings(name: Any, settings: Any) -> str:
    return f"{name} {_json(settings)}" if settings else str(name)


def _several(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
