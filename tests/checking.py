"""Beartype, as jaxtyping's import hook calls it, in a fraction of the time.

A function within a function is a new one each time the outer is called, and writing
its checks takes longer than most of them run: some are made tens of thousands of times.
Such a function is checked the first times that it is made. Functions of modules and
methods of classes are checked always; their checks are written at their first call, for
most processes call few of them.
"""

import collections
import functools
from collections.abc import Callable

from beartype import beartype

__all__ = ["typechecker"]

# jaxtyping asks twice for each function: for its arguments, and for it as a whole.
_CHECKED = 8
_made: collections.Counter[tuple[str, str]] = collections.Counter()


def typechecker(function: Callable) -> Callable:
    """The function with its arguments checked, unless it was made often before."""
    name = getattr(function, "__qualname__", "")
    if "<locals>" in name:
        key = (function.__module__, name)
        _made[key] += 1
        if _made[key] > _CHECKED:
            return function
    return _checked(function)


def _checked(function: Callable) -> Callable:
    check = functools.cache(lambda: beartype(function))

    @functools.wraps(function)
    def checked(*args, **kwargs):
        return check()(*args, **kwargs)

    return checked
