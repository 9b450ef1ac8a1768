"""Distilled sets that were written by earlier versions of the schema.

In versions 1 and 2 a `parameterization` made inputs only, targets stood beside the
stored arrays, and what a learner has to know was part of the provenance.
"""

from collections.abc import Mapping
from typing import Any

from numpy import ndarray

from ddjax.synthetic import schema

__all__ = ["upgraded"]

# The fraction of a run between two levels of a pyramid, for sets that do not say how
# long their run was: 200 steps of the usual 5000.
_USUAL_EXTEND_EVERY = 0.04
_REPLACED = ("parameterization", "targets_kind")
# Entries of the provenance that the recipe takes over where they have this type.
_COPIED = {
    "features": dict,
    "loss": dict,
    "inner": dict,
    "encoders": list,
    "probe": dict,
    "augmentation": dict,
    "architecture": dict,
}
_OF_RELATIVE_RIDGE = ("kip", "rfad")


def upgraded(
    document: dict[str, Any], arrays: Mapping[str, ndarray]
) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """A document of version 1 or 2 and its arrays, as those of the newest version.

    Args:
      document: checked, see `schema.check_document`.
      arrays: the ones that it declares.

    Returns:
      Both; the digest in the document is still the old one.

    Raises:
      ValueError: the content does not have the digest that it was saved with.
    """
    schema.check_digest(
        document["digest"], schema.content_digest(_meaning(document), arrays)
    )
    newer = {
        **dict.fromkeys((schema.OF_TARGETS, "columns")),
        **{key: value for key, value in document.items() if key not in _REPLACED},
        "schema_version": schema.SCHEMA_VERSION,
        "decoder": _decoder(document),
        "recipe": _recipe(document["targets_kind"], document["provenance"]),
    }
    renamed = {"targets": f"{schema.STORED}targets"}
    return newer, {renamed.get(name, name): array for name, array in arrays.items()}


def _meaning(document: dict[str, Any]) -> dict[str, Any]:
    """What digests covered beside the arrays."""
    always = ("parameterization", "targets_kind", schema.PREPROCESSING, "class_names")
    # Left out where there is nothing to say, so that version 2 kept digests of 1.
    sometimes = (schema.OF_TARGETS, "columns")
    return {
        **{key: document[key] for key in always},
        **{key: document[key] for key in sometimes if document.get(key) is not None},
    }


def _decoder(document: dict[str, Any]) -> dict[str, Any]:
    """A pyramid's steps between two levels become a fraction of the run."""
    made = document["parameterization"]
    between = made["settings"].get("extend_every")
    if made["name"] != "pyramid" or not _is_number(between):
        return made
    steps = _steps(document["provenance"])
    fraction = _USUAL_EXTEND_EVERY if steps is None else min(1.0, between / steps)
    fraction = fraction if between > 0 else between
    return {**made, "settings": {**made["settings"], "extend_every": fraction}}


def _steps(provenance: dict[str, Any]) -> float | int | None:
    """How long the run was, where that is known."""
    found: Any = provenance
    for key in ("config", "train", "steps"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if _is_number(found) and found > 0 else None


def _recipe(targets_kind: str, provenance: dict[str, Any]) -> dict[str, Any]:
    """What a learner has to know, from where it stood."""
    recipe: dict[str, Any] = {"targets_kind": targets_kind}
    for key, kind in _COPIED.items():
        if isinstance(provenance.get(key), kind):
            recipe[key] = provenance[key]
    if _is_number(provenance.get("real_ridge")):
        recipe["real_ridge"] = provenance["real_ridge"]
    ridge, convention = provenance.get("distilled_ridge"), "per_sample"
    if not _is_number(ridge):
        ridge = provenance.get("ridge")
        relative = provenance.get("method") in _OF_RELATIVE_RIDGE
        if relative or targets_kind == "scores":
            convention = "relative"
    if _is_number(ridge):
        recipe["ridge"] = {"strength": ridge, "convention": convention}
    return recipe


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
