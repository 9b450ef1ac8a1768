"""`ddjax inspect`: what a distilled set is, and what of it can be verified."""

import json
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ddjax import data, synthetic
from ddjax.command.artefact import configured, data_of, opened, place
from ddjax.command.ending import users_mistakes
from ddjax.command.keywords import read
from ddjax.command.named import make_evaluation
from ddjax.evaluation.wording import number
from ddjax.runtime.loop import run_keys
from ddjax.runtime.outcome import measured_certificate
from ddjax.runtime.scores import certificate_rows, samples_in_words
from ddjax.solvers.certificates import check_certificate
from ddjax.synthetic.distilled import DistilledSet, decoded_shapes
from ddjax.synthetic.learn_with import learn_with

__all__ = ["printable", "run"]

_MOST_NAMES = 12
# Solvers on another machine stop elsewhere within their tolerance.
_AGREEMENT = 1e-3
_COMPARED = (
    "gap",
    "radius",
    "error_lower",
    "error_upper",
    "midpoint_error_lower",
    "midpoint_error_upper",
    "error",
    "reference_error",
)

_NEEDS_DATA = {
    "provenance": "it is no part of the digest (--data NAME compares the data)",
    "certificate": "that it is of these data (--data NAME computes it again)",
}


def run(arguments: Namespace) -> None:
    """Prints the card of a set and what was verified.

    Args:
      arguments: `folder`; `data` (or None), `directory`, `load`, and `set`, keywords of
        the certificate.

    Raises:
      ConfigError: the set cannot be read or is not what it says it is.
    """
    with users_mistakes():
        distilled = opened(arguments.folder)
        rows = [("set", str(place(arguments.folder))), *_card(distilled)]
    _print(rows)
    print()
    with users_mistakes():
        rows = [*_verified(distilled)]
    _print(rows)
    with users_mistakes():
        if arguments.data is None:
            if arguments.set:
                raise ValueError(
                    "--set is for a certificate from the data: give --data"
                )
            rows = [
                ("not verified", f"{what}: {why}")
                for what, why in _NEEDS_DATA.items()
                if getattr(distilled, what)
            ]
        else:
            rows = [*_verified_by_data(distilled, arguments)]
    _print(rows)


def _print(rows: Iterable[tuple[str, str]]) -> None:
    for name, text in rows:
        print(f"{name:<15} {printable(text)}", flush=True)


def printable(text: str) -> str:
    """Without what a terminal would obey; a set may come from anybody."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _card(distilled: DistilledSet) -> Iterable[tuple[str, str]]:
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
    yield from _provenance(distilled.provenance)
    certificate = distilled.certificate
    if not certificate:
        yield "certificate", "none"
        return
    yield "certificate", str(certificate.get("says", "numbers without a sentence"))
    for what, value in certificate_rows(certificate):
        yield "", f"{what}: {value}"


def _storage(distilled: DistilledSet) -> str:
    size = sum(np.asarray(each).nbytes for each in jax.tree.leaves(distilled.stored))
    inputs, whole = (
        synthetic.floats(distilled, targets=each) for each in (False, True)
    )
    images = synthetic.images_equivalent(distilled)
    return (
        f"{inputs} numbers for inputs (those of {number(images)} "
        f"{samples_in_words(distilled)}), {whole} with targets, {size} bytes"
    )


def _provenance(known: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
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


def _verified(distilled: DistilledSet) -> Iterable[tuple[str, str]]:
    """What follows from the set alone; loading it has done the first part."""
    yield (
        "verified",
        f"digest {synthetic.digest(distilled)}: numbers, decoder, recipe, "
        "preprocessing and names are those that were saved",
    )
    yield "verified", "sizes, dtypes and names fit each other, every number is finite"
    certificate = distilled.certificate
    if certificate and "radius" in certificate:
        check_certificate(dict(certificate))
        yield (
            "verified",
            "certificate: radius and bounds follow from its gap, slack and counts",
        )


def _verified_by_data(
    distilled: DistilledSet, arguments: Namespace
) -> Iterable[tuple[str, str]]:
    problem = data.load(**data_of(arguments, distilled))
    source = distilled.provenance.get("data")
    known = source.get("fingerprint") if isinstance(source, Mapping) else None
    if known != problem.fingerprint:
        raise ValueError(
            f"{problem.name} as loaded here has the fingerprint {problem.fingerprint}, "
            f"the set was distilled from data with {known}: other data, or cut "
            "otherwise (--load)"
        )
    yield "verified", f"data: distilled from {problem.name}, split as here"
    stored = distilled.certificate
    if not stored or "radius" not in stored:
        yield "not verified", "certificate: the set has none"
        return
    position, settings = _certificate_settings(distilled)
    settings |= read("--set", arguments.set)
    evaluation = make_evaluation("--set", "certificate", settings)
    seeds, split = distilled.provenance.get("seeds"), str(stored.get("split", "test"))
    seed = seeds.get("run", 0) if isinstance(seeds, Mapping) else 0
    key = jax.random.fold_in(getattr(run_keys(int(seed)), split), position)
    scores = evaluation.evaluate(key, distilled, problem, split)
    found = measured_certificate(distilled._replace(certificate=None), scores, split)
    assert found is not None  # it is what was evaluated
    _compare(stored, found)
    yield "verified", f"certificate, computed again on {problem.name}: {found['says']}"


def _certificate_settings(distilled: DistilledSet) -> tuple[int, dict[str, Any]]:
    """Where the run's list of evaluations has the certificate, and its keywords."""
    for position, (label, given) in enumerate(
        configured(distilled, "evaluate").items()
    ):
        if isinstance(given, Mapping) and given.get("name", label) == "certificate":
            left_out = ("name", "data", "label")
            return position, {
                key: value
                for key, value in given.items()
                if key not in left_out and value is not None
            }
    return 0, {}


def _compare(stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name in _COMPARED:
        if name in stored and name in found:
            there, here = float(stored[name]), float(found[name])
            if not math.isclose(there, here, rel_tol=_AGREEMENT, abs_tol=_AGREEMENT):
                raise ValueError(
                    f"certificate: {name} is {there} in the set, and {here} when it is "
                    "computed from the data"
                )


def _with_settings(name: Any, settings: Any) -> str:
    return f"{name} {_json(settings)}" if settings else str(name)


def _several(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
