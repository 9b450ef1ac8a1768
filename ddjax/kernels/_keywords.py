"""Keywords of factories that are known by name."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["check_keywords"]


def check_keywords(
    what: str, factory: Callable[..., Any], given: Iterable[str]
) -> None:
    """Refuses keywords that a factory does not take, and the lack of one it needs.

    Args:
      what: the factory, for the message: `method 'kip'`.
      factory: whose signature counts.
      given: the names of the keywords.

    Raises:
      ValueError: with those that it takes, or the one that is missing.
    """
    given = set(given)
    parameters = inspect.signature(factory).parameters
    for keyword in sorted(given - set(parameters)):
        near = difflib.get_close_matches(keyword, list(parameters), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"{what} takes no {keyword!r}; {hint}it takes: "
            f"{', '.join(parameters) or 'no settings'}"
        )
    for keyword, parameter in parameters.items():
        if parameter.default is parameter.empty and keyword not in given:
            raise ValueError(f"{what} needs {keyword!r}")
