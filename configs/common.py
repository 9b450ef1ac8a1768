"""What configurations share."""

import difflib
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

__all__ = ["data_section", "parse_arg", "training"]


def parse_arg(arg: str | None, **defaults: bool | int | float | str) -> ConfigDict:
    """Reads what follows the colon in `--config=file.py:runlocal,ipc=10`.

    Names are separated by commas and take the type of their default; a bare name is
    True. Every configuration knows `runlocal`, which shrinks it to seconds.

    Args:
      arg: the text, empty or None for the defaults.
      **defaults: names that are allowed, with their defaults.

    Raises:
      ValueError: an unknown name or a value of another type, with what is allowed.

    Example:
      >>> parse_arg("runlocal,ipc=10", ipc=1, loss="logistic").to_dict()
      {'runlocal': True, 'ipc': 10, 'loss': 'logistic'}
    """
    values = {"runlocal": False, **defaults}
    for item in filter(None, (arg or "").split(",")):
        name, equals, text = item.partition("=")
        if name not in values:
            near = difflib.get_close_matches(name, values, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(values)
            raise ValueError(f"unknown config argument {name!r}.{hint} Known: {known}")
        values[name] = _typed(name, text if equals else "true", values[name])
    return ConfigDict(values)


def data_section(name: str, **more: Any) -> dict[str, Any]:
    """The section `data`: a tenth is held out, and inputs are standardised.

    Args:
      name: of the data set.
      **more: what is said besides, or in place of that.
    """
    common = {"validation": 0.1, "preprocessing": "standardize"}
    places = {"directory": placeholder(str), "limit": placeholder(int)}
    return {"name": name, **places, **common, **more}


def training(
    steps: int, *, validate: str, evaluations: int = 10, chunk: int = 50
) -> dict[str, Any]:
    """The section `train`: evaluated and saved as often.

    Args:
      steps: of the run.
      validate: name of the evaluation that chooses.
      evaluations: on the validation split along the run, with a checkpoint each.
      chunk: steps between two looks from the host.
    """
    every = max(1, steps // evaluations)
    return {
        "steps": steps,
        "chunk": chunk,
        "log_every": 10,
        "evaluate_every": every,
        "checkpoint_every": every,
        "keep": 2,
        "validate": (validate,),
    }


def _typed(name: str, text: str, default: bool | int | float | str):
    if isinstance(default, bool):
        known = {"true": True, "false": False, "1": True, "0": False}
        if text.lower() not in known:
            raise ValueError(f"config argument {name} is true or false, got {text!r}")
        return known[text.lower()]
    try:
        return type(default)(text)
    except ValueError:
        kind = type(default).__name__
        raise ValueError(
            f"config argument {name} takes a value of type {kind}, got {text!r}"
        ) from None
