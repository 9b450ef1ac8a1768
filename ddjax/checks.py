"""Checks of names and numbers, for every floor of the library."""

import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any

__all__ = [
    "check_counts",
    "check_known",
    "check_momentum",
    "check_names",
    "check_not_negative",
    "check_positive",
    "check_share_of_run",
    "fields_of",
]


def check_names(**choices: tuple[Any, Collection[Any]]) -> None:
    """Refuses names that are not known.

    Args:
      **choices: the name that was given, and those that are known.

    Raises:
      ValueError: the keyword, the name, the nearest one and those that are known.
    """
    for name, (value, known) in choices.items():
        if value not in known:
            near = _nearest(value, known)
            hint = f"; did you mean {near!r}?" if near else ""
            there_are = ", ".join(map(str, known))
            raise ValueError(f"unknown {name} {value!r}; known: {there_are}{hint}")


def _nearest(value: Any, known: Iterable[Any]) -> str | None:
    """What was perhaps meant."""
    return next(iter(difflib.get_close_matches(str(value), map(str, known), 1)), None)


def check_counts(
    prefix: str = "",
    /,
    *,
    least: int = 1,
    required: bool = False,
    **counts: int | None,
) -> None:
    """Refuses counts below a least value; None is no count, refused if required.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in counts.items():
        if value is None and not required:
            continue
        if value is None or not least <= value < math.inf:
            raise ValueError(f"{prefix}{name} must be at least {least}, got {value}")


def check_positive(
    prefix: str = "", /, *, required: bool = False, **numbers: int | float | None
) -> None:
    """Refuses numbers that are not finite and above 0; None is no number, as above.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in numbers.items():
        if value is None and not required:
            continue
        if value is None or not 0 < value < math.inf:
            raise ValueError(f"{prefix}{name} must be a finite number > 0, got {value}")


def check_not_negative(prefix: str = "", /, **numbers: int | float) -> None:
    """Refuses numbers that are not finite, and those below 0.

    Raises:
      ValueError: the name and the value.
    """
    for name, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{prefix}{name} must be finite and >= 0, got {value}")


def check_momentum(prefix: str, momentum: float) -> None:
    """Refuses a momentum outside [0, 1).

    Raises:
      ValueError: the value.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"{prefix}momentum must be in [0, 1), got {momentum}")


def check_share_of_run(**shares: float) -> None:
    """Refuses what is no share of a run in (0, 1].

    Raises:
      ValueError: the name and the value.
    """
    for name, value in shares.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name} is a share of the run, in (0, 1], got {value}")


def fields_of(what: str, kind: Any, given: Any) -> dict[str, Any]:
    """The fields of a NamedTuple that a configuration gives.

    Args:
      what: its name in the configuration.
      kind: the NamedTuple's class.
      given: one of it, or a mapping with some of its fields; None for none.

    Raises:
      ValueError: an unknown field, with the known ones.
    """
    fields = given._asdict() if isinstance(given, kind) else dict(given or {})
    check_known(what, fields, kind._fields)
    return fields


def check_known(where: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuses names that a part of a configuration does not have.

    Raises:
      ValueError: the name, the nearest one, and all that there are.
    """
    for name in names:
        if name not in known:
            near = _nearest(name, known)
            hint = f"did you mean {near!r}? " if near else ""
            there_are = ", ".join(known) or "none"
            raise ValueError(f"{where} has no {name!r}; {hint}there are: {there_are}")
