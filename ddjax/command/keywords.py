"""Keywords of functions as a user gives them: read, and compared with what they are.

`where` is what messages call the settings: a flag, say.
"""

import collections.abc
import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, SupportsIndex, get_args, get_origin, get_type_hints

from ddjax.command.ending import one_line

__all__ = [
    "check_names",
    "check_types",
    "made",
    "merged",
    "parameters",
    "read",
    "split",
]

_OPENING, _CLOSING = "[{(", "]})"


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of a function's parameters, and their defaults."""
    found = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in found}


def read(where: str, given: Iterable[str]) -> dict[str, Any]:
    """Settings of the form `key=value`; a dotted key makes a mapping in a mapping.

    A value is JSON, and where it is none, the text as it stands: `ridge=1e-3`,
    `features.networks=4`, `loss=softmax`, `classes=[0, 1]`, `decoder=null`.

    Raises:
      ValueError: no key, or one that is given twice or stands for two things.
    """
    found: dict[str, Any] = {}
    for each in given:
        key, equals, text = each.partition("=")
        *above, last = key.split(".")
        if not equals or not all((*above, last)):
            raise ValueError(f"{where} takes key=value, got {each!r}")
        inner = found
        for name in above:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{where} {each!r}: {name!r} has a value already")
        if last in inner:
            raise ValueError(f"{where} {each!r}: {last!r} has a value already")
        try:
            inner[last] = json.loads(text)
        except ValueError:
            inner[last] = text
    return found


def merged(before: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords with others in their place; of mappings in both, what they hold."""
    found = dict(before)
    for key, value in over.items():
        inner = found.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merged(inner, value)
        found[key] = value
    return found


def split(text: str) -> list[str]:
    """The parts of a text between its commas, but for those in brackets or quotes."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def made(
    where: str, make: Callable[..., Any], name: str, keywords: Mapping[str, Any]
) -> Any:
    """What a factory makes; a value of a type that it cannot take is the user's.

    Raises:
      ValueError: what the factory refuses, or cannot take.
    """
    try:
        return make(name, **keywords)
    except (TypeError, AttributeError, LookupError, OverflowError) as error:
        raise ValueError(
            f"{where}: {name} cannot be made of these settings, one of which has a "
            f"wrong type: {one_line(error)}"
        ) from error


def check_types(
    where: str, given: Mapping[str, Any], function: Callable[..., Any]
) -> None:
    """Compares values with the annotations of a function's parameters.

    Raises:
      ValueError: a value that does not fit, with what the function takes.
    """
    hints = get_type_hints(function)
    for name, value in given.items():
        wanted = hints.get(name, Any)
        # What is not given is a placeholder's None.
        if value is not None and not _fits(value, wanted):
            raise ValueError(
                f"{where}.{name} is {value!r}, of type {type(value).__name__}; it "
                f"takes {_type_name(wanted)}"
            )


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type; True wherever the type says nothing simple."""
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    for option in options:
        kind = get_origin(option) or option
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return True
        if option is Any or kind is Literal or not isinstance(kind, type):
            return True
        if isinstance(value, bool) and kind is not bool:
            continue
        if isinstance(value, str) and kind is collections.abc.Sequence:
            continue
        if isinstance(value, kind):
            return True
    return False


def _type_name(wanted: Any) -> str:
    if wanted is SupportsIndex:
        return "a whole number"
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    return " or ".join(
        str(getattr(each, "__name__", each)) for each in options if each is not NoneType
    )


def check_names(
    where: str,
    given: Mapping[str, Any] | Sequence[str],
    allowed: Any,
    *,
    required: Sequence[str] = (),
) -> None:
    """Refuses names that there are not, with the nearest that there is.

    Raises:
      ValueError: an unknown name, or one that is missing.
    """
    known = sorted(allowed)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            there = f" There are: {', '.join(known)}" if known else ""
            raise ValueError(f"{where} has no {name!r}.{hint}{there}")
    for name in required:
        if name not in given:
            raise ValueError(f"{where}.{name} is missing")
