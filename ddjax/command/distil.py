"""`ddjax distil`: a data set, a method and its keywords make a distilled set."""

import functools
import shlex
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from ddjax import data, runtime
from ddjax.command.artefact import data_of
from ddjax.command.ending import users_mistakes
from ddjax.command.execution import execute
from ddjax.command.keywords import check_names, check_types, parameters, read, split
from ddjax.command.named import make_evaluation, make_method
from ddjax.command.run import NOT_IN_TRAIN, Run

__all__ = ["run", "wanted"]


def run(arguments: Namespace) -> None:
    """Distils into `workdir`, or goes on there, and prints the scores.

    Args:
      arguments: `data`, `directory`, `load`, `method`, `set`, `steps`, `seed`,
        `workdir`, `evaluate`, `train`, `profile` and `words`, the whole command.

    Raises:
      ConfigError: a mistake in the command, the data or the folder.
    """
    with users_mistakes():
        asked_for = wanted(arguments)
    command = shlex.join(["ddjax", *arguments.words])
    execute(asked_for, arguments.workdir, command=command, profile=arguments.profile)


def wanted(arguments: Namespace) -> Run:
    """The run that the arguments describe; nothing is loaded or computed yet.

    Args:
      arguments: as for `run`.

    Raises:
      ValueError: an unknown name or keyword, or a value of a wrong type.
    """
    given, keywords = data_of(arguments), read("--set", arguments.set)
    if "name" in keywords:
        raise ValueError("--set name: give the method's name as --method")
    train = read("--train", arguments.train)
    known = set(parameters(runtime.train)) - {*NOT_IN_TRAIN, "steps"}
    check_names("--train", train, known)
    check_types("--train", train, runtime.train)
    train["steps"] = arguments.steps
    evaluate = dict(map(_evaluation, arguments.evaluate))
    if len(evaluate) < len(arguments.evaluate):
        raise ValueError(
            "--evaluate: two of one name; tell them apart by label=..., as in "
            "--evaluate probe:label=other"
        )
    return Run(
        config={
            "seed": arguments.seed,
            "data": given,
            "method": {"name": arguments.method, **keywords},
            "train": train,
            "evaluate": evaluate,
        },
        seed=arguments.seed,
        method=make_method("--set", arguments.method, keywords),
        load=functools.partial(data.load, **given),
        evaluations={
            label: make_evaluation(
                f"--evaluate {label}", settings["name"], _without_name(settings.items())
            )
            for label, settings in evaluate.items()
        },
        load_other={},
        validate=list(evaluate),
        train=train,
    )


def _evaluation(text: str) -> tuple[str, dict[str, Any]]:
    """The label of `NAME:KEY=VALUE,...`, and the settings with the name."""
    name, _, rest = text.partition(":")
    settings = read(f"--evaluate {name}", split(rest) if rest else ())
    if "name" in settings:
        raise ValueError(f"--evaluate {text}: the name stands before the colon")
    label = f"{name}_{settings['label']}" if settings.get("label") else name
    return label, {"name": name, **settings}


def _without_name(settings: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in settings if key != "name"}
