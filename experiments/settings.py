"""From a configuration to the objects of a run, and mistakes as one line."""

import contextlib
import difflib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

import ddjax
from ddjax import data, evaluation, methods, runtime
from ddjax.data.problem import Problem
from ddjax.evaluation.base import Evaluation
from ddjax.methods.base import Method

__all__ = ["ConfigError", "Run", "one_line", "resolve", "users_mistakes"]

_SECTIONS = ("seed", "data", "method", "train", "evaluate")


class ConfigError(ValueError):
    """The user's mistake, in one line."""


class Run(NamedTuple):
    """A configuration made into objects; nothing is loaded or computed yet.

    Attributes:
      config: the configuration, plain.
      seed: of the run.
      method: the method.
      load: loads the data.
      evaluations: label -> evaluation, for the test split.
      validate: labels of those that are done on the validation split along the way.
      train: further keywords of `ddjax.runtime.train`.
    """

    config: dict[str, Any]
    seed: int
    method: Method
    load: Callable[[], Problem]
    evaluations: dict[str, Evaluation]
    validate: list[str]
    train: dict[str, Any]


def resolve(config: ml_collections.ConfigDict) -> Run:
    """Makes the objects; what is wrong in a configuration is found here, before work.

    Args:
      config: see `experiments.launch.train_and_evaluate`.

    Raises:
      ValueError: an unknown or missing key, name or keyword, or a value out of range.
    """
    plain = config.to_dict()
    _check_names("config", plain, _SECTIONS, required=_SECTIONS)
    train, named = dict(plain["train"]), dict(plain["method"])
    validate = list(train.pop("validate", ())) or list(plain["evaluate"])
    _check_names("train.validate", validate, plain["evaluate"])
    allowed = set(_keywords(runtime.train)) - {"seed", "workdir", "evaluations"}
    _check_names("train", train, allowed, required=["steps"])
    _check_names("data", plain["data"], _keywords(data.load), required=["name"])
    if "name" not in named:
        raise ValueError(f"method.name is missing; known: {', '.join(methods.METHODS)}")
    given = {key: value for key, value in plain["data"].items() if value is not None}
    return Run(
        config=plain,
        seed=plain["seed"],
        method=methods.make(named.pop("name"), **named),
        load=lambda: data.load(**given),
        evaluations={
            label: _evaluation(label, settings)
            for label, settings in plain["evaluate"].items()
        },
        validate=validate,
        train=train,
    )


def _evaluation(label: str, settings: Mapping[str, Any]) -> Evaluation:
    settings = dict(settings)
    name = settings.pop("name", label)
    known = evaluation.EVALUATIONS
    if name not in known:
        raise ValueError(
            f"unknown evaluation {name!r} in evaluate.{label}; "
            f"known: {', '.join(sorted(known))}"
        )
    _check_names(f"evaluate.{label}", settings, _keywords(known[name]))
    return known[name](**settings)


def _keywords(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _check_names(
    where: str,
    given: Mapping[str, Any] | Sequence[str],
    allowed: Any,
    *,
    required: Sequence[str] = (),
) -> None:
    known = sorted(allowed)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{where} has no {name!r}.{hint} There are: {', '.join(known)}"
            )
    for name in required:
        if name not in given:
            raise ValueError(f"{where}.{name} is missing")


@contextlib.contextmanager
def users_mistakes(*, only_ours: bool = False) -> Iterator[None]:
    """Turns what the library raises about its input into a `ConfigError`.

    With `only_ours`, errors raised within other packages stay what they are: in the
    midst of the work they are more likely faults than mistakes.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = Path(frames[-1].filename).is_relative_to(Path(ddjax.__file__).parent)
        if only_ours and not (ours and isinstance(error, ValueError)):
            raise
        raise ConfigError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """An error's message as one line."""
    # A KeyError prints its message in quotes, an OSError its number first.
    first = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(first).strip().splitlines()
    if any(line.startswith("Traceback") for line in lines):
        # ml_collections puts the traceback of a config file into its message.
        lines = lines[-1:]
    text = " ".join(line.strip() for line in lines)
    return text or type(error).__name__
