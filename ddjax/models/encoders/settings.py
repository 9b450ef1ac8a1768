"""Encoders as a configuration names them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ddjax.models import encoders, trained
from ddjax.models.encoders.base import Encoder, EncoderError

__all__ = ["EncoderSetting", "as_encoder"]

EncoderSetting = Encoder | str | Mapping[str, Any]
"""An encoder, its registered name, or a mapping with `name` and how to load it."""

_LOADED: dict[str, Encoder] = {}
"""Encoders by their settings: a run's method and evaluations share the weights."""


def as_encoder(setting: EncoderSetting) -> Encoder:
    """The encoder that a setting names, loaded once.

    Args:
      setting: an encoder; a name; or a mapping with `name` and keywords of
        `ddjax.models.encoders.load`, where None stands for what is not given, or
        `random`, a seed, for random weights (`ddjax.models.encoders.random`). The name
        `network_file` is a network that was trained here: with `weights`, its file
        (`ddjax.models.trained.load`), and `dtype` (`ddjax.models.trained.as_encoder`).

    Raises:
      EncoderError: a mapping without `name`, or an encoder that cannot be made.
    """
    if isinstance(setting, Encoder):
        return setting
    given: dict[str, Any] = (
        {"name": setting} if isinstance(setting, str) else dict(setting)
    )
    options = {key: value for key, value in given.items() if value is not None}
    if "name" not in options:
        raise EncoderError(f"encoder {given} has no 'name'")
    if options.get("random") is not None:
        # Where files would lie does not matter to weights that are drawn.
        for place in ("directory", "weights"):
            options.pop(place, None)
    known_as = json.dumps([options, _file_state(options)], sort_keys=True, default=str)
    if known_as not in _LOADED:
        name, seed = options.pop("name"), options.pop("random", None)
        if name == trained.ENCODER_NAME:
            network = trained.load(options["weights"])
            found = trained.as_encoder(network, dtype=options.get("dtype"))
        elif seed is None:
            found = encoders.load(name, **options)
        else:
            found = encoders.random(name, jax.random.key(seed), **options)
        # Weights are large: no more than four encoders are kept at a time.
        if len(_LOADED) >= 4:
            _LOADED.pop(next(iter(_LOADED)))
        _LOADED[known_as] = found
    return _LOADED[known_as]


def _file_state(options: Mapping[str, Any]) -> list[int]:
    """Time and size of the file of the weights, which tell when it was replaced."""
    if options["name"] == trained.ENCODER_NAME:
        path = _network_file(options)
    elif options.get("random") is not None:
        return []
    else:
        place = {key: options.get(key) for key in ("weights", "directory")}
        path = encoders.weights_file(options["name"], **place)
    if not path.is_file():
        return []
    status = path.stat()
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _network_file(options: Mapping[str, Any]) -> Path:
    for option in options:
        if option not in ("name", "weights", "dtype"):
            raise EncoderError(
                f"{trained.ENCODER_NAME} has no option {option!r}; it has: weights, "
                "dtype"
            )
    if "weights" not in options:
        raise EncoderError(f"{trained.ENCODER_NAME} needs weights, the network's file")
    return Path(options["weights"])
