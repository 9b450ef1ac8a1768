"""A configuration made whole: every keyword of what it names, defaults included.

So each can be set from the command line, and the saved configuration says all.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from ddjax import data, evaluation, methods, runtime
from ddjax.command.keywords import parameters
from ddjax.command.run import NOT_IN_TRAIN
from ddjax.methods.descent import Descent
from ddjax.synthetic.decoders import DECODERS

__all__ = ["CompletedConfigParser", "as_config", "complete"]


class CompletedConfigParser(ConfigFileFlagParser):
    """Reads a configuration file and completes what it returns."""

    def parse(self, path: str) -> Any:
        """The configuration of a file, complete and locked."""
        config: Any = super().parse(path)
        if isinstance(config, Mapping | ConfigDict):
            config = as_config(config)
            complete(config)
        return config


def as_config(config: Any) -> ConfigDict:
    """What a configuration file returns, a plain dict too, as one that can be changed.

    Raises:
      ValueError: it is something else.
    """
    if isinstance(config, FrozenConfigDict):
        return ConfigDict(config.to_dict())
    if isinstance(config, Mapping):
        return ConfigDict(dict(config))
    if isinstance(config, ConfigDict):
        return config
    # A file that could not be read is an object that says so when it is used.
    getattr(config, "to_dict", None)
    raise ValueError(
        "a configuration is a dict or an ml_collections.ConfigDict, got "
        f"{type(config).__name__}: {str(config)[:60]!r}"
    )


def complete(config: ConfigDict) -> None:
    """Adds every keyword that the sections of a configuration leave out.

    A keyword whose default is None becomes a placeholder, which takes any value. What
    the configuration names wrongly is left as it is, for `experiments.settings.resolve`
    to say.

    Args:
      config: see `experiments.launch.train_and_evaluate`; changed in place.
    """
    with config.unlocked():
        _complete(config)


def _complete(whole: Any) -> None:
    shared = ("encoder", "features_directory") if "encoder" in whole else ()
    sections = {"data": (data.load, ("name",)), "train": (runtime.train, NOT_IN_TRAIN)}
    method = whole.get("method")
    if isinstance(method, ConfigDict) and str(method.get("name")) in methods.METHODS:
        sections["method"] = (methods.METHODS[str(method.get("name"))], shared)
    for name, (function, given_elsewhere) in sections.items():
        if isinstance(whole.get(name), ConfigDict):
            _add_defaults(whole[name], function, given_elsewhere)
    evaluate = whole.get("evaluate")
    for label, settings in evaluate.items() if isinstance(evaluate, ConfigDict) else ():
        if isinstance(settings, ConfigDict):
            known = evaluation.EVALUATIONS.get(str(settings.get("name", label)))
            if known is not None:
                _add_defaults(settings, known, shared)


def _add_defaults(
    section: Any, function: Callable[..., Any], given_elsewhere: tuple[str, ...]
) -> None:
    for name, default in parameters(function).items():
        given = section.get(name)
        if name in given_elsewhere and given is None:
            continue
        if name == "descent" and isinstance(given, ConfigDict | None):
            section[name] = _descent(given, default)
        elif name == "decoder" and isinstance(given, ConfigDict):
            factory = DECODERS.get(str(given.get("name")))
            if factory is not None:
                _add_defaults(given, factory, ())
        elif name not in section and default is not inspect.Parameter.empty:
            section[name] = placeholder(object) if default is None else _plain(default)


def _descent(given: Any, default: Descent) -> ConfigDict:
    fields: dict[str, Any] = default._asdict()
    whole = ConfigDict({name: _plain(value) for name, value in fields.items()})
    if given is not None:
        if given.get("optimizer", default.optimizer) != default.optimizer:
            whole.settings = ConfigDict()
        _update(whole, given)
    return whole


def _update(whole: Any, given: ConfigDict) -> None:
    """As `whole.update(given)`; what is wrong comes along, to be refused by name."""
    for name, value in given.items():
        if isinstance(value, ConfigDict) and isinstance(whole.get(name), ConfigDict):
            _update(whole[name], value)
            continue
        try:
            whole[name] = value
        except TypeError:
            with whole.ignore_type():
                whole[name] = value


def _plain(value: Any) -> Any:
    return ConfigDict(dict(value)) if isinstance(value, Mapping) else value
