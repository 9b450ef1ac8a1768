"""How stored numbers become pairs: pixels, colours, a pyramid, bases, parts."""

from collections.abc import Callable, Mapping
from typing import Any

from ddjax.checks import check_names
from ddjax.kernels._keywords import check_keywords
from ddjax.synthetic.decoders.base import Decoder, Fitted, Pairs, Stored, pixels
from ddjax.synthetic.decoders.bases import SHIFTS, bases
from ddjax.synthetic.decoders.colour import BOUNDS, COLOURS, decorrelated_colour
from ddjax.synthetic.decoders.partition import partition
from ddjax.synthetic.decoders.pyramid import pyramid

__all__ = [
    "BOUNDS",
    "COLOURS",
    "DECODERS",
    "Decoder",
    "Fitted",
    "Pairs",
    "SHIFTS",
    "Stored",
    "bases",
    "decorrelated_colour",
    "from_setting",
    "make",
    "partition",
    "pixels",
    "pyramid",
]

DECODERS: dict[str, Callable[..., Decoder]] = {
    "bases": bases,
    "decorrelated_colour": decorrelated_colour,
    "partition": partition,
    "pixels": pixels,
    "pyramid": pyramid,
}
"""Every decoder by name, as a factory of keyword-only settings."""


def make(name: str, /, **settings: Any) -> Decoder:
    """Builds a decoder by name.

    Raises:
      ValueError: an unknown name, with the known ones; an unknown setting, with those
        that the decoder takes; a value of a setting that is not allowed.
    """
    check_names(decoder=(name, sorted(DECODERS)))
    check_keywords(f"decoder {name!r}", DECODERS[name], settings)
    return DECODERS[name](**settings)


def from_setting(setting: str | Mapping[str, Any] | Decoder) -> Decoder:
    """A decoder from what a method is given.

    >>> from_setting({"name": "pyramid", "extend_every": 0.1}).name
    'pyramid'

    Args:
      setting: a registered name; `{"name": ..., settings}`; or a decoder, which is
        returned as it is.

    Raises:
      ValueError: a mapping without a name, or what `make` refuses.
    """
    if isinstance(setting, Decoder):
        return setting
    if isinstance(setting, str):
        return make(setting)
    settings = dict(setting)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(
            f"a decoder is described by a name and settings, got {dict(setting)!r}; "
            f"known names: {', '.join(sorted(DECODERS))}"
        )
    return make(name, **settings)
