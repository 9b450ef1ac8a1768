"""JSON text that is the same for equal documents, and stricter reading of it."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["dumps", "loads", "plain"]


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


def plain(value: Any, where: str) -> Any:
    """The value with nothing in it but what JSON has; the caller's stays as it is.

    Tuples become lists, named tuples their fields, NumPy scalars numbers, and what has
    a `setting` (decoders, encoders) becomes that.

    Args:
      value: of any nesting.
      where: what it is called, for messages.

    Raises:
      ValueError: something that JSON does not have.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON does not have")
        return float(value)
    if hasattr(value, "setting"):
        return plain(value.setting, where)
    if hasattr(value, "_asdict"):
        return plain(value._asdict(), where)
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not a string")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
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
