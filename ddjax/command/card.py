"""`ddjax inspect`: what a distilled set is, and what of it can be verified."""

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from ddjax import data, synthetic
from ddjax.command.artefact import configured, data_of, fingerprint, opened, place
from ddjax.command.ending import users_mistakes
from ddjax.command.keywords import read
from ddjax.command.named import make_evaluation
from ddjax.runtime.description import (
    about_certificate,
    about_learning,
    about_origin,
    about_samples,
    about_terms,
    printable,
)
from ddjax.runtime.loop import run_keys
from ddjax.runtime.outcome import measured_certificate
from ddjax.solvers.certificates import check_certificate
from ddjax.synthetic.distilled import DistilledSet

__all__ = ["run"]

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

    Raises:
      ConfigError: the set cannot be read or is not what it says it is.
    """
    with users_mistakes():
        distilled = opened(arguments.folder)
        rows = [
            ("set", str(place(arguments.folder))),
            *about_samples(distilled),
            *about_learning(distilled),
            *about_origin(distilled),
            *about_terms(distilled),
            *about_certificate(distilled),
        ]
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
    known = fingerprint(distilled)
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
            asked = {k: v for k, v in given.items() if v is not None}
            return position, {k: v for k, v in asked.items() if k not in left_out}
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
